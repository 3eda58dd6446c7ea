package kafka_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// The age is that of the record the group would read next, not of the batch it
// is in, nor of what was settled.
func TestLagOfAGroupThatHasReadSome(t *testing.T) {
	addrs := servertest.Kafka(t)
	wire := newWires(t)
	b := open(t, addrs, wire, messaging.Declare)
	d, ctx, topic := b.Driver(), t.Context(), "lag-"+time.Now().Format("150405.000000")
	now := time.Now()
	var msgs []*messaging.Message
	for n := range 5 { // one key: one partition, one batch
		msgs = append(msgs, &messaging.Message{Topic: topic, Key: "k", Time: now.Add(time.Duration(n-10) * time.Hour)})
	}
	require.NoError(t, b.Publisher().Publish(ctx, msgs...))
	of := d.(driver.Lagger)
	n, oldest, err := of.Lag(ctx, topic, "g")
	require.NoError(t, err)
	require.EqualValues(t, 5, n, "a group that has committed nothing")
	require.Equal(t, 10, int((oldest + time.Minute).Hours()))

	r, err := d.Subscribe(ctx, driver.Subscription{Topics: []string{topic}, Group: "g", Prefetch: 10, Drain: time.Second})
	require.NoError(t, err)
	for left := 2; left > 0; {
		ds, err := r.Receive(ctx, left)
		require.NoError(t, err)
		for _, x := range ds {
			require.NoError(t, r.Settle(ctx, []driver.Settlement{{Delivery: x, Action: driver.Ack}}))
		}
		left -= len(ds)
	}
	n, oldest, err = of.Lag(ctx, topic, "g")
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	require.Equal(t, 8, int((oldest + time.Minute).Hours()))
	require.NoError(t, r.Close(ctx))

	_, _, err = of.Lag(ctx, topic+"-not", "g")
	require.ErrorIs(t, err, driver.ErrUnroutable)
}
