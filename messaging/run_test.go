package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

// Handlers run in parallel across keys and one at a time within a key.
func TestKeysRunInParallelAndInOrder(t *testing.T) {
	for _, c := range []struct {
		order                    messaging.Order
		keys                     int
		parallel                 int // the most handlers at a time
		overlapping, keyInverted bool
	}{
		{messaging.ByKey, 100, 16, false, false},
		{messaging.ByPartition, 100, 8, false, false},
		{messaging.Unordered, 3, 16, true, true},
	} {
		t.Run(c.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total = 2000
				d := newFaulty()
				b, ledger := d.front(), messagingtest.NewLedger()
				random := rand.New(rand.NewPCG(1, 2))
				var mu sync.Mutex
				running, most, left := 0, 0, total
				all := make(chan struct{})
				stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Order: c.order},
					messaging.On("t", func(context.Context, *messaging.Delivery) error {
						mu.Lock()
						running++
						most = max(most, running)
						work := time.Duration(random.IntN(20)) * time.Millisecond
						mu.Unlock()
						time.Sleep(work)
						mu.Lock()
						defer mu.Unlock()
						running--
						if left--; left == 0 {
							close(all)
						}
						return nil
					}).With(ledger.Middleware)))
				for n := range total {
					require.NoError(t, ledger.Publish(t.Context(), b.Publisher(), msg(fmt.Sprint(n), fmt.Sprint("key", n%c.keys))))
				}
				<-all
				require.NoError(t, stop())
				got := ledger.Counts()
				require.Equal(t, c.parallel, most, "handlers at a time")
				require.Equal(t, c.overlapping, got.Overlapping > 0, "%v", ledger)
				require.Equal(t, c.keyInverted, got.Inverted > 0, "%v", ledger)
				require.Zero(t, got.Lost, "%v", ledger)
				require.Zero(t, got.Duplicate, "%v", ledger)
				require.LessOrEqual(t, d.max, 32, "unsettled at a time")
			})
		})
	}
}

// Whatever fails, and whoever comes and goes, nothing is lost, no key is out of
// order and no key is worked on twice at a time.
func TestNothingIsLostInDisorder(t *testing.T) {
	seeds := uint64(20)
	if os.Getenv("MAINSTAY_SOAK") != "" {
		seeds = 2000
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { disorder(t, seed) })
		})
	}
}

func disorder(t *testing.T, seed uint64) {
	const total, keys = 400, 12
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	d := newFaulty()
	d.noDelay = seed%2 == 1
	d.receive = func() error {
		if roll(60) == 0 {
			return errors.New("connection reset")
		}
		return nil
	}
	d.settle = func([]driver.Settlement) error {
		if roll(20) == 0 {
			return errors.New("connection reset")
		}
		return nil
	}
	b, ledger := d.front(), messagingtest.NewLedger()
	handle := messaging.On("t", func(ctx context.Context, _ *messaging.Delivery) error {
		select {
		case <-time.After(time.Duration(roll(50)) * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch roll(12) {
		case 0:
			return errBroken
		case 1:
			return messaging.RetryAfter(errBroken, time.Duration(1+roll(5000))*time.Millisecond)
		case 2:
			panic("ouch")
		}
		return nil
	}).With(ledger.Middleware)
	member := func() *messaging.Consumer {
		return consumer(t, b, &messaging.ConsumerOptions{
			Concurrency: 1 + roll(8), Drain: time.Second,
			Retry: messaging.RetryPolicy{MaxAttempts: -1, Inline: roll(2), Delays: []time.Duration{time.Second, 3 * time.Second}},
		}, handle)
	}
	require.NoError(t, member().Declare(t.Context()))
	published := make(chan error, 1)
	go func() {
		for n := range total {
			if err := ledger.Publish(t.Context(), b.Publisher(), msg(fmt.Sprintf("%04d", n), fmt.Sprint("key", n%keys))); err != nil {
				published <- err
				return
			}
			time.Sleep(time.Duration(roll(20)) * time.Millisecond)
		}
		published <- nil
	}()
	var members []func() error
	for range 15 { // consumers come and go
		if len(members) < 2 || roll(2) == 0 {
			members = append(members, start(t, member()))
		} else {
			i := roll(len(members))
			require.NoError(t, members[i]())
			members = append(members[:i], members[i+1:]...)
		}
		time.Sleep(time.Duration(roll(3000)) * time.Millisecond)
	}
	require.NoError(t, <-published)
	for begin := time.Now(); ledger.Counts().Lost > 0 && time.Since(begin) < time.Hour; {
		time.Sleep(time.Second)
	}
	for _, stop := range members {
		require.NoError(t, stop())
	}
	got := ledger.Counts()
	require.Equal(t, total, got.Published)
	require.Zero(t, got.Lost, "%v", ledger)
	require.Zero(t, got.Inverted, "%v", ledger)
	require.Zero(t, got.Overlapping, "%v", ledger)
}

func TestDrainFinishesWhatRunsAndGivesBackTheRest(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		b := d.front()
		begun := make(chan string, 10)
		c := consumer(t, b, &messaging.ConsumerOptions{Concurrency: 1, Prefetch: 10},
			messaging.On("t", func(ctx context.Context, d *messaging.Delivery) error {
				begun <- d.ID
				time.Sleep(5 * time.Second)
				return ctx.Err()
			}))
		stop := start(t, c)
		publish(t, b, msg("1", "a"), msg("2", "a"), msg("3", "b"))
		first := <-begun
		begin := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 5*time.Second, time.Since(begin))
		require.Empty(t, begun, "nothing begins while draining")

		var rest []string
		got := make(chan *messaging.Delivery)
		stop = start(t, consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			got <- d
			return nil
		})))
		for range 2 {
			x := <-got
			require.Equal(t, 1, x.Attempt, "what never began was no attempt")
			rest = append(rest, x.ID)
		}
		require.ElementsMatch(t, []string{"1", "2", "3"}, append(rest, first))
		require.NoError(t, stop())
	})
}

func TestDrainEndsHandlersThatTakeTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFaulty().front()
		begun, cause := make(chan struct{}), make(chan error, 1)
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Drain: 3 * time.Second, Timeout: -1},
			messaging.On("t", func(ctx context.Context, _ *messaging.Delivery) error {
				close(begun)
				<-ctx.Done()
				cause <- context.Cause(ctx)
				return ctx.Err()
			})))
		publish(t, b, msg("1", "a"))
		<-begun
		begin := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 3*time.Second, time.Since(begin))
		require.ErrorContains(t, <-cause, "Drain")

		again := make(chan int)
		stop = start(t, consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			again <- d.Attempt
			return nil
		})))
		require.Equal(t, 1, <-again, "being cut off is not the message's failure")
		require.NoError(t, stop())
	})
}

func TestRunSaysWhoIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		settled := make(chan driver.Settlement, 10)
		d.settle = func(s []driver.Settlement) error {
			settled <- s[0]
			return nil
		}
		b := d.front()
		begun, release := make(chan struct{}), make(chan struct{})
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Drain: 3 * time.Second},
			messaging.On("t", func(context.Context, *messaging.Delivery) error {
				close(begun)
				<-release
				return nil
			})))
		publish(t, b, msg("1", "a"))
		<-begun
		begin := time.Now()
		require.ErrorContains(t, stop(), "1 of them")
		require.Equal(t, 4*time.Second, time.Since(begin))
		close(release)
		never(t, settled, time.Minute, "a late result was settled")
	})
}

