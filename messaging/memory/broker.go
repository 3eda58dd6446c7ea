package memory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// broker is one lock and what it guards. Nothing blocks under the lock, so that
// a bubble of synctest never waits for a mutex.
type broker struct {
	partitions, maxBytes int

	mu     sync.Mutex
	topics map[string]*topic
	bytes  int
	closed bool
}

// overhead is what a message counts beyond its own bytes.
const overhead = 128

type topic struct {
	name   string
	parts  []*partition
	turn   int // of the next message without key
	groups map[string]*group
}

// partition is a log whose head has been trimmed up to base.
type partition struct {
	lane string
	base int64
	log  []record
}

type record struct {
	msg  driver.Message
	at   time.Time
	size int
}

func newBroker(o Options) *broker {
	return &broker{partitions: o.Partitions, maxBytes: o.MaxBytes, topics: make(map[string]*topic)}
}

// Capabilities implements driver.Broker.
func (b *broker) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "memory", KeyOrder: true, Delay: true, Replay: true, MaxBytes: max(b.maxBytes-overhead, 1)}
}

// Publish implements driver.Publisher. Bytes are copied outside of the lock,
// which everybody waits for; Receive does the same.
func (b *broker) Publish(ctx context.Context, msgs []driver.Message) []error {
	errs, now := make([]error, len(msgs)), time.Now()
	records := make([]record, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		records[i] = record{msg: *m, at: now, size: m.Size() + overhead}
		if records[i].size <= b.maxBytes {
			own(&records[i].msg)
		}
	}
	wake := make(map[*receiver]bool)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range msgs {
		if err := context.Cause(ctx); err != nil {
			errs[i] = err
			continue
		}
		errs[i] = b.append(&records[i], wake)
	}
	for r := range wake {
		r.wake()
	}
	return errs
}

func (b *broker) append(r *record, wake map[*receiver]bool) error {
	m, size := &r.msg, r.size
	if b.closed {
		return driver.ErrClosed
	}
	t := b.topics[m.Topic]
	if t == nil {
		return fmt.Errorf("%w: %q", driver.ErrUnroutable, m.Topic)
	}
	if size > b.maxBytes {
		return fmt.Errorf("%w: %d bytes, the broker holds %d in all", driver.ErrTooLarge, m.Size(), b.maxBytes)
	}
	if b.bytes+size > b.maxBytes {
		b.trim()
	}
	if b.bytes+size > b.maxBytes {
		return b.full()
	}
	var n int
	if m.Key == "" {
		n, t.turn = t.turn, (t.turn+1)%len(t.parts)
	} else {
		h := fnv.New32a()
		_, _ = h.Write([]byte(m.Key))
		n = int(h.Sum32() % uint32(len(t.parts)))
	}
	p := t.parts[n]
	p.log = append(p.log, *r)
	b.bytes += size
	for _, g := range t.groups {
		if a := g.cursors[n].owner; a != nil {
			wake[a.to] = true
		}
	}
	return nil
}

// trim drops what every group of a topic has settled. What no group has asked
// for stays.
func (b *broker) trim() {
	for _, t := range b.topics {
		if len(t.groups) == 0 {
			continue
		}
		for n, p := range t.parts {
			low := p.end()
			for _, g := range t.groups {
				low = min(low, g.cursors[n].done.Frontier())
			}
			for i := range p.log[:low-p.base] {
				b.bytes -= p.log[i].size
			}
			p.log = slices.Delete(p.log, 0, int(low-p.base)) // clears what it frees
			p.base = low
		}
	}
}

var errFull = errors.New("full")

// full names who is furthest behind, since that is where to look.
func (b *broker) full() error {
	worst, most := "and has no consumer group that could free any", int64(0)
	for _, name := range slices.Sorted(maps.Keys(b.topics)) {
		t := b.topics[name]
		var all int64
		for _, p := range t.parts {
			all += int64(len(p.log))
		}
		if len(t.groups) == 0 && all > most {
			worst, most = fmt.Sprintf("most by topic %q: %d messages, and no group consumes it", name, all), all
		}
		for _, group := range slices.Sorted(maps.Keys(t.groups)) {
			if lag, _ := t.groups[group].lag(time.Now()); lag > most {
				worst, most = fmt.Sprintf("group %q is %d messages behind on topic %q", group, lag, name), lag
			}
		}
	}
	return fmt.Errorf("%w: the broker holds %d of %d bytes, %s; raise MaxBytes or slow the producer down", errFull, b.bytes, b.maxBytes, worst)
}

// Declare implements driver.Declarer.
func (b *broker) Declare(ctx context.Context, s driver.Subscription) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return driver.ErrClosed
	}
	for _, name := range slices.Concat(s.Topics, s.DeadLetters) {
		if b.topics[name] != nil {
			continue
		}
		t := &topic{name: name, groups: make(map[string]*group)}
		for n := range b.partitions {
			t.parts = append(t.parts, &partition{lane: fmt.Sprintf("%s/%d", name, n)})
		}
		b.topics[name] = t
	}
	if s.Group != "" {
		for _, name := range s.Topics {
			b.topics[name].group(s.Group)
		}
	}
	return nil
}

// Verify implements driver.Declarer.
func (b *broker) Verify(ctx context.Context, s driver.Subscription) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verify(slices.Concat(s.Topics, s.DeadLetters))
}

// verify needs the lock.
func (b *broker) verify(topics []string) error {
	if b.closed {
		return driver.ErrClosed
	}
	var missing []string
	for _, name := range topics {
		if b.topics[name] == nil {
			missing = append(missing, fmt.Sprintf("%q", name))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", driver.ErrUnroutable, strings.Join(missing, ", "))
	}
	return nil
}

// Subscribe implements driver.Broker.
func (b *broker) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if s.Group == "" || len(s.Topics) == 0 {
		return nil, errors.New("a subscription needs a group and a topic")
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.verify(s.Topics); err != nil {
		return nil, err
	}
	r := &receiver{broker: b, sub: s, woken: make(chan struct{}, 1), gone: make(chan struct{})}
	for _, name := range s.Topics {
		g := b.topics[name].group(s.Group)
		g.members = append(g.members, r)
		r.groups = append(r.groups, g)
		g.rebalance(time.Now())
	}
	return r, nil
}

// Lag implements driver.Lagger.
func (b *broker) Lag(_ context.Context, topic, group string) (int64, time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	if t == nil {
		return 0, 0, fmt.Errorf("%w: %q", driver.ErrUnroutable, topic)
	}
	g := t.groups[group]
	if g == nil {
		return 0, 0, fmt.Errorf("topic %q has no group %q", topic, group)
	}
	messages, oldest := g.lag(time.Now())
	return messages, oldest, nil
}

// Health implements driver.Broker.
func (b *broker) Health(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return driver.ErrClosed
	}
	return nil
}

// Close implements driver.Broker.
func (b *broker) Close(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	for _, t := range b.topics {
		for _, g := range t.groups {
			for _, r := range slices.Clone(g.members) {
				r.leave()
			}
		}
	}
	return nil
}

func (p *partition) end() int64 { return p.base + int64(len(p.log)) }

// own copies all of m that somebody else could change.
func own(m *driver.Message) { m.Body, m.Headers = bytes.Clone(m.Body), cloneHeaders(m.Headers) }

func cloneHeaders(h driver.Headers) driver.Headers {
	h = slices.Clone(h)
	for i := range h {
		h[i].Value = bytes.Clone(h[i].Value)
	}
	return h
}

// byOffset orders entries for slices.BinarySearchFunc.
func byOffset(e *entry, offset int64) int { return cmp.Compare(e.offset, offset) }
