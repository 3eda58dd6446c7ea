package conform_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
)

// Two groups whose names and topics make the same names of topics for retries
// get their own messages.
func TestKafkaGroupsThatShareATopicOfRetries(t *testing.T) {
	_, b, ctx := kafkaOf(t, "orders", "orders.eu", "orders.dead", "orders.eu.dead", "orders.eu.billing.retry-100ms")
	const each = 20
	var mu sync.Mutex
	got, handled := make(map[string]int), 0
	running, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for group, topic := range map[string]string{"eu.billing": "orders", "billing": "orders.eu"} {
		for n := range each {
			require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{ID: fmt.Sprint(topic, " ", n), Topic: topic}))
		}
		c, err := b.Consumer(group, &messaging.ConsumerOptions{
			Order: messaging.Unordered, Retry: messaging.RetryPolicy{Delays: []time.Duration{100 * time.Millisecond}},
		}, messaging.On(topic, func(_ context.Context, d *messaging.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprintf("%s gets %s, attempt %d", d.Group, d.ID, d.Attempt)]++
			if d.Attempt < 3 {
				return errors.New("no")
			}
			if handled++; handled == 2*each {
				time.AfterFunc(time.Second, stop) // for what comes twice
			}
			return nil
		}))
		require.NoError(t, err)
		wg.Go(func() { assert.NoError(t, c.Run(running)) })
	}
	wg.Wait()
	require.NoError(t, ctx.Err(), "handled %d", handled)
	want := make(map[string]int)
	for group, topic := range map[string]string{"eu.billing": "orders", "billing": "orders.eu"} {
		for n := range each {
			for attempt := range 3 {
				want[fmt.Sprintf("%s gets %s %d, attempt %d", group, topic, n, attempt+1)] = 1
			}
		}
	}
	require.Equal(t, want, got)
}

// What waits for a retry comes although the delays are others by then, or the
// group asks for order.
func TestKafkaReadsTheTopicsOfFormerDelays(t *testing.T) {
	for name, now := range map[string]messaging.ConsumerOptions{
		"other delays": {Order: messaging.Unordered, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Hour}}},
		"order":        {Order: messaging.ByKey, Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Hour}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, b, ctx := kafkaOf(t, "t", "t.dead", "t.g.retry-1.5s", "t.g.retry-1h0m0s", "t.g.retry-later", "t.other.retry-1s")
			require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{ID: "m", Topic: "t", Key: "k"}))
			for _, strange := range []string{"t.g.retry-later", "t.other.retry-1s"} {
				require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{ID: strange, Topic: strange}))
			}
			run := func(o *messaging.ConsumerOptions, err error) (attempt int) {
				running, stop := context.WithCancel(ctx)
				c, cerr := b.Consumer("g", o, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
					assert.Equal(t, "m", d.ID)
					assert.Equal(t, "t", d.Topic)
					attempt = d.Attempt
					stop()
					return err
				}))
				require.NoError(t, cerr)
				require.NoError(t, c.Run(running))
				require.NoError(t, ctx.Err(), "nothing came")
				return attempt
			}
			former := messaging.ConsumerOptions{Order: messaging.Unordered, Retry: messaging.RetryPolicy{Delays: []time.Duration{1500 * time.Millisecond}}}
			require.Equal(t, 1, run(&former, errors.New("no")))
			require.Equal(t, 2, run(&now, nil))
		})
	}
}
