package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

type stub struct {
	driver.Broker
	driver.Receiver
	deliver []driver.Delivery
	settled []driver.Settlement
	refuse  error
}

func (s *stub) Close(context.Context) error { return nil }

func (s *stub) Subscribe(context.Context, driver.Subscription) (driver.Receiver, error) {
	return s, nil
}
func (s *stub) Receive(context.Context, int) ([]driver.Delivery, error) { return s.deliver, nil }
func (s *stub) Settle(_ context.Context, b []driver.Settlement) error {
	s.settled = append(s.settled, b...)
	return s.refuse
}

// books is a client of a stub, and what it was handed.
type books struct {
	*testing.T
	*stub
	c  *counted
	r  driver.Receiver
	ds []driver.Delivery
}

func newBooks(t *testing.T, h Harness) *books {
	t.Helper()
	b := &books{T: t, stub: &stub{}}
	h.Driver = b.stub
	b.c = count(&h)
	r, err := b.c.Subscribe(t.Context(), driver.Subscription{})
	require.NoError(t, err)
	b.r = r
	return b
}

// receive hands out the messages of these IDs, one lane for each first letter.
func (b *books) receive(lost <-chan struct{}, ids ...string) {
	b.Helper()
	b.deliver = nil
	for _, id := range ids {
		b.deliver = append(b.deliver, driver.Delivery{
			Message: driver.Message{ID: id}, Lane: id[:1], Position: id[1:], Lost: lost, Handle: "the driver's",
		})
	}
	ds, err := b.r.Receive(b.Context(), len(ids))
	require.NoError(b, err)
	b.ds = append(b.ds, ds...)
}

// settle settles deliveries by their number.
func (b *books) settle(a driver.Action, which ...int) {
	b.Helper()
	var batch []driver.Settlement
	for _, i := range which {
		batch = append(batch, driver.Settlement{Delivery: b.ds[i], Action: a})
	}
	require.ErrorIs(b, b.r.Settle(b.Context(), batch), b.refuse)
}

// want is what became of the messages: final and open deliveries of each.
func (b *books) want(want map[string]tally) {
	b.Helper()
	got := make(map[string]tally)
	b.c.tally(got)
	require.Equal(b, want, got)
}

func TestWhatBecameOfDeliveriesIsBooked(t *testing.T) {
	b := newBooks(t, Harness{})
	lost := make(chan struct{})
	b.receive(lost, "a1", "a2", "a3", "b1")
	b.want(map[string]tally{"a1": {0, 1}, "a2": {0, 1}, "a3": {0, 1}, "b1": {0, 1}})
	b.settle(driver.Ack, 1, 3)
	b.settle(driver.Ack, 1) // again
	b.settle(driver.Requeue, 0)
	b.want(map[string]tally{"a1": {0, 0}, "a2": {1, 0}, "a3": {0, 1}, "b1": {1, 0}})
	require.Equal(t, "the driver's", b.settled[0].Delivery.Handle, "it gets its own handle back")
	b.refuse = errors.New("not told")
	b.settle(driver.Ack, 2)
	b.refuse = driver.ErrRevoked
	b.settle(driver.Ack, 2) // some other was
	b.receive(lost, "a1")
	close(lost)
	b.settle(driver.Ack, 4)
	b.want(map[string]tally{"a1": {0, 1}, "a2": {1, 0}, "a3": {1, 0}, "b1": {1, 0}})
	b.refuse = nil
	b.receive(nil, "a2", "c1")
	b.settle(driver.Ack, 5)
	b.settle(driver.Retry, 6)
	b.want(map[string]tally{"a1": {0, 1}, "a2": {2, 0}, "a3": {1, 0}, "b1": {1, 0}, "c1": {0, 0}})
}

// A delivery that comes twice at a time has two acks.
func TestTwoOfOnePositionAreTwo(t *testing.T) {
	b := newBooks(t, Harness{ByPosition: true})
	b.receive(nil, "a1", "a1")
	b.settle(driver.Ack, 0)
	b.settle(driver.Ack, 1)
	b.want(map[string]tally{"a1": {2, 0}})
}

// A group whose position is one number stays before what is not settled, and
// before what was put back until it has come again.
func TestByPositionNothingIsSettledBeyondAGap(t *testing.T) {
	b := newBooks(t, Harness{ByPosition: true})
	b.receive(nil, "a1", "a2", "a3", "a4", "b1")
	b.settle(driver.Ack, 4, 1)
	b.want(map[string]tally{"a1": {0, 1}, "a2": {0, 1}, "a3": {0, 1}, "a4": {0, 1}, "b1": {1, 0}})
	b.settle(driver.Requeue, 0)
	b.settle(driver.Ack, 2)
	b.want(map[string]tally{"a1": {0, 0}, "a2": {0, 1}, "a3": {0, 1}, "a4": {0, 1}, "b1": {1, 0}})
	b.receive(nil, "a1")
	b.settle(driver.Ack, 5)
	b.want(map[string]tally{"a1": {1, 0}, "a2": {1, 0}, "a3": {1, 0}, "a4": {0, 1}, "b1": {1, 0}})
}

func TestUnconfirmedAcksMayBeLostAroundAFault(t *testing.T) {
	for _, unconfirmed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBooks(t, Harness{Unconfirmed: unconfirmed})
			want := make(map[string]tally)
			ack := func(id string, mayBeLost bool) {
				b.receive(nil, id)
				b.settle(driver.Ack, len(b.ds)-1)
				want[id] = tally{1, 0}
				if mayBeLost && unconfirmed {
					want[id] = tally{0, 1}
				}
			}
			ack("a1", false)
			time.Sleep(time.Millisecond)
			ack("a2", true)
			time.Sleep(time.Second - time.Millisecond)
			b.c.during(func() {
				ack("a3", true)
				time.Sleep(5 * time.Second)
			})
			time.Sleep(time.Second - time.Millisecond)
			ack("a4", true)
			time.Sleep(time.Millisecond)
			ack("a5", false)
			b.want(want)
		})
	}
}

// What is not settled may be handled again, and nothing else: a message is no
// excuse for another.
func TestSettledAgain(t *testing.T) {
	b := newBooks(t, Harness{})
	s := &siege{TB: t, ledger: NewLedger(), clients: []*client{{counted: b.c}}, unknown: map[string]int{"c1": 1, "c2": 1}}
	for i := range 32 { // of a consumer that died before it began any
		b.receive(nil, fmt.Sprint("p", i))
	}
	handle := func(id string) {
		b.receive(nil, id)
		s.ledger.Handled(id, "k")(nil)
	}
	ack := func() { b.settle(driver.Ack, len(b.ds)-1) }
	for range 2 {
		for _, id := range []string{"again", "c1"} {
			handle(id)
			ack()
		}
	}
	for range 3 {
		handle("c2")
		ack()
		handle("open") // and never acked
	}
	handle("once")
	ack()
	s.ledger.Handled("once", "k")(nil) // by whom?
	handle("revoked")
	handle("revoked")
	ack()
	require.Equal(t, []string{"again", "c2", "once"}, settledAgain(s.tallies(), s.ledger.successes(), s.unknown))
}
