package kafka

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/frontier"
)

const (
	// long is when the first record that is not settled is a stuck one, and what
	// is settled beyond it is written down.
	long = time.Second
	// farewell is how long the last commit of a claim may take.
	farewell = time.Second
)

// claim is one partition while it belongs to a receiver, whose lock guards it.
type claim struct {
	receiver  *receiver
	session   sarama.ConsumerGroupSession
	topic     string
	partition int32
	lane      string
	tier      *tier // of retries; nil: of the topic itself
	lost      chan struct{}

	done       *frontier.Tracker
	next       int64 // offsets below have been queued
	committed  int64
	before     memo                  // what former owners wrote down of what has not been read
	notes      map[int64]driver.Note // of what is not settled
	changes    int                   // of notes, and of what is settled beyond the frontier
	told       int                   // of these, the group knows
	alarm      *time.Timer           // the group will hear of them; nil: nobody waits for that
	overflow   bool                  // not all of them could be written down
	queue      []*ticket             // by offset
	bytes      int                   // of what is in queue
	room       chan struct{}         // holds one: the queue has become short
	out        int                   // handed out and not settled
	paused     bool
	revoked    bool // nothing is handed out or settled any more
	committing bool
	ended      bool          // the client has been told to let go: no commits
	idle       chan struct{} // closed when it is revoked, nothing is out and no commit under way
	quiet      bool          // idle is closed
}

// ticket is one record on its way through the receiver.
type ticket struct {
	claim  *claim
	record *sarama.ConsumerMessage
	out    bool // with the front
	over   bool // settled
	copied bool // to a tier
}

// handler receives the client's callbacks.
type handler struct{ r *receiver }

// Setup implements sarama.ConsumerGroupHandler.
func (h handler) Setup(sarama.ConsumerGroupSession) error {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.r.joined = true
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler. It never stops reading,
// since the end of the channel is how the client tells of a revocation; it
// waits a moment or pauses fetching instead. The client waits for its return before it lets the
// partition go.
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, pc sarama.ConsumerGroupClaim) error {
	r := h.r
	c := &claim{
		receiver: r, session: session, topic: pc.Topic(), partition: pc.Partition(),
		lane: pc.Topic() + "/" + strconv.Itoa(int(pc.Partition())), lost: make(chan struct{}), idle: make(chan struct{}),
		room: make(chan struct{}, 1), done: frontier.New(pc.InitialOffset(), 0), next: pc.InitialOffset(), committed: pc.InitialOffset(),
		notes: make(map[int64]driver.Note),
	}
	c.tier = r.tierOf(c.topic)
	if err := r.recall(c); err != nil {
		r.fail(fmt.Errorf("what group %q knows of %s: %w", r.sub.Group, c.lane, err))
		return nil
	}
	r.mu.Lock()
	r.claims = append(r.claims, c)
	r.mu.Unlock()
	late := time.NewTimer(linger)
	defer late.Stop()
	var some []*sarama.ConsumerMessage
	for m := range pc.Messages() {
		some = fetched(append(some[:0], m), pc.Messages())
		if c.add(some) < easy {
			continue
		}
		late.Reset(linger)
		select {
		case <-c.room:
		case <-late.C:
		}
	}
	r.mu.Lock()
	c.revoke()
	r.mu.Unlock()
	deadline := time.NewTimer(r.drain)
	defer deadline.Stop()
	select {
	case <-c.idle:
	case <-deadline.C:
	case <-r.gone:
	}
	r.commitBehind(c, farewell)
	r.mu.Lock()
	c.ended = true
	r.mu.Unlock()
	return nil
}

// recall reads what former owners wrote down, for as long as a broker may take
// to come back.
func (r *receiver) recall(c *claim) error {
	begin := time.Now()
	for {
		m, err := r.broker.memoOf(c.topic, r.sub.Group, c.partition, c.next)
		if err == nil {
			c.before = m
			return nil
		}
		if time.Since(begin) > patience || !sleep(c.session.Context(), 100*time.Millisecond) {
			return err
		}
	}
}

// fetched appends what has been fetched already, not too much of it.
func fetched(some []*sarama.ConsumerMessage, from <-chan *sarama.ConsumerMessage) []*sarama.ConsumerMessage {
	for len(some) < easy/4 {
		select {
		case m, ok := <-from:
			if !ok {
				return some
			}
			some = append(some, m)
		default:
			return some
		}
	}
	return some
}

