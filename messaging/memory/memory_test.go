package memory_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func TestConformance(t *testing.T) {
	messagingtest.TestBroker(t, func(*testing.T) messagingtest.Harness {
		return messagingtest.Harness{Driver: memory.New(&memory.Options{MaxBytes: 1 << 20}).Driver()}
	})
}

func BenchmarkBroker(b *testing.B) {
	messagingtest.BenchmarkBroker(b, func(*testing.B) messagingtest.Harness {
		return messagingtest.Harness{Driver: memory.New(nil).Driver()}
	})
}

func drain(ctx context.Context, t *testing.T, r driver.Receiver, n int) {
	t.Helper()
	for n > 0 {
		ds, err := r.Receive(ctx, n)
		require.NoError(t, err)
		n -= len(ds)
		s := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			s[i] = driver.Settlement{Delivery: d, Action: driver.Ack}
		}
		require.NoError(t, r.Settle(ctx, s))
	}
}

// What is settled by every group makes room; what is not is never dropped, and
// the error says who is behind.
func TestFull(t *testing.T) {
	ctx := t.Context()
	b := memory.New(&memory.Options{MaxBytes: 10_000, Partitions: 2})
	d := b.Driver()
	send := func(topic string) error {
		return b.Publisher().Publish(ctx, &messaging.Message{Topic: topic, Body: make([]byte, 800)})
	}
	fill := func(topic string) (n int) {
		for {
			if err := send(topic); err != nil {
				return n
			}
			n++
			require.Less(t, n, 100)
		}
	}
	n := fill("t")
	require.Equal(t, 10, n)
	require.ErrorContains(t, send("t"), `full: the broker holds 9650 of 10000 bytes, most by topic "t": 10 messages, and no group consumes it; raise MaxBytes or slow the producer down`)

	var members []driver.Receiver
	for _, g := range []string{"fast", "slow"} {
		r, err := d.Subscribe(ctx, driver.Subscription{Topics: []string{"t"}, Group: g})
		require.NoError(t, err)
		members = append(members, r)
	}
	drain(ctx, t, members[0], n)
	require.ErrorContains(t, send("t"), `group "slow" is 10 messages behind on topic "t"`)
	drain(ctx, t, members[1], 4)
	require.Equal(t, 4, fill("t"), "what both have settled")
	lag, oldest, err := d.(driver.Lagger).Lag(ctx, "t", "slow")
	require.NoError(t, err)
	require.EqualValues(t, 10, lag)
	require.Positive(t, oldest)
	drain(ctx, t, members[1], 10)
	drain(ctx, t, members[0], 4)
	lag, oldest, err = d.(driver.Lagger).Lag(ctx, "t", "slow")
	require.NoError(t, err)
	require.Zero(t, lag)
	require.Zero(t, oldest)
	require.Equal(t, 10, fill("t"))
}

// Members come and go: shares differ by one at most, and no more moves than
// must.
func TestRebalanceMovesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := memory.New(&memory.Options{Partitions: 12})
		d := b.Driver()
		sub := driver.Subscription{Topics: []string{"t"}, Group: "g"}
		require.NoError(t, d.(driver.Declarer).Declare(ctx, sub))
		owned := map[string]int{} // lane -> member, as last seen
		members := map[int]driver.Receiver{}
		look := func() (shares map[int]int, moved int) {
			shares = map[int]int{}
			for n := range 12 { // one message for each partition
				require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: "t", ID: fmt.Sprint(n)}))
			}
			for n, r := range members {
				for {
					short, cancel := context.WithTimeout(ctx, time.Second)
					ds, err := r.Receive(short, 100)
					cancel()
					if err != nil {
						break
					}
					for _, x := range ds {
						shares[n]++
						if was, ok := owned[x.Lane]; ok && was != n {
							moved++
						}
						owned[x.Lane] = n
						require.NoError(t, r.Settle(ctx, []driver.Settlement{{Delivery: x, Action: driver.Ack}}))
					}
				}
			}
			return shares, moved
		}
		join := func(n int) {
			r, err := d.Subscribe(ctx, sub)
			require.NoError(t, err)
			members[n] = r
		}
		for _, c := range []struct {
			join, leave int
			shares      map[int]int
			moved       int
		}{
			{1, 0, map[int]int{1: 12}, 0},
			{2, 0, map[int]int{1: 6, 2: 6}, 6},
			{3, 0, map[int]int{1: 4, 2: 4, 3: 4}, 4},
			{4, 0, map[int]int{1: 3, 2: 3, 3: 3, 4: 3}, 3},
			{0, 2, map[int]int{1: 4, 3: 4, 4: 4}, 3},
			{5, 0, map[int]int{1: 3, 3: 3, 4: 3, 5: 3}, 3},
		} {
			if c.join > 0 {
				join(c.join)
			} else {
				require.NoError(t, members[c.leave].Close(ctx))
				delete(members, c.leave)
			}
			shares, moved := look()
			require.Equal(t, c.shares, shares)
			require.Equal(t, c.moved, moved)
		}
	})
}

