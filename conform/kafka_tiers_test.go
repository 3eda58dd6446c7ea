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