// add returns how many are in the queue.
func (c *claim) add(some []*sarama.ConsumerMessage) int {
	r := c.receiver
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.revoked {
		return 0
	}
	now, before, unsaid := time.Now(), len(c.queue), false
	tickets := make([]ticket, len(some))
	for i, m := range some {
		if m.Offset >= c.next {
			tickets[i] = ticket{claim: c, record: m}
			unsaid = c.line(&tickets[i], now) || unsaid
		}
	}
	if unsaid {
		r.broker.start(func() { r.commitBehind(c, patience) })
	}
	c.flow()
	if len(c.queue) > before {
		r.wake()
		select {
		case <-c.room: // of before
		default:
		}
	}
	return len(c.queue)
}

// line puts t in line, unless the group has settled it already, or it is
// another group's. unsaid: nobody else may tell the group that it is settled.
func (c *claim) line(t *ticket, now time.Time) (unsaid bool) {
	offset := t.record.Offset
	c.next = offset + 1
	c.done.Begin(offset, now)
	settled, foreign := c.before.settled(offset), c.tier != nil && !isOf(t.record, c.receiver.sub.Group)
	if settled || foreign {
		c.changes++
		c.done.Done(offset)
		return foreign || !c.before.settled(c.next) // the last of them
	}
	if n, ok := c.before.notes[offset]; ok {
		c.notes[offset] = n
		delete(c.before.notes, offset)
	}
	c.queue = append(c.queue, t)
	c.bytes += size(t.record)
	return false
}

// take hands out up to limit records. at is when the next one of a tier is due,
// if that is why there are no more.
func (c *claim) take(ds []driver.Delivery, limit int) (_ []driver.Delivery, at time.Time) {
	n := min(limit-len(ds), len(c.queue))
	for i, t := range c.queue[:n] {
		if c.tier != nil {
			if d := due(t.record); time.Until(d) > 0 {
				n, at = i, d
				break
			}
		}
		t.out = true
		c.bytes -= size(t.record)
		d := driver.Delivery{
			Message: decode(t.record), Position: position(t.record, '/'), Lane: c.lane, Doubt: c.receiver.doubt, Lost: c.lost, Native: t.record, Handle: t,
		}
		if c.tier != nil {
			d.Message = c.tier.original(d.Message)
		}
		if n, ok := c.notes[t.record.Offset]; ok {
			d.Note = &n
		}
		ds = append(ds, d)
	}
	c.out += n
	clear(c.queue[:n])
	c.queue = c.queue[n:]
	c.flow()
	return ds, at
}

func (c *claim) ack(t *ticket) {
	if !t.out || t.over {
		return
	}
	t.over = true
	c.out--
	c.changes++
	delete(c.notes, t.record.Offset)
	if !c.done.Done(t.record.Offset) { // else Settle commits
		c.tellLater(0)
	}
	c.flow()
}

// dirty reports whether there is something to tell the group: a frontier that
// moved, notes, and what is settled beyond a record that takes long, or is left
// to the next owner.
func (c *claim) dirty() bool {
	if c.done.Frontier() > c.committed {
		return true
	}
	_, since, _ := c.done.Oldest()
	return c.changes != c.told && (c.revoked || len(c.notes) > 0 || time.Since(since) >= long)
}

// requeue puts the record back in its place. The next delivery has a ticket of
// its own, so that settling this one again does nothing.
func (c *claim) requeue(t *ticket) {
	if !t.out || t.over {
		return
	}
	t.over = true
	c.out--
	again := &ticket{claim: c, record: t.record}
	i, _ := slices.BinarySearchFunc(c.queue, again, func(a, b *ticket) int { return cmp.Compare(a.record.Offset, b.record.Offset) })
	c.queue = slices.Insert(c.queue, i, again)
	c.bytes += size(t.record)
	c.flow()
	c.receiver.wake()
}

// giveBack notes that nobody works on a lost record any more.
func (c *claim) giveBack(t *ticket) {
	if t.out && !t.over {
		t.over = true
		c.out--
		c.rest()
	}
}

// revoke ends handing out and settling.
func (c *claim) revoke() {
	if c.revoked {
		return
	}
	c.revoked = true
	close(c.lost)
	c.queue = nil
	if c.alarm != nil {
		c.alarm.Stop()
	}
	if c.paused {
		c.resume()
	}
	c.receiver.claims = slices.DeleteFunc(c.receiver.claims, func(x *claim) bool { return x == c })
	c.rest()
}

// rest tells ConsumeClaim when there is nothing left to wait for.
func (c *claim) rest() {
	if c.revoked && c.out == 0 && !c.committing && !c.quiet {
		c.quiet = true
		close(c.idle)
	}
}