// A former owner that gives nothing back holds a partition up for its Drain, no
// longer.
func TestHandoverWaitsForDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := memory.New(&memory.Options{Partitions: 2})
		d := b.Driver()
		sub := driver.Subscription{Topics: []string{"t"}, Group: "g", Drain: 7 * time.Second}
		require.NoError(t, d.(driver.Declarer).Declare(ctx, sub))
		for range 2 {
			require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: "t"}))
		}
		first, err := d.Subscribe(ctx, sub)
		require.NoError(t, err)
		held, err := first.Receive(ctx, 10)
		require.NoError(t, err)
		require.Len(t, held, 2)
		second, err := d.Subscribe(ctx, sub)
		require.NoError(t, err)
		begin := time.Now()
		got, err := second.Receive(ctx, 10)
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, time.Since(begin))
		require.Len(t, got, 1)
		require.Equal(t, 2, got[0].Attempt, "the first owner had its chance")
		s := []driver.Settlement{{Delivery: got[0], Action: driver.Ack}}
		require.Error(t, first.Settle(ctx, s), "not its own")
		require.NoError(t, second.Settle(ctx, s))
		require.Error(t, second.Settle(ctx, []driver.Settlement{{Delivery: got[0]}}), "no action")
	})
}

// Whoever subscribes while the broker closes is refused, or has a receiver that
// is closed: none waits for ever.
func TestNobodyJoinsAClosedBroker(t *testing.T) {
	const members = 600 // enough that they queue for the broker, and Close between what one of them does
	for range 20 {
		d := memory.New(nil).Driver()
		sub := driver.Subscription{Topics: []string{"t"}, Group: "g"}
		require.NoError(t, d.(driver.Declarer).Declare(t.Context(), sub))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		results, closed := make(chan error, members), make(chan error, 1)
		for i := range members {
			if i == members/3 {
				go func() { closed <- d.Close(ctx) }()
			}
			go func() {
				r, err := d.Subscribe(ctx, sub)
				if err == nil {
					_, err = r.Receive(ctx, 1)
				}
				results <- err
			}()
		}
		for range members {
			require.ErrorIs(t, <-results, driver.ErrClosed)
		}
		require.NoError(t, <-closed)
		cancel()
	}
}

func TestFewArgumentsAreRefused(t *testing.T) {
	d := memory.New(nil).Driver()
	_, err := d.Subscribe(t.Context(), driver.Subscription{})
	require.Error(t, err)
	_, _, err = d.(driver.Lagger).Lag(t.Context(), "t", "g")
	require.ErrorIs(t, err, driver.ErrUnroutable)
	require.NoError(t, d.(driver.Declarer).Declare(t.Context(), driver.Subscription{Topics: []string{"t"}}))
	_, _, err = d.(driver.Lagger).Lag(t.Context(), "t", "g")
	require.ErrorContains(t, err, `no group "g"`)
}
