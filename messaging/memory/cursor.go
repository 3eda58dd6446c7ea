package memory

import (
	"container/heap"
	"slices"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/frontier"
)

// cursor is where a group stands in a partition. Messages below next were
// handed out at least once or wait behind one that was; those of them that are
// not settled are entries, in a queue per key.
type cursor struct {
	part    *partition
	next    int64
	done    *frontier.Tracker
	settled int // above the frontier
	turns   uint64
	queues  map[string]*queue
	ready   queueHeap         // every queue that holds something and is not blocked
	out     map[int64]*ticket // handed out and not given back

	owner *assignment
	// ceding is when the former owner's time to give back ends; zero: there is
	// nothing to give back.
	ceding time.Time
}

// assignment is the time for which a receiver owns a partition.
type assignment struct {
	to      *receiver
	lost    chan struct{}
	revoked bool
}

// queue is the unsettled messages of one key; a message without key, or of a
// group that asks for no order, has one of its own.
type queue struct {
	key   string
	held  []*entry // not handed out, by offset
	out   int
	index int // in the heap; -1: not there
	// blocked: something was put back while later ones were out. They must
	// come back too before the key goes on, or one could overtake another.
	blocked bool
	turn    uint64 // rises whenever it goes on after that
}

type entry struct {
	queue     *queue
	offset    int64
	headers   driver.Headers
	attempt   int
	firstSeen time.Time
	until     time.Time // not before
}

// ticket is one handing out of an entry: what Settle recognises.
type ticket struct {
	cursor *cursor
	entry  *entry
	by     *assignment
	over   bool // settled, or taken back
}

func (c *cursor) assign(r *receiver) {
	c.owner = &assignment{to: r, lost: make(chan struct{})}
	r.wake()
}

func (c *cursor) revoke(now time.Time) {
	a := c.owner
	a.revoked = true
	close(a.lost)
	c.owner = nil
	if len(c.out) > 0 && c.ceding.IsZero() {
		c.ceding = now.Add(max(a.to.sub.Drain, 0))
	}
}

// take adds to ds, up to limit. If it gives fewer, due is when there may be more
// without anybody's doing; zero: not before something happens.
func (c *cursor) take(ds []driver.Delivery, limit int, now time.Time) (_ []driver.Delivery, due time.Time) {
	if !c.ceding.IsZero() {
		if len(c.out) > 0 && now.Before(c.ceding) {
			return ds, c.ceding
		}
		c.recall(func(*ticket) bool { return true })
		c.ceding = time.Time{}
	}
	for len(ds) < limit && len(c.ready) > 0 {
		q := c.ready[0]
		if u := q.held[0].until; u.After(now) {
			due = u
			break
		}
		e := q.held[0]
		q.held[0], q.held = nil, q.held[1:]
		c.place(q)
		ds = append(ds, c.hand(e, now))
	}
	for len(ds) < limit && c.next < c.part.end() {
		m := &c.part.log[c.next-c.part.base].msg
		q := c.queue(m.Key)
		e := &entry{queue: q, offset: c.next, headers: m.Headers}
		c.done.Begin(c.next, now)
		c.next++
		if len(q.held) > 0 { // its key waits
			q.held = append(q.held, e)
			continue
		}
		ds = append(ds, c.hand(e, now))
	}
	return ds, due
}

func (c *cursor) queue(key string) *queue {
	if key == "" || c.owner.to.sub.Unordered {
		return c.newQueue("")
	}
	q := c.queues[key]
	if q == nil {
		q = c.newQueue(key)
		c.queues[key] = q
	}
	return q
}

func (c *cursor) newQueue(key string) *queue {
	c.turns++
	return &queue{key: key, index: -1, turn: c.turns}
}

// goOn begins a new turn of q, which has nothing out.
func (c *cursor) goOn(q *queue) {
	c.turns++
	q.turn, q.blocked = c.turns, false
}

func (c *cursor) hand(e *entry, now time.Time) driver.Delivery {
	e.attempt++
	e.queue.out++
	if e.firstSeen.IsZero() {
		e.firstSeen = now
	}
	t := &ticket{cursor: c, entry: e, by: c.owner}
	c.out[e.offset] = t
	m := c.part.log[e.offset-c.part.base].msg
	m.Headers = e.headers
	return driver.Delivery{
		Message: m, Attempt: e.attempt, FirstSeen: e.firstSeen,
		Position: strconv.FormatInt(e.offset, 10), Lane: c.part.lane,
		Turn: e.queue.turn, Lost: c.owner.lost, Handle: t,
	}
}

// finish settles the message for good.
func (c *cursor) finish(t *ticket) {
	e := c.back(t)
	before := c.done.Gap()
	if c.done.Done(e.offset) {
		c.settled -= before - c.done.Gap() - 1
	} else {
		c.settled++
	}
	c.forget(e.queue)
}

// hold puts the message back in its place.
func (c *cursor) hold(t *ticket) {
	e := c.back(t)
	q := e.queue
	at, _ := slices.BinarySearchFunc(q.held, e.offset, byOffset)
	q.held = slices.Insert(q.held, at, e)
	if q.out > 0 {
		q.blocked = true
	} else {
		c.goOn(q)
	}
	c.place(q)
	c.wake()
}

func (c *cursor) wake() {
	if c.owner != nil {
		c.owner.to.wake()
	}
}

// recall takes back, with the attempt counted, what nobody gave back.
func (c *cursor) recall(which func(*ticket) bool) {
	for _, t := range c.out {
		if which(t) {
			c.hold(t)
		}
	}
}

func (c *cursor) back(t *ticket) *entry {
	t.over = true
	delete(c.out, t.entry.offset)
	q := t.entry.queue
	q.out--
	if q.out == 0 && q.blocked {
		c.goOn(q)
		c.place(q)
		c.wake()
	}
	if len(c.out) == 0 && !c.ceding.IsZero() {
		c.ceding = time.Time{}
		c.wake()
	}
	return t.entry
}

// place puts q where its first message belongs in the heap.
func (c *cursor) place(q *queue) {
	switch may := len(q.held) > 0 && !q.blocked; {
	case may && q.index < 0:
		heap.Push(&c.ready, q)
	case may:
		heap.Fix(&c.ready, q.index)
	case q.index >= 0:
		heap.Remove(&c.ready, q.index)
	}
}

func (c *cursor) forget(q *queue) {
	if q.out == 0 && len(q.held) == 0 && c.queues[q.key] == q {
		delete(c.queues, q.key)
	}
}

// queueHeap has the queue whose first message may go first at the top.
type queueHeap []*queue

func (h queueHeap) Len() int { return len(h) }
func (h queueHeap) Less(i, j int) bool {
	a, b := h[i].held[0], h[j].held[0]
	if c := a.until.Compare(b.until); c != 0 {
		return c < 0
	}
	return a.offset < b.offset
}
func (h queueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *queueHeap) Push(x any) {
	q := x.(*queue)
	q.index = len(*h)
	*h = append(*h, q)
}

// Pop implements heap.Interface.
func (h *queueHeap) Pop() any {
	q := (*h)[len(*h)-1]
	q.index = -1
	*h = slices.Delete(*h, len(*h)-1, len(*h))
	return q
}
