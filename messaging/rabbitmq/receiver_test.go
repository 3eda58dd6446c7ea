package rabbitmq

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// acked is a channel that keeps the tags that are acked on it.
type acked struct {
	amqp.Acknowledger
	tags []uint64 // of an ack of several, the last
}

func (a *acked) Ack(tag uint64, _ bool) error {
	a.tags = append(a.tags, tag)
	return nil
}

// receiving returns a receiver of an unordered group that publishes on w, and
// takes deliveries out.
func (w *fakeWire) receiving(t *testing.T) (r *receiver, acks *acked, out func(tag uint64, id string) driver.Delivery) {
	t.Helper()
	b := newBroker("amqp://nowhere", &Options{Partitions: 1, MaxBytes: 1 << 20})
	b.pub.now.Store(w.l)
	r = b.newReceiver(driver.Subscription{Group: "g", Topics: []string{"t"}, Unordered: true, Delays: []time.Duration{time.Second}}, &conn{raw: new(guard)})
	acks = new(acked)
	l := r.newLane("t", "t/g", nil)
	l.acker = acks
	r.lanes = append(r.lanes, l)
	t.Cleanup(func() { // Close without a connection
		close(r.gone)
		r.wg.Wait()
	})
	return r, acks, func(tag uint64, id string) driver.Delivery {
		l.add(&amqp.Delivery{MessageId: id, DeliveryTag: tag}, nil)
		ds, err := r.Receive(t.Context(), 1)
		require.NoError(t, err)
		return ds[0]
	}
}

// While the server takes nothing, because it is short of memory, what was
// handled must leave it.
func TestAcksDoNotWaitForRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		t.Cleanup(func() { w.die(nil) })
		r, acks, out := w.receiving(t)
		w.blocking <- amqp.Blocking{Active: true, Reason: "low on memory"}
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, r.Settle(t.Context(), []driver.Settlement{
			{Delivery: out(2, "bad"), Action: driver.Retry, Delay: time.Second}, {Delivery: out(1, "good"), Action: driver.Ack},
		}))
		require.LessOrEqual(t, time.Since(begin), time.Second)
		require.Equal(t, []uint64{1}, acks.tags)
		begin = time.Now()
		bad := out(3, "bad too")
		require.NoError(t, r.Settle(t.Context(), []driver.Settlement{
			{Delivery: bad, Action: driver.Retry, Delay: time.Second}, {Delivery: out(4, "good too"), Action: driver.Ack},
		}))
		require.Zero(t, time.Since(begin), "it is known by now")
		require.NoError(t, r.Settle(t.Context(), []driver.Settlement{{Delivery: bad, Action: driver.Retry, Delay: time.Second}}), "once more")
		require.Equal(t, []uint64{1, 4}, acks.tags)

		w.blocking <- amqp.Blocking{}
		for range 2 {
			c := <-w.l.calls
			require.Equal(t, "t/g/retry-1s", c.parcels[0].key)
			send, sent := sending()
			w.begin(c, send)
			require.Len(t, acks.tags, 2, "the server does not have it yet")
			require.Len(t, sent, 1)
			sent[c.parcels[0].MessageId].answer(true)
			synctest.Wait()
			require.Len(t, acks.tags, 3)
			acks.tags = acks.tags[:2]
		}
		select {
		case <-w.l.calls:
			require.Fail(t, "each is sent once")
		case <-time.After(time.Minute):
		}
		require.Equal(t, uint64(4), r.lanes[0].tags.low+uint64(len(r.lanes[0].tags.above)), "all are acked")
		require.NoError(t, r.err)
	})
}

