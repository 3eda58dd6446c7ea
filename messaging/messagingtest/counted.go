package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// counted knows which deliveries of a driver may be handled again: those that
// were not settled, and what was handed out after them in the same partition, for
// where a group's position is one number nothing beyond a gap is settled. What
// was put back is such a gap too, until it has come again and been settled.
type counted struct {
	driver.Broker
	mu    sync.Mutex
	lanes map[lane]*held
	past  map[string][]handing // by ID
}

// handing is one delivery, for who has to find out why it came twice.
type handing struct {
	lane, position string
	at, over       time.Time // over is zero until it is settled
	as             driver.Action
}

// handings says what became of each delivery of a message, in time since begin.
func (c *counted) handings(id string, begin time.Time) (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.past[id] {
		line := fmt.Sprintf("%s@%s at %v", h.lane, h.position, h.at.Sub(begin).Round(time.Millisecond))
		if !h.over.IsZero() {
			line += fmt.Sprintf(", %v at %v", h.as, h.over.Sub(begin).Round(time.Millisecond))
		}
		lines = append(lines, line)
	}
	return lines
}

// lane is a partition for as long as one receiver owns it.
type lane struct {
	lost <-chan struct{}
	name string
}

type held struct {
	first int // number of the first delivery in fates
	turns map[string]int
	fates []fate // from the first delivery on that is not settled
}

type fate int

const (
	out fate = iota
	putBack
	settled
)

func count(d driver.Broker) *counted {
	return &counted{Broker: d, lanes: make(map[lane]*held), past: make(map[string][]handing)}
}

// unsettled is the number of deliveries that may be handled again. What was put
// back has not been handled.
func (c *counted) unsettled() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.lanes {
		for _, f := range h.fates {
			if f != putBack {
				n++
			}
		}
	}
	return n
}

func (c *counted) receive(d *driver.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past[d.ID] = append(c.past[d.ID], handing{lane: d.Lane, position: d.Position, at: time.Now()})
	at := lane{d.Lost, d.Lane}
	h := c.lanes[at]
	if h == nil {
		h = &held{turns: make(map[string]int)}
		c.lanes[at] = h
	}
	if turn, ok := h.turns[d.Position]; ok { // it was put back
		h.fates[turn-h.first] = out
		return
	}
	h.turns[d.Position] = h.first + len(h.fates)
	h.fates = append(h.fates, out)
}

func (c *counted) settle(s *driver.Settlement) {
	d := &s.Delivery
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.lanes[lane{d.Lost, d.Lane}]
	turn, ok := h.turns[d.Position]
	if !ok {
		return // settled before
	}
	for i := range slices.Backward(c.past[d.ID]) {
		if h := &c.past[d.ID][i]; h.position == d.Position && h.lane == d.Lane {
			h.over, h.as = time.Now(), s.Action
			break
		}
	}
	if s.Action == driver.Requeue {
		h.fates[turn-h.first] = putBack
		return
	}
	delete(h.turns, d.Position)
	h.fates[turn-h.first] = settled
	n := 0
	for n < len(h.fates) && h.fates[n] == settled {
		n++
	}
	h.first, h.fates = h.first+n, h.fates[n:]
}

// Subscribe implements driver.Driver.
func (c *counted) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.Broker.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	counting := &countedReceiver{r, c}
	if n, ok := r.(driver.Noter); ok {
		return &countedNoter{counting, n}, nil
	}
	return counting, nil
}

// Declare implements driver.Driver.
func (c *counted) Declare(ctx context.Context, s driver.Subscription) error {
	if d, ok := c.Broker.(driver.Declarer); ok {
		return d.Declare(ctx, s)
	}
	return nil
}

// Verify implements driver.Driver.
func (c *counted) Verify(ctx context.Context, s driver.Subscription) error {
	if d, ok := c.Broker.(driver.Declarer); ok {
		return d.Verify(ctx, s)
	}
	return nil
}

type countedReceiver struct {
	driver.Receiver
	c *counted
}

// Receive implements driver.Receiver.
func (r *countedReceiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	ds, err := r.Receiver.Receive(ctx, limit)
	for i := range ds {
		r.c.receive(&ds[i])
	}
	return ds, err
}

// Settle counts retried deliveries as settled: they come again because they have
// to.
func (r *countedReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	err := r.Receiver.Settle(ctx, s)
	if err != nil && !errors.Is(err, driver.ErrRevoked) {
		return err
	}
	for i := range s {
		if err == nil || !lost(&s[i].Delivery) {
			r.c.settle(&s[i])
		}
	}
	return err
}

func lost(d *driver.Delivery) bool {
	select {
	case <-d.Lost:
		return true
	default:
		return false
	}
}

// countedNoter passes notes on.
type countedNoter struct {
	*countedReceiver
	to driver.Noter
}

// Note implements driver.Noter.
func (r *countedNoter) Note(ctx context.Context, notes []driver.Noted) error {
	return r.to.Note(ctx, notes)
}
