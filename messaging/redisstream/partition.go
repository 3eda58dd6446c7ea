package redisstream

import (
	"container/heap"
	"slices"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Bounds of what a member holds of a partition, handed out or waiting behind a
// retry. Beyond them the partition is not read.
const (
	maxHeld      = 8192
	maxHeldBytes = 32 << 20
)

// partition is one while it belongs to a receiver, whose lock guards it.
type partition struct {
	topic  string
	number int
	stream string
	lane   string
	keys   []string // stream, owner, guard, delayed, headers
	token  string
	lost   chan struct{}

	from    string // where to go on taking over what former owners left; empty: all is taken over
	last    string // last entry that was read
	caught  bool   // there was nothing more to read
	most    int    // entries to ask for next: doubles until a read fails, as many as may not arrive
	size    int    // bytes of an entry, to go by: the average of the last read
	probed  time.Time
	renewed time.Time
	expiry  *time.Timer

	queues map[string]*queue
	ready  queueHeap // every queue that holds something and is not blocked
	turns  uint64
	out    int // handed out and not given back
	held   int // entries, out ones included
	bytes  int
	acked  bool // since the last trimming

	revoked bool
	till    time.Time // when revoked: given up then, whatever is out
	unused  []any     // ID and deliveries of what goes back unused
}

// queue is the unsettled messages of one key; a message without key, or of a
// group that asks for no order, has one of its own.
type queue struct {
	key   string
	held  []*entry // not handed out, in the stream's order
	out   int
	index int // in the heap; -1: not there
	// blocked: something was put back while later ones were out. They must
	// come back too before the key goes on, or one could overtake another.
	blocked bool
	turn    uint64 // rises whenever it goes on after that
}

type entry struct {
	queue   *queue
	id      entryID
	msg     driver.Message // without body
	body    string
	attempt int
	until   time.Time // not before
}

// ticket is one handing out of an entry: what Settle recognises.
type ticket struct {
	part  *partition
	entry *entry
	over  bool // settled, or given back
}

func (e *entry) size() int { return e.msg.Size() + len(e.body) }

func (p *partition) full() bool { return p.held >= maxHeld || p.bytes >= maxHeldBytes }

// entriesIn is how many entries to ask for, up to limit, so that they have room.
// A larger answer may take longer than the client waits, and so may the next.
func (p *partition) entriesIn(room, limit int) int {
	return max(1, min(limit, p.most, min(room, maxHeldBytes-p.bytes)/p.size))
}

// learn takes account of a read. What does not arrive may be large.
func (p *partition) learn(arrived bool, entries, bytes int) {
	switch {
	case !arrived:
		p.most, p.size = 1, readBytes
	case entries == 0:
		p.size = someBytes
	default:
		p.most, p.size = min(2*p.most, readMost), max(1, bytes/entries)
	}
}

// add puts what was read in line.
func (p *partition) add(e *entry, unordered bool) {
	key := e.msg.Key
	if unordered {
		key = ""
	}
	var q *queue
	if key != "" {
		q = p.queues[key]
	}
	if q == nil {
		p.turns++
		q = &queue{key: key, index: -1, turn: p.turns}
		if key != "" {
			p.queues[key] = q
		}
	}
	p.held++
	p.bytes += e.size()
	e.queue = q
	q.held = append(q.held, e)
	p.place(q)
}

// take hands out up to limit messages. due is when there may be more without
// anybody's doing; zero: not before something happens.
func (p *partition) take(ds []driver.Delivery, limit int, now time.Time) (_ []driver.Delivery, due time.Time) {
	for len(ds) < limit && len(p.ready) > 0 {
		q := p.ready[0]
		e := q.held[0]
		if e.until.After(now) {
			return ds, e.until
		}
		q.held[0], q.held = nil, q.held[1:]
		p.place(q)
		ds = append(ds, p.hand(e))
	}
	return ds, due
}

func (p *partition) hand(e *entry) driver.Delivery {
	e.attempt++
	e.queue.out++
	p.out++
	m := e.msg
	m.Body, m.Headers = []byte(e.body), cloneHeaders(m.Headers)
	return driver.Delivery{
		Message: m, Attempt: e.attempt, Position: e.id.String(), Lane: p.lane,
		Turn: e.queue.turn, Lost: p.lost, Handle: &ticket{part: p, entry: e},
	}
}

// finish settles the message for good.
func (p *partition) finish(t *ticket) {
	e := p.back(t)
	p.held--
	p.bytes -= e.size()
	p.acked = true
	if q := e.queue; q.out == 0 && len(q.held) == 0 && p.queues[q.key] == q {
		delete(p.queues, q.key)
	}
}

// hold puts the message back in its place.
func (p *partition) hold(t *ticket) {
	e := p.back(t)
	q := e.queue
	at, _ := slices.BinarySearchFunc(q.held, e.id, func(e *entry, id entryID) int { return e.id.compare(id) })
	q.held = slices.Insert(q.held, at, e)
	if q.out > 0 {
		q.blocked = true
	} else {
		p.goOn(q)
	}
	p.place(q)
}

func (p *partition) back(t *ticket) *entry {
	t.over = true
	p.out--
	q := t.entry.queue
	q.out--
	if q.out == 0 && q.blocked {
		p.goOn(q)
		p.place(q)
	}
	return t.entry
}

// goOn begins a new turn of q, which has nothing out.
func (p *partition) goOn(q *queue) {
	p.turns++
	q.turn, q.blocked = p.turns, false
}

// giveBack notes that nobody works on a message of a revoked partition.
func (p *partition) giveBack(t *ticket) {
	t.over = true
	p.out--
	p.unused = append(p.unused, t.entry.id.String(), strconv.Itoa(t.entry.attempt-1))
}

// revoke ends handing out and settling.
func (p *partition) revoke(till time.Time) {
	p.revoked, p.till = true, till
	close(p.lost)
	p.expiry.Stop()
	seen := make(map[*queue]bool)
	note := func(q *queue) {
		if seen[q] {
			return
		}
		seen[q] = true
		for _, e := range q.held {
			p.unused = append(p.unused, e.id.String(), strconv.Itoa(e.attempt))
		}
	}
	for _, q := range p.queues {
		note(q)
	}
	for _, q := range p.ready {
		note(q)
	}
	p.queues, p.ready = nil, nil
}

// place puts q where its first message belongs in the heap.
func (p *partition) place(q *queue) {
	switch may := len(q.held) > 0 && !q.blocked; {
	case may && q.index < 0:
		heap.Push(&p.ready, q)
	case may:
		heap.Fix(&p.ready, q.index)
	case q.index >= 0:
		heap.Remove(&p.ready, q.index)
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
	return a.id.compare(b.id) < 0
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
