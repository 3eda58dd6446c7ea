package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

// A member that hears nothing for so long that others have its partition hands
// out nothing of what it has fetched before.
func TestACutOffMemberHandsOutNothing(t *testing.T) {
	addrs, ctx := servertest.Kafka(t), t.Context()
	client := func(through *wires) driver.Broker {
		c := sarama.NewConfig()
		c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = 2*time.Second, 500*time.Millisecond
		if through != nil {
			c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, through
		}
		opening, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		b, err := kafka.Open(opening, addrs, &kafka.Options{Sarama: c, Partitions: 1})
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			require.NoError(t, b.Close(ctx))
		})
		return b.Driver()
	}
	wire := newWires(t)
	first, second := client(wire), client(nil)
	name := fmt.Sprintf("lease-%d", time.Now().UnixNano())
	sub := driver.Subscription{Topics: []string{name}, Group: name, Prefetch: 100, Drain: time.Second}
	require.NoError(t, second.(driver.Declarer).Declare(ctx, sub))
	msgs := make([]driver.Message, 50)
	for i := range msgs {
		msgs[i] = driver.Message{ID: fmt.Sprint(i), Topic: name, Key: "k", Time: time.Now()}
	}
	require.NoError(t, errors.Join(second.Publish(ctx, msgs)...))
	a, err := first.Subscribe(ctx, sub)
	require.NoError(t, err)
	got, err := a.Receive(ctx, 1)
	require.NoError(t, err)
	require.Len(t, got, 1)

	cut := make(chan struct{})
	go func() {
		defer close(cut)
		wire.stall(12 * time.Second)
	}()
	b, err := second.Subscribe(ctx, sub)
	require.NoError(t, err)
	taken, err := b.Receive(ctx, 100)
	require.NoError(t, err)
	require.Equal(t, "0", taken[0].ID, "it was never settled")
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	again, err := a.Receive(short, 100)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%d deliveries", len(again))
	<-cut
	require.NoError(t, b.Close(ctx)) // without it, the first one takes over
	for len(again) == 0 {
		again, err = a.Receive(ctx, 100)
		require.NoError(t, err)
	}
	require.Equal(t, "0", again[0].ID)
}
