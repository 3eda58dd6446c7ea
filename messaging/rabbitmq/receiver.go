package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// window is how many messages of a partition are handed out at a time. It is
// the same for all members: what one of them returns must fit into the window
// of the next, or a quorum queue could return it in another order.
const window = 256

// receiver is a member of a group, for as long as its connection lives: then
// its deliveries are lost, and the front subscribes anew. An unordered group
// has one queue for each topic; of an ordered one, the members share the
// queues as members.go says.
type receiver struct {
	broker *broker
	sub    driver.Subscription
	id     string
	conn   *conn

	woken chan struct{} // holds one: look again
	moved chan struct{} // holds one: a lane has been closed
	gone  chan struct{} // closed when Close begins
	wg    sync.WaitGroup

	noting chan struct{} // holds one: who writes notes, or that they are settled

	acking sync.Mutex // before mu

	mu     sync.Mutex
	closed bool
	err    error // why receiving cannot go on
	lanes  []*lane
	turn   int
	late   int // calls of Settle that left retries behind, which are under way
}

// Subscribe implements driver.Broker.
func (b *broker) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if s.Group == "" || len(s.Topics) == 0 {
		return nil, errors.New("a subscription needs a group and a topic")
	}
	if err := b.Verify(ctx, driver.Subscription{Topics: s.Topics, Group: s.Group, Delays: s.Delays, Unordered: s.Unordered}); err != nil {
		return nil, err
	}
	c, err := b.dial(ctx, "consume "+s.Group)
	if err != nil {
		return nil, err
	}
	r := b.newReceiver(s, c)
	if err := wait.Call(ctx, b.start, r.begin); err != nil {
		_ = r.Close(ctx)
		return nil, err
	}
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.receivers[r] = struct{}{}
	}
	b.mu.Unlock()
	if closed {
		_ = r.Close(ctx)
		return nil, driver.ErrClosed
	}
	return r, nil
}

func (b *broker) newReceiver(s driver.Subscription, c *conn) *receiver {
	return &receiver{
		broker: b, sub: s, id: rand.Text(), conn: c,
		woken: make(chan struct{}, 1), moved: make(chan struct{}, 1), gone: make(chan struct{}), noting: make(chan struct{}, 1),
	}
}

// lasting returns a context that ends with cancel, and a while after Close has
// begun at the latest.
func (r *receiver) lasting(after time.Duration) (_ context.Context, cancel context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() {
		defer cancel()
		select {
		case <-r.gone:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(after)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

func (r *receiver) begin() error {
	closing := r.conn.NotifyClose(make(chan *amqp.Error, 1))
	r.wg.Go(func() {
		e, ok := <-closing
		if ok {
			r.fail(fmt.Errorf("the connection was lost: %w", e))
		} else {
			r.fail(driver.ErrClosed)
		}
	})
	if !r.sub.Unordered {
		return r.join()
	}
	for _, topic := range r.sub.Topics {
		if _, err := r.open(topic, queueName(topic, r.sub.Group), min(max(r.sub.Prefetch, 1), math.MaxUint16)); err != nil {
			return err
		}
	}
	return nil
}

// fail ends receiving: everything that is out is lost.
func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	for len(r.lanes) > 0 {
		r.lanes[0].revoke()
	}
	r.wake()
}

// broke ends receiving if the channel of l broke before it was given away.
func (r *receiver) broke(l *lane, err error) {
	r.mu.Lock()
	revoked := l.revoked
	r.mu.Unlock()
	if !revoked {
		r.fail(fmt.Errorf("queue %q: acknowledging: %w", l.name, err))
	}
}

func (r *receiver) wake() { wait.Ring(r.woken) }

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	return wait.Deliveries(ctx, limit, r.woken, r.gone, r.take)
}

func (r *receiver) take(limit int) (ds []driver.Delivery, due time.Time, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return nil, due, driver.ErrClosed
	case r.err != nil:
		return nil, due, r.err
	}
	for i := range r.lanes { // another one first each time
		ds = r.lanes[(i+r.turn)%len(r.lanes)].take(ds, limit)
	}
	r.turn++
	return ds, due, nil // the server keeps what is not due
}

// Settle implements driver.Receiver. RabbitMQ does not confirm acks: one that is
// written just before the connection breaks may be lost, and the message comes
// again. Nor does Settle wait for ever until the server has what is to be tried
// again, see retry.
func (r *receiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, r.conn.kill)() // should the server not read
	acks, retries, refused, err := r.sort(s)
	if err != nil {
		return err
	}
	refused = append(refused, r.ack(acks))
	if err := r.retry(ctx, retries); errors.Is(err, driver.ErrRevoked) {
		refused = append(refused, err)
	} else if err != nil {
		return err // and then all once more
	}
	return errors.Join(refused...)
}

// ack tells the server, and notes what it was told. Its error wraps
// driver.ErrRevoked.
func (r *receiver) ack(acks map[*lane][]*ticket) error {
	r.acking.Lock()
	defer r.acking.Unlock()
	var refused []error
	for l, ts := range acks {
		err := l.ack(ts)
		if err != nil {
			r.broke(l, err)
			refused = append(refused, fmt.Errorf("%w: acknowledging: %w", driver.ErrRevoked, err))
		}
		r.mu.Lock()
		for _, t := range ts {
			t.acked = err == nil
			l.finish(t)
		}
		r.mu.Unlock()
		r.forget(ts)
	}
	return errors.Join(refused...)
}

// sort finds what is to be done. What needs nothing from the server it does.
func (r *receiver) sort(s []driver.Settlement) (acks map[*lane][]*ticket, retries []retrying, refused []error, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range s { // all or nothing, as far as the caller's mistakes go
		t, ok := s[i].Delivery.Handle.(*ticket)
		switch {
		case !ok || t.lane.r != r:
			return nil, nil, nil, fmt.Errorf("delivery of message %q at %s is not of this receiver", s[i].Delivery.ID, s[i].Delivery.Position)
		case s[i].Action < driver.Ack || s[i].Action > driver.Retry:
			return nil, nil, nil, fmt.Errorf("message %q: %v", s[i].Delivery.ID, s[i].Action)
		case s[i].Action == driver.Retry && !r.sub.Unordered:
			return nil, nil, nil, fmt.Errorf("message %q: %v: RabbitMQ cannot hold a key back", s[i].Delivery.ID, s[i].Action)
		}
	}
	acks = make(map[*lane][]*ticket)
	for i := range s {
		t := s[i].Delivery.Handle.(*ticket)
		l := t.lane
		switch {
		case l.revoked && !t.acked:
			l.finish(t)
			refused = append(refused, fmt.Errorf("%w: message %q", driver.ErrRevoked, s[i].Delivery.ID))
		case t.over, t.away:
		case s[i].Action == driver.Requeue:
			l.requeue(t)
		case s[i].Action == driver.Retry:
			retries = append(retries, retrying{t, &s[i]})
		default:
			acks[l] = append(acks[l], t)
		}
	}
	return acks, retries, refused, nil
}

// Close implements driver.Receiver.
func (r *receiver) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	close(r.gone)
	r.mu.Unlock()
	err := r.conn.end(ctx)
	done := make(chan struct{})
	go func() { // ends when nothing of the connection is left
		r.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, context.Cause(ctx))
	}
	if !r.sub.Unordered {
		r.leave(ctx)
	}
	r.broker.mu.Lock()
	delete(r.broker.receivers, r)
	r.broker.mu.Unlock()
	return err
}