// A retry that fails is the caller's as long as it waits, and then the end of
// the receiver: the message comes again.
func TestARetryThatFails(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				t.Cleanup(func() { w.die(nil) })
				r, acks, out := w.receiving(t)
				bad := []driver.Settlement{{Delivery: out(1, "bad"), Action: driver.Retry, Delay: time.Second}}
				answer := func(ack bool, after time.Duration) {
					c := <-w.l.calls
					send, sent := sending()
					w.begin(c, send)
					time.Sleep(after)
					sent["bad"].answer(ack)
				}
				if late {
					go answer(false, 2*time.Second)
					require.NoError(t, r.Settle(t.Context(), bad))
					time.Sleep(2 * time.Second)
					synctest.Wait()
					_, err := r.Receive(t.Context(), 1)
					require.ErrorContains(t, err, "t/g/retry-1s")
					require.ErrorIs(t, r.Settle(t.Context(), bad), driver.ErrRevoked)
					return
				}
				go answer(false, 0)
				err := r.Settle(t.Context(), bad)
				require.ErrorContains(t, err, "t/g/retry-1s")
				require.NotErrorIs(t, err, driver.ErrRevoked)
				go answer(true, 0)
				require.NoError(t, r.Settle(t.Context(), bad), "once more")
				require.True(t, slices.Equal([]uint64{1}, acks.tags))
			})
		})
	}
}

// A copy that the server would close the connection for is refused, and what is
// beside it is not.
func TestARetryThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		t.Cleanup(func() { w.die(nil) })
		r, acks, out := w.receiving(t)
		large, bad := out(1, "large"), out(2, "bad")
		large.Headers.Add("h", strings.Repeat("x", frame))
		go func() {
			c := <-w.l.calls
			send, sent := sending()
			w.begin(c, send)
			sent["bad"].answer(true)
		}()
		both := []driver.Settlement{{Delivery: large, Action: driver.Retry, Delay: time.Second}, {Delivery: bad, Action: driver.Retry, Delay: time.Second}}
		require.ErrorIs(t, r.Settle(t.Context(), both), driver.ErrTooLarge)
		require.Equal(t, []uint64{2}, acks.tags)
		require.ErrorIs(t, r.Settle(t.Context(), both[:1]), driver.ErrTooLarge)
		require.NoError(t, r.Settle(t.Context(), both[1:]))
		require.NoError(t, r.err)
	})
}

// Leaving does not wait for a server that takes nothing.
func TestARetryEndsWithItsReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		t.Cleanup(func() { w.die(nil) })
		r, acks, out := w.receiving(t)
		w.blocking <- amqp.Blocking{Active: true, Reason: "low on memory"}
		synctest.Wait()
		require.NoError(t, r.Settle(t.Context(), []driver.Settlement{{Delivery: out(1, "bad"), Action: driver.Retry, Delay: time.Second}}))
		require.Empty(t, acks.tags)
	})
}

// What is noted of a message counts until it is settled, in that order.
func TestAMarkFollowsItsNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		t.Cleanup(func() { w.die(nil) })
		r, acks, out := w.receiving(t)
		r.sub.Unordered = false
		r.broker.base.Dial = func(string, string) (net.Conn, error) { return nil, errors.New("away") }
		r.broker.pub.now.Store(nil)
		d := out(1, "m")
		noted := make(chan error)
		go func() { noted <- r.Note(t.Context(), []driver.Noted{{Delivery: d, Note: driver.Note{Attempts: 1}}}) }()
		synctest.Wait() // it pauses before it connects again
		r.broker.pub.now.Store(w.l)
		require.NoError(t, r.Settle(t.Context(), []driver.Settlement{{Delivery: d, Action: driver.Ack}}))
		require.Equal(t, []uint64{1}, acks.tags)
		var written []bool // whether it is a mark
		for range 2 {
			c := <-w.l.calls
			send, sent := sending()
			w.begin(c, send)
			sent["m"].answer(true)
			synctest.Wait()
			written = append(written, c.parcels[0].Headers[headerGone] != nil)
			select {
			case err := <-noted:
				require.NoError(t, err)
			default:
			}
		}
		require.Equal(t, []bool{false, true}, written)
	})
}
