package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

// Two members of a group, messages that are published three times and handlers
// that fail now and then: every effect happens once.
func TestInboxOfAConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 200
		broker := memory.New(nil)
		guard := idempotency.New(idempotency.NewMemoryStore(messages), nil)
		var effects [messages]atomic.Int64
		var runs atomic.Int64
		handle := func(_ context.Context, d *messaging.Delivery) error {
			n := runs.Add(1)
			time.Sleep(time.Duration(n%7) * time.Millisecond)
			if n%5 == 0 {
				return errors.New("now and then")
			}
			var i int
			if _, err := fmt.Sscan(string(d.Body), &i); err != nil {
				return err
			}
			effects[i].Add(1)
			return nil
		}
		opts := &messaging.ConsumerOptions{
			Inbox: guard,
			Retry: messaging.RetryPolicy{MaxAttempts: -1, Delays: []time.Duration{time.Second}},
		}

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 2 {
			c, err := broker.Consumer("billing", opts, messaging.On("orders", handle))
			require.NoError(t, err)
			require.Contains(t, c.Guarantee(), "once")
			require.NoError(t, c.Declare(ctx))
			go func() { ended <- c.Run(ctx) }()
		}
		for range 3 {
			for i := range messages {
				m := &messaging.Message{ID: fmt.Sprint("m-", i), Topic: "orders", Key: fmt.Sprint(i % 20), Body: fmt.Append(nil, i)}
				require.NoError(t, broker.Publisher().Publish(ctx, m))
			}
		}
		time.Sleep(time.Hour)
		cancel()
		for range 2 {
			require.NoError(t, <-ended)
		}
		for i := range effects {
			require.EqualValues(t, 1, effects[i].Load(), "effects of message %d", i)
		}
		require.Greater(t, runs.Load(), int64(messages), "no handler failed: the test tests little")
		require.NoError(t, broker.Close(context.WithoutCancel(ctx)))
	})
}
