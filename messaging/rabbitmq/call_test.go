package rabbitmq

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
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
			conn: &conn{raw: new(guard)}, ch: new(amqp.Channel), calls: make(chan *call), heard: make(chan struct{}), given: make(chan leftover),
			dead: make(chan struct{}), ended: make(chan struct{}), unwanted: make(map[parcelKey]*unwanted), moved: make(chan struct{}),
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
	go w.l.writeCall(c, send)
	synctest.Wait()
}

// back says that a message came back.
func (w *fakeWire) back(id string) {
	w.returns <- amqp.Return{Exchange: "t", RoutingKey: "1", MessageId: id, ReplyText: "NO_ROUTE"}
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
		w.back("b")
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

// One message in two calls at once comes back twice.
func TestEveryReturnCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		one, two := newCall(parcels("a")), newCall(parcels("a", "b"))
		send1, sent1 := sending()
		send2, sent2 := sending()
		w.begin(one, send1)
		w.begin(two, send2)
		w.back("a")
		sent1["a"].answer(true)
		w.back("a")
		sent2["a"].answer(true)
		sent2["b"].answer(true)
		one.wait(t.Context(), w.l)
		two.wait(t.Context(), w.l)
		require.ErrorIs(t, outcomes(one)[0], driver.ErrUnroutable)
		require.ErrorIs(t, outcomes(two)[0], driver.ErrUnroutable)
		require.NoError(t, outcomes(two)[1])
		require.Zero(t, w.l.returns.Load())
	})
}

// An ID that the property cannot hold stands in a header, of what comes back too.
func TestReturnsOfLongIDsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		long := strings.Repeat("x", shortest)
		c := newCall(parcels("", ""))
		for i, id := range []string{long + "1", long + "2"} {
			c.parcels[i].Headers = amqp.Table{wire.ID: id}
		}
		w.begin(c, func(*parcel) (confirmation, error) {
			d := &confirmed{done: make(chan struct{})}
			d.answer(true)
			return d, nil
		})
		w.returns <- amqp.Return{Exchange: "t", RoutingKey: "1", Headers: amqp.Table{wire.ID: long + "2"}}
		c.wait(t.Context(), w.l)
		require.NoError(t, outcomes(c)[0])
		require.ErrorIs(t, outcomes(c)[1], driver.ErrUnroutable)
	})
}

// slow is confirmed when it has been asked for so often: in the middle of wait.
type slow struct {
	confirmed
	asked, until int
	first        func()
}

func (s *slow) Done() <-chan struct{} {
	if s.asked++; s.asked == s.until {
		s.first()
		s.answer(true)
	}
	return s.done
}

// A confirmation that comes while the caller's time ends is preceded by its
// return. Either both count or none.
func TestConfirmedWhileLeaving(t *testing.T) {
	for until := 1; until <= 5; until++ {
		w := newWire()
		c := newCall(parcels("a"))
		d := &slow{confirmed: confirmed{done: make(chan struct{})}, until: until}
		d.first = func() {
			w.l.mu.Lock() // listen gets the return, and is not scheduled
			w.back("a")
			time.AfterFunc(time.Millisecond, w.l.mu.Unlock)
		}
		w.l.writeCall(c, func(*parcel) (confirmation, error) { return d, nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.wait(ctx, w.l)
		require.Error(t, outcomes(c)[0], "it came back, before it was asked for the %dth time: no queue has it", until)
		w.die(nil)
	}
}

// What comes back of a caller who did not wait is not taken for another's, and
// does not stay in the books.
func TestReturnsOfThoseWhoLeftAreForgotten(t *testing.T) {
	for name, stuck := range map[string]bool{"written": false, "in the middle of it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				defer w.die(nil)
				c := newCall(parcels("a"))
				send, sent := sending()
				unstick := make(chan struct{})
				w.begin(c, func(p *parcel) (confirmation, error) {
					if stuck {
						<-unstick
					}
					return send(p)
				})
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				c.wait(ctx, w.l)
				require.ErrorIs(t, outcomes(c)[0], driver.ErrUnknown)
				close(unstick)
				synctest.Wait()
				again := newCall(parcels("a"))
				send2, sent2 := sending()
				w.begin(again, send2)
				w.back("a")
				sent["a"].answer(true)
				sent2["a"].answer(true) // meanwhile a queue is there
				again.wait(t.Context(), w.l)
				require.NoError(t, outcomes(again)[0])
				require.Zero(t, w.l.returns.Load())
				require.Empty(t, w.l.left)
			})
		})
	}
}

// Whose message is still open does not explain a return: another's came back.
func TestWhoIsOpenExplainsNoReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		c, again := newCall(parcels("a")), newCall(parcels("a"))
		send, _ := sending()
		w.begin(c, send)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c.wait(ctx, w.l)
		send2, sent2 := sending()
		w.begin(again, send2)
		w.back("a")
		sent2["a"].answer(true)
		again.wait(t.Context(), w.l)
		require.ErrorIs(t, outcomes(again)[0], driver.ErrUnroutable)
	})
}

// Nobody publishes those again: the books do not grow with them.
func TestThoseWhoLeftAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer w.die(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 10 {
			id := strconv.Itoa(i)
			c := newCall(parcels(id, "to "+id))
			send, sent := sending()
			w.begin(c, send)
			c.wait(ctx, w.l)
			w.back(id)
			sent[id].answer(true)
			sent["to "+id].answer(true)
		}
		c := newCall(parcels("last"))
		send, _ := sending()
		w.begin(c, send)
		c.wait(ctx, w.l)
		w.l.hearAll()
		require.Len(t, w.l.left, 1)
		require.Empty(t, w.l.unwanted)
		require.Zero(t, w.l.returns.Load())
	})
}
