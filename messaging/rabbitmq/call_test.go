package rabbitmq

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// confirmed is a confirmation that a test gives.
type confirmed struct {
	done chan struct{}
	ack  bool
}

func (c *confirmed) Done() <-chan struct{} { return c.done }
func (c *confirmed) Acked() bool           { return c.ack }
func (c *confirmed) answer(ack bool) {
	c.ack = ack
	close(c.done)
}

// wire is a link to no server. The test says what it hears.
type fakeWire struct {
	l        *link
	returns  chan amqp.Return
	blocking chan amqp.Blocking
	closing  chan *amqp.Error
}

func newWire() *fakeWire {
	w := &fakeWire{
		l: &link{
			conn: &conn{raw: new(guard)}, ch: new(amqp.Channel), calls: make(chan *call), heard: make(chan struct{}),
			dead: make(chan struct{}), ended: make(chan struct{}), unwanted: make(map[parcelKey]error), moved: make(chan struct{}),
		},
		returns: make(chan amqp.Return), blocking: make(chan amqp.Blocking), closing: make(chan *amqp.Error, 1),
	}
	go w.l.listen(w.returns, w.blocking, w.closing)
	return w
}

func (w *fakeWire) die(e *amqp.Error) {
	if e != nil {
		w.closing <- e
	}
	close(w.closing)
	close(w.returns)
	close(w.blocking)
	<-w.l.ended
}

func parcels(ids ...string) (out []parcel) {
	for i, id := range ids {
		out = append(out, parcel{exchange: "t", key: "1", i: i, Publishing: amqp.Publishing{MessageId: id, Body: []byte(id)}})
	}
	return out
}

// begin gives c to the link as take and write do, with send in place of the
// client, and returns when everything is written or stuck.
func (w *fakeWire) begin(c *call, send func(*parcel) (confirmation, error)) {
	w.l.flying++
	go c.write(send)
	synctest.Wait()
}

func sending() (send func(*parcel) (confirmation, error), sent map[string]*confirmed) {
	sent = make(map[string]*confirmed)
	return func(p *parcel) (confirmation, error) {
		sent[p.MessageId] = &confirmed{done: make(chan struct{})}
		return sent[p.MessageId], nil
	}, sent
}

func outcomes(c *call) (errs []error) {
	for i := range c.parcels {
		errs = append(errs, c.parcels[i].err)
	}
	return errs
}

func TestConfirmedReturnedRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		c := newCall(parcels("a", "b", "c", "b2"))
		send, sent := sending()
		w.begin(c, send)
		require.Len(t, sent, 4, "all are written before the first is waited for")
		done := make(chan struct{})
		go func() {
			c.wait(t.Context(), w.l)
			close(done)
		}()
		sent["c"].answer(false) // out of order
		sent["a"].answer(true)
		w.returns <- amqp.Return{Exchange: "t", RoutingKey: "1", MessageId: "b", ReplyText: "NO_ROUTE"}
		sent["b"].answer(true)
		synctest.Wait()
		select {
		case <-done:
			require.Fail(t, "one has no answer")
		default:
		}
		sent["b2"].answer(true)
		<-done
		errs := outcomes(c)
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], driver.ErrUnroutable)
		require.ErrorContains(t, errs[1], `"t"`)
		require.ErrorIs(t, errs[2], driver.ErrUnknown, "another queue may hold it")
		require.NoError(t, errs[3])
		require.Zero(t, w.l.returns.Load())
	})
}

// A lost connection confirms everything negatively, which says nothing.
func TestALostConnectionLeavesTheOutcomeOpen(t *testing.T) {
	for name, test := range map[string]struct {
		cause *amqp.Error
		large bool
	}{
		"lost":      {cause: &amqp.Error{Code: 501, Reason: "EOF"}},
		"too large": {cause: &amqp.Error{Code: 406, Reason: "PRECONDITION_FAILED - message size 1 is larger than configured max size 0"}, large: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				c := newCall(parcels("acked", "b", "refused", "behind"))
				send, sent := sending()
				w.begin(c, func(p *parcel) (confirmation, error) {
					if p.MessageId == "refused" {
						return nil, amqp.ErrClosed
					}
					return send(p)
				})
				sent["acked"].answer(true)
				w.die(test.cause)
				sent["b"].answer(false)
				c.wait(t.Context(), w.l)
				errs := outcomes(c)
				require.NoError(t, errs[0])
				if test.large {
					require.ErrorIs(t, errs[1], driver.ErrTooLarge)
				} else {
					require.ErrorIs(t, errs[1], driver.ErrUnknown)
				}
				require.ErrorContains(t, errs[1], test.cause.Reason, "why")
				for _, err := range errs[2:] {
					require.Error(t, err)
					require.NotErrorIs(t, err, driver.ErrUnknown, "it was never sent")
				}
			})
		})
	}
}

func TestWhoLeavesKnowsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		c := newCall(parcels("acked", "open", "stuck", "never"))
		send, sent := sending()
		unstick, written := make(chan struct{}), 0
		w.begin(c, func(p *parcel) (confirmation, error) {
			written++
			if p.MessageId == "stuck" {
				<-unstick
			}
			return send(p)
		})
		sent["acked"].answer(true)
		gone := errors.New("no more time")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		c.wait(ctx, w.l)
		errs := outcomes(c)
		close(unstick)
		<-c.written
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], driver.ErrUnknown)
		require.ErrorIs(t, errs[2], driver.ErrUnknown)
		for _, err := range errs[1:] {
			require.ErrorIs(t, err, gone)
		}
		require.NotErrorIs(t, errs[3], driver.ErrUnknown)
		require.Equal(t, 3, written, "what had not begun when the caller left is not sent")
	})
}

func TestAnAlarmIsWaitedForAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		w.blocking <- amqp.Blocking{Active: true, Reason: "low on memory"}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- w.l.take(ctx, newCall(parcels("a"))) }()
		synctest.Wait()
		cancel()
		err := <-result
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "low on memory")

		next := newCall(parcels("b"))
		go func() { result <- w.l.take(t.Context(), next) }()
		synctest.Wait()
		w.blocking <- amqp.Blocking{}
		require.Same(t, next, <-w.l.calls)
		require.NoError(t, <-result)
	})
}

// Callers that did not wait leave nothing behind that a later one could find.
func TestReturnsOfThoseWhoLeftAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		c := newCall(parcels("a"))
		send, _ := sending()
		w.begin(c, send)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.returns <- amqp.Return{Exchange: "t", RoutingKey: "1", MessageId: "a"}
		c.wait(ctx, w.l)
		require.ErrorIs(t, outcomes(c)[0], driver.ErrUnknown)
		again := newCall(parcels("a"))
		w.begin(again, func(*parcel) (confirmation, error) {
			d := &confirmed{done: make(chan struct{})}
			d.answer(true)
			return d, nil
		})
		again.wait(t.Context(), w.l)
		require.NoError(t, outcomes(again)[0])
	})
}
