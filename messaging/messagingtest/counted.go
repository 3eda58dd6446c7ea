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

// counted books what a client is handed and what becomes of it, so that somebody
// can tell which deliveries may be handled again.
type counted struct {
	driver.Broker
	unconfirmed, byPosition bool // as Harness has them

	mu     sync.Mutex
	lanes  map[lane]*line
	past   map[string][]*handing // by ID
	faults []fault
}

// handing is one delivery.
type handing struct {
	lane, position string
	handle         any       // the driver's
	at             time.Time // it was handed out
	asked, over    time.Time // Settle was called, and took effect; zero until then
	as             driver.Action
	passed         bool // everything before it in its lane was settled too
}

// lane is a partition for as long as one receiver owns it.
type lane struct {
	lost <-chan struct{}
	name string
}

// line is the deliveries of a lane from the first on that is not settled. What was
// put back keeps its place until it has come again and been settled.
type line struct {
	queue []*handing
	back  map[string]int // where in the queue what was put back is, by position, counted from the lane's first
	first int            // what is at the head of the queue, counted likewise
}

// fault is a time in which a client's connections, or the broker, broke.
type fault struct{ begin, end time.Time }

// underway is how long before a fault, or after it, an ack that nobody confirms
// may be lost with it.
const underway = time.Second

func count(h *Harness) *counted {
	return &counted{
		Broker: h.Driver, unconfirmed: h.Unconfirmed, byPosition: h.ByPosition,
		lanes: make(map[lane]*line), past: make(map[string][]*handing),
	}
}

// during books that f is a fault.
func (c *counted) during(f func()) {
	begin := time.Now()
	f()
	c.broke(begin, time.Now())
}

func (c *counted) broke(begin, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fault{begin, end})
}

// final says that h was acked, and that the broker knows.
func (c *counted) final(h *handing) bool {
	if h.as != driver.Ack || c.byPosition && !h.passed {
		return false
	}
	return !c.unconfirmed || !slices.ContainsFunc(c.faults, func(f fault) bool {
		return h.asked.Before(f.end.Add(underway)) && h.over.After(f.begin.Add(-underway))
	})
}

// tally is what became of a message's deliveries: how many acks are final, and
// how many deliveries are acked without being final, or not settled at all. What
// was put back or retried has not been handled.
type tally struct{ final, open int }

func (c *counted) tally(of map[string]tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, past := range c.past {
		t := of[id]
		for _, h := range past {
			switch {
			case c.final(h):
				t.final++
			case h.over.IsZero() || h.as == driver.Ack:
				t.open++
			}
		}
		of[id] = t
	}
}

// settledAgain returns the messages whose acks are final more often than they were
// published, which is once and as often as unknown says, or that were handled more
// often than that and than they were handed out without being settled.
func settledAgain(all map[string]tally, handled, unknown map[string]int) (ids []string) {
	for id, t := range all {
		if copies := 1 + unknown[id]; t.final > copies || handled[id] > copies+t.open {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// handings says what became of each delivery of a message, in time since begin.
func (c *counted) handings(id string, begin time.Time) (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.past[id] {
		text := fmt.Sprintf("%s@%s at %v", h.lane, h.position, h.at.Sub(begin).Round(time.Millisecond))
		if !h.over.IsZero() {
			text += fmt.Sprintf(", %v at %v", h.as, h.over.Sub(begin).Round(time.Millisecond))
		}
		if h.as == driver.Ack && !c.final(h) {
			text += ", which may be lost"
		}
		lines = append(lines, text)
	}
	return lines
}

// receive books d and makes it recognisable.
func (c *counted) receive(d *driver.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &handing{lane: d.Lane, position: d.Position, handle: d.Handle, at: time.Now()}
	d.Handle = h
	c.past[d.ID] = append(c.past[d.ID], h)
	at := lane{d.Lost, d.Lane}
	l := c.lanes[at]
	if l == nil {
		l = &line{back: make(map[string]int)}
		c.lanes[at] = l
	}
	if n, ok := l.back[d.Position]; ok {
		delete(l.back, d.Position)
		l.queue[n-l.first] = h
		return
	}
	l.queue = append(l.queue, h)
}

func (c *counted) settle(s *driver.Settlement, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := s.Delivery.Handle.(*handing)
	if !h.over.IsZero() {
		return // before
	}
	h.asked, h.over, h.as = asked, time.Now(), s.Action
	l := c.lanes[lane{s.Delivery.Lost, h.lane}]
	if s.Action == driver.Requeue {
		l.back[h.position] = l.first + slices.Index(l.queue, h)
		return
	}
	n := 0
	for n < len(l.queue) && !l.queue[n].over.IsZero() && l.queue[n].as != driver.Requeue {
		l.queue[n].passed = true
		n++
	}
	l.first, l.queue = l.first+n, l.queue[n:]
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
	asked := time.Now()
	theirs := slices.Clone(s)
	for i := range theirs {
		theirs[i].Delivery = plain(&theirs[i].Delivery)
	}
	err := r.Receiver.Settle(ctx, theirs)
	if err != nil && !errors.Is(err, driver.ErrRevoked) {
		return err
	}
	for i := range s {
		if err == nil || !lost(&s[i].Delivery) {
			r.c.settle(&s[i], asked)
		}
	}
	return err
}

// plain is d as its driver handed it out.
func plain(d *driver.Delivery) driver.Delivery {
	own := *d
	own.Handle = d.Handle.(*handing).handle
	return own
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
	theirs := slices.Clone(notes)
	for i := range theirs {
		theirs[i].Delivery = plain(&theirs[i].Delivery)
	}
	return r.to.Note(ctx, theirs)
}
