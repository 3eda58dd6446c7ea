package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Dead letters that nobody takes keep their keys waiting, and no handler from
// running.
func TestARefusedDeadLetterStopsOnlyItsKey(t *testing.T) {
	both(t, func(t *testing.T, d *faulty) {
		var mu sync.Mutex
		refused := messaging.ErrTooLarge
		var errorTexts []string
		d.publish = func(msgs []driver.Message) []error {
			mu.Lock()
			defer mu.Unlock()
			if msgs[0].Topic != "t.dead" {
				return nil
			}
			errorTexts = append(errorTexts, msgs[0].Headers.Get("mainstay-error"))
			if refused != nil {
				return []error{refused}
			}
			return nil
		}
		b := d.front()
		done := make(chan string, 10)
		c := consumer(t, b, &messaging.ConsumerOptions{Concurrency: 2}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			if d.Key == "bad" || d.Key == "worse" {
				if d.ID == "1" || d.ID == "2" {
					return messaging.Permanent(errBroken)
				}
			}
			done <- d.ID
			return nil
		}))
		stop := start(t, c)
		publish(t, b, msg("1", "bad"), msg("2", "worse"), msg("3", "bad"))
		time.Sleep(time.Minute)
		publish(t, b, msg("4", "good"))
		select {
		case id := <-done:
			require.Equal(t, "4", id)
		case <-time.After(time.Minute):
			t.Error("handlers stand still for dead letters that nobody takes")
		}
		never(t, done, time.Hour, "handled before its predecessor was given up")
		require.ErrorContains(t, c.Health(t.Context()), `"t.dead"`)
		mu.Lock()
		require.Equal(t, errBroken.Error(), errorTexts[0])
		require.Empty(t, errorTexts[len(errorTexts)-1], "what can be left out is")
		require.Less(t, len(errorTexts), 5000, "it pauses")
		refused = nil
		mu.Unlock()
		require.Equal(t, "3", <-done)
		time.Sleep(time.Minute)
		require.NoError(t, c.Health(t.Context()))
		require.NoError(t, stop())
		n, _, err := d.Broker.(driver.Lagger).Lag(t.Context(), "t", "group")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// Who is stopped meanwhile gives the message back.
func TestARefusedDeadLetterIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.publish = func(msgs []driver.Message) []error {
			if msgs[0].Topic == "t.dead" {
				return []error{errBroken}
			}
			return nil
		}
		b := d.front()
		failing := consumer(t, b, nil, messaging.On("t", func(context.Context, *messaging.Delivery) error { return messaging.Permanent(errBroken) }))
		stop := start(t, failing)
		publish(t, b, msg("m", "k"))
		time.Sleep(time.Minute)
		require.Error(t, failing.Health(t.Context()))
		begun := time.Now()
		require.NoError(t, stop())
		require.Less(t, time.Since(begun), time.Second, "it does not wait for what nobody takes")
		got := make(chan string, 1)
		stop = start(t, consumer(t, b, nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			got <- d.ID
			return nil
		})))
		require.Equal(t, "m", <-got)
		require.NoError(t, stop())
	})
}

// A retry whose copy the broker does not take waits in the consumer, with its
// attempts counted; what was settled together with it is settled.
func TestARetryThatIsTooLargeWaitsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFaulty()
		d.settle = func(s []driver.Settlement) error {
			for _, x := range s {
				if x.Action == driver.Retry && x.Delivery.ID == "big" {
					return fmt.Errorf("one of %d: %w", len(s), driver.ErrTooLarge)
				}
			}
			return nil
		}
		b := d.front()
		dead, stopClerk := deadLetters(t, b, "t.dead")
		var mu sync.Mutex
		var big []string
		others := make(map[string]int)
		begin := time.Now()
		c := consumer(t, b, &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{time.Minute}}},
			messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				if d.ID == "big" {
					big = append(big, fmt.Sprintf("%d at %v after %q", d.Attempt, time.Since(begin), d.LastError))
					return errors.New("no")
				}
				others[d.ID]++
				if d.ID == "fails" && d.Attempt == 1 {
					return errBroken
				}
				return nil
			}))
		stop := start(t, c)
		publish(t, b, msg("big", "a"), msg("behind", "a"), msg("x", ""), msg("fails", "b"), msg("y", ""))
		require.Equal(t, "big", (<-dead).ID)
		synctest.Wait()
		require.NoError(t, c.Health(t.Context()))
		require.NoError(t, stop())
		require.NoError(t, stopClerk())
		require.Equal(t, []string{`1 at 0s after ""`, `2 at 1m0s after "no"`, `3 at 2m0s after "no"`}, big)
		require.Equal(t, map[string]int{"behind": 1, "x": 1, "y": 1, "fails": 2}, others)
		n, _, err := d.Broker.(driver.Lagger).Lag(t.Context(), "t", "group")
		require.NoError(t, err)
		require.Zero(t, n, "all are settled")
	})
}

// The room that Publish leaves is enough for our headers, at their longest, and
// for a trace that is injected after the look at the size.
func TestOurHeadersFitIntoTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reserve, trace = 2048, 66 + 10 + 512 + 20 // traceparent, tracestate
		// Kafka's topics have 249 bytes, those of retries too.
		topic, group := strings.Repeat("t", 249-101-len(".retry-10m0s")), strings.Repeat("g", 100)
		d := newFaulty()
		sizes := make(chan int, 2)
		d.publish = func(msgs []driver.Message) []error {
			sizes <- msgs[0].Size()
			return nil
		}
		d.settle = func(s []driver.Settlement) error {
			if s[0].Action == driver.Retry {
				m := s[0].Delivery.Message
				m.Topic += "." + group + ".retry-10m0s"
				m.Headers.Add("mainstay-not-before", time.Now().UTC().Format(time.RFC3339Nano))
				m.Headers.Add("mainstay-retry-of", group)
				sizes <- m.Size()
			}
			return nil
		}
		b := d.front()
		c, err := b.Consumer(group, &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{MaxAttempts: 2}},
			messaging.On(topic, func(context.Context, *messaging.Delivery) error {
				return errors.New(strings.Repeat("very long ", 100))
			}))
		require.NoError(t, err)
		stop := start(t, c)
		publish(t, b, &messaging.Message{Topic: topic})
		published := <-sizes
		require.LessOrEqual(t, <-sizes-published, reserve-trace, "a retry")
		require.LessOrEqual(t, <-sizes-published, reserve-trace, "a dead letter")
		require.NoError(t, stop())
	})
}
