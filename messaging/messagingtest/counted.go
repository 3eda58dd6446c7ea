package messagingtest

import (
	"context"
	"sync"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// counted knows which deliveries of a driver may come again: those that were
// not settled, and what was handed out after them in the same partition, for
// where a group's position is one number nothing beyond a gap is settled.
type counted struct {
	driver.Broker
	mu    sync.Mutex
	lanes map[lane]*held
}

// lane is a partition for as long as one receiver owns it.
type lane struct {
	lost <-chan struct{}
	name string
}

type held struct {
	first int // number of the first delivery in settled
	turns map[string]int
	// settled says of each delivery from the first one that is not whether it is.
	settled []bool
}

func count(d driver.Broker) *counted { return &counted{Broker: d, lanes: make(map[lane]*held)} }

// unsettled is the number of deliveries that may come again.
func (c *counted) unsettled() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.lanes {
		n += len(h.settled)
	}
	return n
}

func (c *counted) receive(d *driver.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := lane{d.Lost, d.Lane}
	h := c.lanes[at]
	if h == nil {
		h = &held{turns: make(map[string]int)}
		c.lanes[at] = h
	}
	h.turns[d.Position] = h.first + len(h.settled)
	h.settled = append(h.settled, false)
}

func (c *counted) settle(d *driver.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.lanes[lane{d.Lost, d.Lane}]
	turn, ok := h.turns[d.Position]
	if !ok {
		return // settled before
	}
	delete(h.turns, d.Position)
	h.settled[turn-h.first] = true
	n := 0
	for n < len(h.settled) && h.settled[n] {
		n++
	}
	h.first, h.settled = h.first+n, h.settled[n:]
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

// Settle counts requeued and retried deliveries as settled: they come again
// because they have to. Of a batch with a refusal in it none is counted.
func (r *countedReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	err := r.Receiver.Settle(ctx, s)
	if err == nil {
		for i := range s {
			r.c.settle(&s[i].Delivery)
		}
	}
	return err
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
