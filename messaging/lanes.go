package messaging

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// item is one delivery on its way through a consumer.
type item struct {
	raw   driver.Delivery
	d     *Delivery // own, until a retry here changes it
	own   Delivery
	until time.Time // not before; zero: at once
	dead  *burial   // nil: it is no dead letter

	since time.Time // when it came
	over  bool      // the broker knows
}

// left is how long it must not begin yet.
func (it *item) left() time.Duration {
	if it.until.IsZero() {
		return 0
	}
	return time.Until(it.until)
}

func (it *item) isLost() bool {
	select {
	case <-it.raw.Lost:
		return true
	default:
		return false
	}
}

// doubt returns nil if it may begin.
func (it *item) doubt() (again <-chan struct{}) {
	if it.raw.Doubt == nil {
		return nil
	}
	return it.raw.Doubt()
}

// lanes puts deliveries in line: one line per key, or per partition, of which
// only the first is worked on. It bounds how many are held.
type lanes struct {
	order    Order
	prefetch int
	most     int        // held in all, those that wait for a retry included
	ready    chan *lane // whose first may be worked on; has room for all
	freed    chan struct{}

	mu         sync.Mutex
	by         map[laneKey]*lane
	lingering  []*lane // empty, kept for what Receive may still return
	held       int     // handed out to us and not settled
	all        []*item // these, and some that are settled, as they came
	waiting    int     // of these, in parked lanes
	active     int     // of these, in a handler
	received   uint64  // the last Receive that began
	dispatched uint64  // the last Receive whose deliveries are in line
	finished   bool
	empty      chan struct{}
}

type laneKey struct{ topic, lane, key string }

type lane struct {
	key   laneKey
	own   bool // has no key, is not in the map
	queue []*item
	busy  bool // a worker has it, or will
	// stale is the last turn of the key that a retry has ended: what was
	// handed out in it goes back, and comes again after the retried message.
	stale uint64
	// keep is the last Receive that may return more of that turn.
	keep   uint64
	parked bool
}

func newLanes(o *ConsumerOptions, most int) *lanes {
	return &lanes{
		order: o.Order, prefetch: o.Prefetch, most: most, by: make(map[laneKey]*lane),
		ready: make(chan *lane, most), freed: make(chan struct{}, 1), empty: make(chan struct{}),
	}
}

// room waits until more may be taken and returns how many; 0: ctx has ended.
func (l *lanes) room(ctx context.Context) int {
	for {
		l.mu.Lock()
		n := min(l.prefetch-(l.held-l.waiting), l.most-l.held)
		l.mu.Unlock()
		if ctx.Err() != nil {
			return 0
		}
		if n > 0 {
			return n
		}
		select {
		case <-l.freed:
		case <-ctx.Done():
		}
	}
}

// ask numbers a Receive that is about to begin.
func (l *lanes) ask() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received++
	return l.received
}

// dispatch puts what Receive number seq returned in line.
func (l *lanes) dispatch(items []*item, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range items {
		l.all = append(l.all, it)
		x := l.lane(&it.raw)
		x.queue = append(x.queue, it)
		l.held++
		if x.parked {
			l.waiting++
		}
		if !x.busy {
			x.busy = true
			l.ready <- x
		}
	}
	l.dispatched = seq
	keep := l.lingering[:0]
	for _, x := range l.lingering {
		if x.keep > seq {
			keep = append(keep, x)
		} else if !x.busy {
			delete(l.by, x.key)
		}
	}
	clear(l.lingering[len(keep):])
	l.lingering = keep
}

func (l *lanes) lane(d *driver.Delivery) *lane {
	k := laneKey{topic: d.Topic, lane: d.Lane}
	switch {
	case l.order == ByPartition:
	case l.order == ByKey && d.Key != "":
		k.key = d.Key
	default:
		return &lane{own: true}
	}
	x := l.by[k]
	if x == nil {
		x = &lane{key: k}
		l.by[k] = x
	}
	return x
}

// head returns the first of x; back is true if it is to be given back.
func (l *lanes) head(x *lane) (it *item, back bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active++
	it = x.queue[0]
	return it, l.finished || x.stale > 0 && it.raw.Turn <= x.stale
}

// next takes the first of x, with which its worker is through, out of line.
func (l *lanes) next(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	l.pop(x)
}

func (l *lanes) pop(x *lane) {
	x.queue[0] = nil
	x.queue = x.queue[1:]
	switch {
	case len(x.queue) > 0:
		l.ready <- x
		return
	case x.own:
	case x.keep > l.dispatched:
		l.lingering = append(l.lingering, x)
	default:
		delete(l.by, x.key)
	}
	x.busy = false
}

// away notes that nobody works on the first of a lane, which stands still: it
// will be parked, or its first is on its way back to the broker, to come again
// after a delay, and back notes that the broker has it.
func (l *lanes) away() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

func (l *lanes) back(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.stale, x.keep = max(x.stale, x.queue[0].raw.Turn), l.received
	l.pop(x)
}

// park lets x wait with its first: it does not count against prefetch.
func (l *lanes) park(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.parked = true
	l.waiting += len(x.queue)
	l.free()
}

func (l *lanes) unpark(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.parked = false
	l.waiting -= len(x.queue)
	l.ready <- x
}

// settled notes that the broker knows about these.
func (l *lanes) settled(items ...*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= len(items)
	for _, it := range items {
		it.over = true
	}
	if len(l.all) > 2*l.held+64 {
		l.all = slices.DeleteFunc(l.all, func(it *item) bool { return it.over })
	}
	if l.finished && l.held == 0 {
		close(l.empty)
	}
	l.free()
}

func (l *lanes) free() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// finish has everything that has not begun given back. The channel is closed
// when nothing is held any more. No dispatch may follow.
func (l *lanes) finish() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = true
	if l.held == 0 {
		close(l.empty)
	}
	return l.empty
}

// oldest returns when the oldest came of what is held; zero: there is nothing.
func (l *lanes) oldest() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.all {
		if !it.over {
			return it.since
		}
	}
	return time.Time{}
}

// running returns the number of handlers.
func (l *lanes) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active
}
