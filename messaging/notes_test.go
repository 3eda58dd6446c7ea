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

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Where the broker remembers what waits in the front, the next consumer goes on
// where the last one was: not before its time, with its count, and its key
// behind it.
func TestARetryThatWaitsHereOutlivesItsConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.noDelay = true
		d.note = func(context.Context, []driver.Noted) error { return nil }
		b := d.front()
		o := &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{time.Hour}}}
		begin := time.Now()
		got := make(chan string, 10)
		fails := messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			got <- fmt.Sprintf("%s attempt %d after %q at %v", d.ID, d.Attempt, d.LastError, time.Since(begin))
			if d.Key == "a" {
				return errBroken
			}
			return nil
		})
		first := consumer(t, b, o, fails)
		require.NoError(t, first.Declare(t.Context()))
		publish(t, b, msg("a1", "a"), msg("a2", "a"))
		stop := start(t, first)
		require.Equal(t, `a1 attempt 1 after "" at 0s`, <-got)
		time.Sleep(time.Minute)
		require.NoError(t, stop())

		firstSeen := make(chan time.Time, 10)
		stop = start(t, consumer(t, b, o, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			if d.Key == "a" {
				firstSeen <- d.FirstSeen
				got <- fmt.Sprintf("%s attempt %d after %q at %v", d.ID, d.Attempt, d.LastError, time.Since(begin))
				return errBroken
			}
			got <- d.ID
			return nil
		})))
		publish(t, b, msg("b1", "b"))
		require.Equal(t, "b1", <-got, "another key goes on")
		require.Equal(t, `a1 attempt 2 after "broken" at 1h0m0s`, <-got)
		require.Equal(t, begin, <-firstSeen)
		synctest.Wait()
		require.NoError(t, stop())

		dead, stopClerk := deadLetters(t, b, "t.dead")
		stop = start(t, consumer(t, b, o, fails))
		require.Equal(t, `a1 attempt 3 after "broken" at 2h0m0s`, <-got)
		x := <-dead
		require.Equal(t, "a1", x.ID, "the third attempt is the last, in whatever process")
		require.Equal(t, `a2 attempt 1 after "" at 2h0m0s`, <-got)
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
	})
}

// A broker that cannot note delays nothing; Health says so.
func TestNotesThatFailAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.noDelay = true
		var broken atomic.Bool
		broken.Store(true)
		d.note = func(context.Context, []driver.Noted) error {
			if broken.Load() {
				return errors.New("no room")
			}
			return nil
		}
		b := d.front()
		begin := time.Now()
		got := make(chan time.Duration, 10)
		c := consumer(t, b, &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Minute}}},
			messaging.On("t", func(context.Context, *messaging.Delivery) error {
				got <- time.Since(begin)
				return errBroken
			}))
		stop := start(t, c)
		synctest.Wait()
		publish(t, b, msg("m", "k"))
		require.Zero(t, <-got)
		require.Equal(t, time.Minute, <-got)
		require.ErrorContains(t, c.Health(t.Context()), "no room")
		broken.Store(false)
		require.Equal(t, 2*time.Minute, <-got)
		require.Equal(t, 3*time.Minute, <-got)
		require.NoError(t, c.Health(t.Context()))
		require.NoError(t, stop())
	})
}

// What cannot be noted in the end is not waited for.
func TestNotesDoNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.noDelay = true
		d.note = func(ctx context.Context, _ []driver.Noted) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		b := d.front()
		ran := make(chan struct{}, 10)
		stop := start(t, consumer(t, b, nil, messaging.On("t", func(context.Context, *messaging.Delivery) error {
			ran <- struct{}{}
			return errBroken
		})))
		synctest.Wait()
		publish(t, b, msg("m", "k"))
		<-ran
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, stop())
		require.LessOrEqual(t, time.Since(begin), time.Second)
	})
}
