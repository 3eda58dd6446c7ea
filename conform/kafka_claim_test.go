package conform_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// A partition is lost while it is paused, because more than 4096 messages of it
// wait to be handed out; the same member gets it again, and reads on.
func TestKafkaReadsOnAfterAPause(t *testing.T) {
	const total = 6000
	g := newGroup(t)
	g.publish(0, total)
	var asked atomic.Int64 // when records were asked for, Unix nanoseconds
	g.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Count: -1, When: func(kmsg.Request) bool {
		asked.Store(time.Now().UnixNano())
		return false
	}})
	r := g.join()
	ds, err := r.Receive(g.ctx, 1) // so that there is a position
	require.NoError(t, err)
	require.NoError(t, r.Settle(g.ctx, []driver.Settlement{{Delivery: ds[0], Action: driver.Ack}}))
	ds, err = r.Receive(g.ctx, 1)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Since(time.Unix(0, asked.Load())) > time.Second }, 20*time.Second, 10*time.Millisecond,
		"it asks ten times in a second, unless it pauses")

	expelled := g.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: -1, TopLevel: true})
	select {
	case <-ds[0].Lost:
	case <-g.ctx.Done():
		t.Fatal("the partition was not lost")
	}
	expelled.Remove()
	require.ErrorIs(t, r.Settle(g.ctx, []driver.Settlement{{Delivery: ds[0], Action: driver.Ack}}), driver.ErrRevoked)
	require.Equal(t, numbers([2]int{1, total}), g.receive(r, total-1))
}
