package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// receiver is a member of one group on each of its topics.
type receiver struct {
	broker *broker
	sub    driver.Subscription
	groups []*group
	woken  chan struct{} // holds one: look again
	gone   chan struct{} // closed when it has left
	left   bool
	turn   int
}

// wake makes Receive look again. It is called under the broker's lock.
func (r *receiver) wake() { wait.Ring(r.woken) }

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	ds, err := wait.Deliveries(ctx, limit, r.woken, r.gone, r.take)
	for i := range ds {
		own(&ds[i].Message)
	}
	return ds, err
}

func (r *receiver) take(limit int) (ds []driver.Delivery, due time.Time, err error) {
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	if r.left {
		return nil, due, driver.ErrClosed
	}
	now := time.Now()
	var mine []*cursor
	fresh := 0
	for _, g := range r.groups {
		for _, c := range g.cursors {
			if c.owner != nil && c.owner.to == r {
				mine = append(mine, c)
				fresh += int(c.part.end() - c.next)
			}
		}
	}
	if fresh > 0 {
		ds = make([]driver.Delivery, 0, min(limit, fresh))
	}
	for i := range mine { // another one first each time
		c := mine[(i+r.turn)%len(mine)]
		var at time.Time
		ds, at = c.take(ds, limit, now)
		if !at.IsZero() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	r.turn++
	return ds, due, nil
}

// Settle implements driver.Receiver.
func (r *receiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	for i := range s { // all or nothing, as far as the caller's mistakes go
		t, ok := s[i].Delivery.Handle.(*ticket)
		switch {
		case !ok || t.by.to != r:
			return fmt.Errorf("delivery of message %q at %s is not of this receiver", s[i].Delivery.ID, s[i].Delivery.Position)
		case s[i].Action < driver.Ack || s[i].Action > driver.Retry:
			return fmt.Errorf("message %q: %v", s[i].Delivery.ID, s[i].Action)
		}
	}
	var refused []error
	for i := range s {
		if t := s[i].Delivery.Handle.(*ticket); t.by.revoked {
			if !t.over {
				t.entry.attempt-- // it may never have begun
				t.cursor.hold(t)
			}
			refused = append(refused, fmt.Errorf("%w: message %q", driver.ErrRevoked, s[i].Delivery.ID))
		} else if !t.over {
			t.settle(&s[i])
		}
	}
	return errors.Join(refused...)
}

func (t *ticket) settle(s *driver.Settlement) {
	switch e := t.entry; s.Action {
	case driver.Ack:
		t.cursor.finish(t)
	case driver.Requeue:
		e.attempt--
		t.cursor.hold(t)
	case driver.Retry:
		e.attempt, e.headers = 0, cloneHeaders(s.Delivery.Headers)
		e.until = time.Now().Add(max(s.Delay, 0))
		t.cursor.hold(t)
	}
}

// Close implements driver.Receiver.
func (r *receiver) Close(context.Context) error {
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	r.leave()
	return nil
}

// leave gives everything back and shares the partitions anew. It needs the
// broker's lock.
func (r *receiver) leave() {
	if r.left {
		return
	}
	r.left = true
	close(r.gone)
	now := time.Now()
	for _, g := range r.groups {
		g.members = slices.DeleteFunc(g.members, func(m *receiver) bool { return m == r })
		for _, c := range g.cursors {
			c.recall(func(t *ticket) bool { return t.by.to == r })
		}
		g.rebalance(now)
	}
}
