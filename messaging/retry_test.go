package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

var errBroken = errors.New("broken")

// both runs f on a broker that delays and on one that does not, where the
// consumer has to wait itself: the contract is the same.
func both(t *testing.T, f func(t *testing.T, d *faulty)) {
	t.Helper()
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held=%v", held), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFaulty()
				d.noDelay = held
				f(t, d)
			})
		})
	}
}

func TestRetrySchedule(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		b := d.front()
		dead, stopClerk := deadLetters(t, b, "t.dead")
		type seen struct {
			at      time.Duration
			attempt int
			last    string
		}
		var got []seen
		begin := time.Now()
		stop := start(t, consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			got = append(got, seen{time.Since(begin), d.Attempt, d.LastError})
			require.True(t, d.FirstSeen.Equal(begin), "%v", d.FirstSeen)
			require.Equal(t, "t", d.Origin)
			return fmt.Errorf("try %d: %w", d.Attempt, errBroken)
		})))
		m := msg("m", "k")
		m.ContentType, m.Schema = "text/x", "v7"
		m.Headers.Add("other", "1")
		m.Headers.Add("other", "2")
		publish(t, b, m)
		x := <-dead
		require.Equal(t, []seen{
			{0, 1, ""}, {10 * time.Second, 2, "try 1: broken"}, {70 * time.Second, 3, "try 2: broken"},
			{670 * time.Second, 4, "try 3: broken"}, {1270 * time.Second, 5, "try 4: broken"},
		}, got)
		require.Equal(t, "t.dead", x.Topic)
		require.Equal(t, "t", x.Origin)
		require.Equal(t, "try 5: broken", x.LastError)
		require.Equal(t, 1, x.Attempt, "whoever handles dead letters begins anew")
		require.Equal(t, []string{"m", "k", "text/x", "v7", "m"}, []string{x.ID, x.Key, x.ContentType, x.Schema, string(x.Body)})
		require.Equal(t, m.Headers, x.Headers)
		require.True(t, x.Time.Equal(begin))
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
		n, _, err := d.Broker.(driver.Lagger).Lag(t.Context(), "t", "group")
		require.NoError(t, err)
		require.Zero(t, n, "the original is settled")
	})
}

// While a message waits, its key waits, and the other keys go on.
func TestRetryHoldsItsKey(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		b := d.front()
		begin := time.Now()
		done := make(chan string, 10)
		failed := false
		stop := start(t, consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			if d.ID == "a1" && !failed {
				failed = true
				return errBroken
			}
			done <- fmt.Sprintf("%s@%v", d.ID, time.Since(begin))
			return nil
		})))
		publish(t, b, msg("a1", "a"), msg("a2", "a"), msg("b1", "b"))
		require.Equal(t, "b1@0s", <-done)
		time.Sleep(5 * time.Second)
		publish(t, b, msg("a3", "a"), msg("b2", "b"))
		for _, want := range []string{"b2@5s", "a1@10s", "a2@10s", "a3@10s"} {
			require.Equal(t, want, <-done)
		}
		require.NoError(t, stop())
	})
}

// More failing keys than Prefetch must not stop the others.
func TestManyWaitingKeysLeaveRoom(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		b := d.front()
		done := make(chan string, 1)
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Concurrency: 2, Prefetch: 4},
			messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
				if d.Key != "good" {
					return errBroken
				}
				done <- d.ID
				return nil
			})))
		for n := range 50 {
			publish(t, b, msg(fmt.Sprint("bad", n), fmt.Sprint("bad", n)))
		}
		publish(t, b, msg("g", "good"))
		begin := time.Now()
		require.Equal(t, "g", <-done)
		require.Less(t, time.Since(begin), 10*time.Second)
		require.NoError(t, stop())
	})
}

// A consumer that stops has what waits wake up, to be given back: that is no
// time to try it again.
func TestStoppingIsNoRetry(t *testing.T) {
	for range 50 { // whoever wakes up races the one that stops
		synctest.Test(t, func(t *testing.T) {
			d := newFaulty()
			d.noDelay = true
			b := d.front()
			var runs atomic.Int64
			stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Concurrency: 8}, messaging.On("t", func(context.Context, *messaging.Delivery) error {
				runs.Add(1)
				return errBroken
			})))
			const keys = 100
			for n := range keys {
				publish(t, b, msg(fmt.Sprint(n), fmt.Sprint(n)))
			}
			synctest.Wait()
			require.EqualValues(t, keys, runs.Load())
			time.Sleep(time.Second) // of the 10 s of the first delay
			require.NoError(t, stop())
			require.EqualValues(t, keys, runs.Load(), "runs")
		})
	}
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name    string
		do      func(attempt int) error
		runs    int
		took    time.Duration
		dead    string // "": not a dead letter
		lastErr string
	}{
		{"nil", func(int) error { return nil }, 1, 0, "", ""},
		{"discard", func(int) error { return messaging.Discard("not ours") }, 1, 0, "", ""},
		{"wrapped discard", func(int) error { return fmt.Errorf("x: %w", messaging.Discard("not ours")) }, 1, 0, "", ""},
		{"permanent", func(int) error { return messaging.Permanent(errBroken) }, 1, 0, "*errors.errorString", "broken"},
		{"panic", func(int) error { panic("ouch") }, 3, 2 * time.Minute, "panic", "concurrency: panic: ouch"},
		{"retry after", func(n int) error {
			if n == 1 {
				return messaging.RetryAfter(errBroken, 30*time.Second)
			}
			return nil
		}, 2, 30 * time.Second, "", ""},
		{"retry much later", func(n int) error {
			if n == 1 {
				return messaging.RetryAfter(errBroken, time.Hour)
			}
			return nil
		}, 2, time.Hour, "", ""},
		{"timeout", func(int) error { return context.DeadlineExceeded }, 3, 2 * time.Minute, "timeout", "context deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, d *faulty) {
				took := c.took
				if c.name == "retry after" && !d.noDelay {
					took = time.Minute // the broker's shortest delay that is long enough
				}
				raw := make(chan driver.Message, 1)
				d.publish = func(msgs []driver.Message) []error {
					if msgs[0].Topic == "t.dead" {
						raw <- msgs[0]
					}
					return nil
				}
				b := d.front()
				runs, ended := 0, make(chan time.Time, 10)
				stop := start(t, consumer(t, b, &messaging.ConsumerOptions{
					Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{time.Minute}},
				}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
					runs++
					ended <- time.Now()
					return c.do(d.Attempt)
				})))
				begin := time.Now()
				publish(t, b, msg("m", "k"))
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				require.Equal(t, c.runs, runs)
				var last time.Time
				for range runs {
					last = <-ended
				}
				require.Equal(t, took, last.Sub(begin))
				if c.dead == "" {
					require.Empty(t, raw)
				} else {
					m := <-raw
					require.Equal(t, c.dead, m.Headers.Get("mainstay-error-class"))
					require.Contains(t, m.Headers.Get("mainstay-error"), c.lastErr)
					require.LessOrEqual(t, len(m.Headers.Get("mainstay-error")), 512)
					require.Equal(t, fmt.Sprint(c.runs), m.Headers.Get("mainstay-attempts"))
					require.Equal(t, "group", m.Headers.Get("mainstay-group"))
					require.NotEmpty(t, m.Headers.Get("mainstay-dead"))
				}
				require.NoError(t, stop())
				n, _, err := d.Broker.(driver.Lagger).Lag(t.Context(), "t", "group")
				require.NoError(t, err)
				require.Zero(t, n)
			})
		})
	}
}

func TestUndecodableIsADeadLetterWithItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFaulty().front()
		dead, stopClerk := deadLetters(t, b, "orders.dead")
		stop := start(t, consumer(t, b, nil, Orders.On(func(context.Context, Order, *messaging.Delivery) error {
			t.Error("a message that cannot be decoded was handled")
			return nil
		})))
		publish(t, b, &messaging.Message{ID: "1", Topic: "orders", Body: []byte("{nonsense")},
			&messaging.Message{ID: "2", Topic: "orders", Body: []byte("{}"), ContentType: "text/plain"})
		bodies := map[string]string{}
		for range 2 {
			x := <-dead
			bodies[x.ID] = string(x.Body)
			require.Contains(t, x.LastError, "decode: ")
		}
		require.Equal(t, map[string]string{"1": "{nonsense", "2": "{}"}, bodies)
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
	})
}

func TestInlineRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFaulty().front()
		var runs, attempts []int
		done := make(chan struct{})
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{
			Retry: messaging.RetryPolicy{Inline: 2, Backoff: concurrency.Backoff{Min: time.Millisecond, Max: time.Millisecond}},
		}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			runs, attempts = append(runs, len(runs)+1), append(attempts, d.Attempt)
			if len(runs) == 5 {
				close(done)
				return nil
			}
			return errBroken
		})))
		publish(t, b, msg("m", "k"))
		<-done
		require.Equal(t, []int{1, 1, 1, 2, 2}, attempts)
		require.NoError(t, stop())
	})
}

// The dead letter is held before the original is given up, however long the
// broker refuses it, and Health says what is stuck.
func TestDeadLetterIsConfirmedBeforeTheAck(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		var broken atomic.Bool
		broken.Store(true)
		dead := make(chan string, 1)
		d.publish = func(msgs []driver.Message) []error {
			if msgs[0].Topic != "t.dead" {
				return nil
			}
			if broken.Load() {
				return []error{messaging.ErrUnknown}
			}
			dead <- msgs[0].ID
			return nil
		}
		acked := make(chan string, 10)
		d.settle = func(s []driver.Settlement) error {
			for _, x := range s {
				if x.Action == driver.Ack {
					acked <- x.Delivery.ID
				}
			}
			return nil
		}
		b := d.front()
		c := consumer(t, b, nil, messaging.On("t", func(context.Context, *messaging.Delivery) error {
			return messaging.Permanent(errBroken)
		}))
		stop := start(t, c)
		synctest.Wait()
		require.NoError(t, c.Health(t.Context()))
		publish(t, b, msg("m", "k"))
		never(t, acked, time.Hour, "acked before its dead letter is held")
		require.ErrorContains(t, c.Health(t.Context()), `"t.dead"`)
		broken.Store(false)
		require.Equal(t, "m", <-dead)
		require.Equal(t, "m", <-acked)
		synctest.Wait()
		require.NoError(t, c.Health(t.Context()))
		require.NoError(t, stop())
		require.ErrorContains(t, c.Health(t.Context()), "not running")
	})
}

// A message that kills its consumers becomes a dead letter without being run
// again.
func TestPoisonIsCaughtByTheBrokersCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		b := d.front()
		c := consumer(t, b, &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{MaxAttempts: 3}},
			messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
				t.Errorf("delivered with attempt %d of 3", d.Attempt)
				return nil
			}))
		require.NoError(t, c.Declare(t.Context()))
		publish(t, b, msg("m", "k"))
		for range 3 { // consumers that die
			r, err := d.Broker.Subscribe(t.Context(), driver.Subscription{Topics: []string{"t"}, Group: "group"})
			require.NoError(t, err)
			_, err = r.Receive(t.Context(), 1)
			require.NoError(t, err)
			require.NoError(t, r.Close(t.Context()))
		}
		dead, stopClerk := deadLetters(t, b, "t.dead")
		stop := start(t, c)
		require.Contains(t, (<-dead).LastError, "never settled")
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
	})
}