func TestRevocationCancelsAndLateResultsNeverSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.settle = func(s []driver.Settlement) error {
			for _, x := range s {
				select {
				case <-x.Delivery.Lost:
					assert.Equal(t, driver.Requeue, x.Action, "a late result")
				default:
				}
			}
			return nil
		}
		d.publish = func(msgs []driver.Message) []error {
			assert.Equal(t, "t", msgs[0].Topic, "a late failure became a dead letter")
			return nil
		}
		b := d.front()
		var once atomic.Bool
		begun, cause, second := make(chan struct{}, 100), make(chan error, 100), make(chan string, 100)
		route := messaging.On("t", func(ctx context.Context, d *messaging.Delivery) error {
			if once.Load() {
				second <- d.ID
				return nil
			}
			begun <- struct{}{}
			<-ctx.Done()
			cause <- context.Cause(ctx)
			time.Sleep(900 * time.Millisecond) // late,
			if d.Key > "key2" {
				return messaging.Permanent(errBroken)
			}
			return nil // and yet with success
		})
		options := &messaging.ConsumerOptions{Concurrency: 64, Timeout: -1}
		stop1 := start(t, consumer(t, b, options, route))
		const total = 40
		for n := range total {
			publish(t, b, msg(fmt.Sprint(n), fmt.Sprint("key", n)))
		}
		for range total {
			<-begun
		}
		once.Store(true)
		begin := time.Now()
		stop2 := start(t, consumer(t, b, options, route))
		moved := map[string]bool{}
		require.ErrorIs(t, <-cause, messaging.ErrRevoked)
		moved[<-second] = true
		require.Equal(t, 900*time.Millisecond, time.Since(begin), "the new owner waits until the former one is through")
		synctest.Wait()
		for len(second) > 0 {
			moved[<-second] = true
		}
		for len(cause) > 0 {
			require.ErrorIs(t, <-cause, messaging.ErrRevoked)
		}
		require.Greater(t, len(moved), 5)
		require.Less(t, len(moved), total)
		n, _, err := d.Broker.(driver.Lagger).Lag(t.Context(), "t", "group")
		require.NoError(t, err)
		require.EqualValues(t, total-len(moved), n, "settled by the new owner, and only what moved")
		d.settle, d.publish = nil, nil
		require.NoError(t, stop1())
		require.NoError(t, stop2())
	})
}

func TestTimeoutEndsTheContextAndNamesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFaulty().front()
		dead, stopClerk := deadLetters(t, b, "t.dead")
		stop := start(t, consumer(t, b, &messaging.ConsumerOptions{
			Timeout: 2 * time.Second, Retry: messaging.RetryPolicy{MaxAttempts: 1},
		}, messaging.On("t", func(ctx context.Context, _ *messaging.Delivery) error {
			<-ctx.Done()
			return fmt.Errorf("query: %w", ctx.Err())
		})))
		begin := time.Now()
		publish(t, b, msg("1", "a"))
		require.Equal(t, "the handler took longer than its Timeout (2s): query: context deadline exceeded", (<-dead).LastError)
		require.Equal(t, 2*time.Second, time.Since(begin))
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
	})
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		nop := messaging.On("t", func(context.Context, *messaging.Delivery) error { return nil })

		d := newFaulty()
		verifying := messaging.NewBroker(d, nil)
		err := consumer(t, verifying, nil, nop).Run(ctx)
		require.ErrorIs(t, err, messaging.ErrUnroutable)
		require.ErrorContains(t, err, `"t"`)
		require.ErrorContains(t, err, `"t.dead"`)
		err = verifying.Publisher().Publish(ctx, msg("1", ""))
		require.ErrorIs(t, err, messaging.ErrUnroutable)
		require.NoError(t, verifying.Declare(ctx, "t"))
		require.NoError(t, verifying.Publisher().Publish(ctx, msg("1", "")))

		trusting := messaging.NewBroker(newFaulty(), &messaging.Options{Topology: messaging.Trust})
		require.ErrorIs(t, consumer(t, trusting, nil, nop).Run(ctx), messaging.ErrUnroutable, "cannot subscribe at start")

		c := consumer(t, d.front(), nil, nop)
		stop := start(t, c)
		synctest.Wait()
		require.ErrorIs(t, c.Run(ctx), messaging.ErrConfig, "running already")
		require.NoError(t, stop())
		stop = start(t, c)
		synctest.Wait()
		require.NoError(t, d.Close(ctx))
		synctest.Wait()
		require.ErrorIs(t, stop(), driver.ErrClosed)

		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.NoError(t, consumer(t, memory.New(nil), nil, nop).Run(ended))
	})
}

// An outage makes the consumer subscribe anew until it is over, and Health
// tells.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		var down atomic.Bool
		d.receive = func() error {
			if down.Load() {
				return errors.New("no route to host")
			}
			return nil
		}
		b := d.front()
		got := make(chan string)
		c := consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			got <- d.ID
			return nil
		}))
		stop := start(t, c)
		publish(t, b, msg("1", "a"))
		require.Equal(t, "1", <-got)
		down.Store(true)
		publish(t, b, msg("2", "a"))
		never(t, got, time.Second, "delivered by a broker that is down")
		for range 100 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			require.ErrorContains(t, c.Health(t.Context()), "no route to host")
		}
		down.Store(false)
		require.Equal(t, "2", <-got)
		require.NoError(t, stop())
	})
}
