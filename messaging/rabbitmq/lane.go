package rabbitmq

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// lane is one queue that a receiver consumes, on a channel of its own: closing
// the channel gives back what it holds, in order, in one step.
type lane struct {
	r           *receiver
	topic, name string
	ch          *amqp.Channel
	acker       amqp.Acknowledger // the channel
	lost        chan struct{}
	idle        chan struct{} // closed when it is revoked and nothing is out
	over        chan struct{} // closed when the channel is

	// Under the receiver's lock.
	queue   []*ticket // by tag
	out     int
	revoked bool
	noted   map[string]driver.Note // by ID; of what is not settled

	tags tags // under r.acking
}

// ticket is one handing out of a message: what Settle recognises.
type ticket struct {
	lane *lane
	d    *amqp.Delivery
	msg  driver.Message

	// Under the receiver's lock.
	over  bool // settled, or put back
	acked bool
	away  bool // its copy is under way
}

// open begins to consume a queue. An ordered queue hands out nothing while
// another member consumes it.
func (r *receiver) open(topic, name string, prefetch int) (*lane, error) {
	fail := func(err error) (*lane, error) { return nil, fmt.Errorf("consuming queue %q: %w", name, err) }
	ch, err := r.conn.Channel()
	if err != nil {
		return fail(err)
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return fail(err)
	}
	in, err := ch.Consume(name, "", false, false, false, false, nil)
	if code(err) == amqp.NotFound {
		return fail(fmt.Errorf("%w: %w", driver.ErrUnroutable, err))
	} else if err != nil {
		return fail(err)
	}
	l := r.newLane(topic, name, ch)
	r.mu.Lock()
	if r.err == nil {
		r.lanes = append(r.lanes, l)
	} else {
		l.revoked = true
		close(l.lost)
		close(l.idle)
	}
	r.mu.Unlock()
	r.wg.Go(func() { l.read(in) })
	return l, nil
}

func (r *receiver) newLane(topic, name string, ch *amqp.Channel) *lane {
	return &lane{
		r: r, topic: topic, name: name, ch: ch, acker: ch,
		lost: make(chan struct{}), idle: make(chan struct{}), over: make(chan struct{}), noted: make(map[string]driver.Note),
	}
}

// read fills the queue, until the channel closes or the queue is deleted.
func (l *lane) read(in <-chan amqp.Delivery) {
	defer wait.Ring(l.r.moved)
	defer close(l.over)
	var before map[string]driver.Note // what former owners noted
	for d := range in {
		if d.Redelivered && before == nil && !l.r.sub.Unordered {
			var err error
			if before, err = l.recall(); err != nil {
				l.r.fail(err)
			}
		}
		l.add(&d, before)
	}
	l.r.mu.Lock()
	revoked := l.revoked
	l.r.mu.Unlock()
	if !revoked {
		l.r.fail(fmt.Errorf("queue %q: the server ended its consumer", l.name))
	}
}

func (l *lane) add(d *amqp.Delivery, before map[string]driver.Note) {
	t := &ticket{lane: l, d: d, msg: decode(d, l.topic)}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if n, ok := before[t.msg.ID]; ok && d.Redelivered {
		l.noted[t.msg.ID] = n
	}
	if !l.revoked {
		l.queue = append(l.queue, t)
		l.r.wake()
	}
}

func (l *lane) take(ds []driver.Delivery, limit int) []driver.Delivery {
	n := min(limit-len(ds), len(l.queue))
	for _, t := range l.queue[:n] {
		d := driver.Delivery{
			Message: t.msg, Position: strconv.FormatUint(t.d.DeliveryTag, 10), Lane: l.name, Lost: l.lost, Native: t.d, Handle: t,
		}
		if n, ok := l.noted[t.msg.ID]; ok {
			d.Note = &n
		}
		ds = append(ds, d)
	}
	l.out += n
	clear(l.queue[:n])
	l.queue = l.queue[n:]
	return ds
}

// requeue puts the message back in its place here: at the server it would count
// as a delivery. The next handing out has a ticket of its own.
func (l *lane) requeue(t *ticket) {
	again := &ticket{lane: l, d: t.d, msg: t.msg}
	at, _ := slices.BinarySearchFunc(l.queue, again, func(a, b *ticket) int { return cmp.Compare(a.d.DeliveryTag, b.d.DeliveryTag) })
	l.queue = slices.Insert(l.queue, at, again)
	l.finish(t)
	l.r.wake()
}

// finish notes that nobody works on t any more.
func (l *lane) finish(t *ticket) {
	if t.over {
		return
	}
	t.over = true
	l.out--
	l.rest()
}

// revoke ends handing out and settling.
func (l *lane) revoke() {
	l.revoked = true
	close(l.lost)
	l.queue = nil
	l.r.lanes = slices.DeleteFunc(l.r.lanes, func(x *lane) bool { return x == l })
	l.rest()
}

func (l *lane) rest() {
	if l.revoked && l.out == 0 {
		select {
		case <-l.idle:
		default:
			close(l.idle)
		}
	}
}

// release gives the queue to the next member: when what is out has been given
// back, and after drain at the latest.
func (l *lane) release(drain time.Duration) {
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-l.idle:
	case <-t.C:
	case <-l.r.gone:
	case <-l.over:
	}
	if err := l.ch.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
		l.r.conn.kill() // the queue must not stay with a channel that is stuck
	}
}

// ack tells the server. The caller holds r.acking.
func (l *lane) ack(ts []*ticket) error {
	all := make([]uint64, len(ts))
	for i, t := range ts {
		all[i] = t.d.DeliveryTag
	}
	below, single := l.tags.settle(all)
	if below > 0 {
		if err := l.acker.Ack(below, true); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := l.acker.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// tags finds how to ack with few frames. Tags of a channel count from 1.
type tags struct {
	low   uint64              // everything up to here is acked
	above map[uint64]struct{} // acked one by one
}

// settle returns the tag up to which everything may be acked at once, 0 if
// there is none, and those to ack singly. The tag is one of all: the server
// knows no others.
func (t *tags) settle(all []uint64) (below uint64, single []uint64) {
	slices.Sort(all)
	for i, tag := range all {
		for {
			if _, ok := t.above[t.low+1]; !ok {
				break
			}
			delete(t.above, t.low+1)
			t.low++
		}
		if tag != t.low+1 {
			single = all[i:]
			break
		}
		t.low, below = tag, tag
	}
	if len(single) > 0 && t.above == nil {
		t.above = make(map[uint64]struct{})
	}
	for _, tag := range single {
		t.above[tag] = struct{}{}
	}
	return below, single
}
