package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/mainstay-go/mainstay/messaging"
)

// Ledger books what was published and what was handled, and counts what a
// broker and its client did in between. It works with any client: call Sent
// after each publish and Handled around each handling. For this module's
// there are Publish and Middleware. One ledger is for one group: of two, what
// one has lost would be hidden by the other. It keeps some 300 bytes per
// message, is made by NewLedger, and is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	messages map[string]*booked
	clock    int // of begins and ends
	counts   Counts
}

type booked struct {
	id, key   string
	named     bool // by who published it
	sent      int  // 1 is the first of all; 0: not, or not known to be, published
	unknown   bool
	first     int // when it first succeeded; 0: never
	successes int
	handled   []handling
}

// handling is one, by the ledger's clock.
type handling struct {
	key        string // as it was delivered
	begin, end int    // end is 0 while it is under way
}

// Counts are a ledger's results.
type Counts struct {
	// Published is the number of messages whose publishing succeeded.
	Published int
	// Unknown is the number of messages whose publishing ended with an
	// unknown outcome, and did not succeed later: they may be handled or not.
	Unknown int
	// Delivered is the number of handlings that were begun.
	Delivered int
	// Lost is the number of published messages that no handling has
	// succeeded for.
	Lost int
	// Duplicate is the number of successes beyond the first of a message.
	Duplicate int
	// Inverted is the number of published messages whose first success came
	// after that of a message of the same key which was published later.
	Inverted int
	// Overlapping is the number of handlings that began while another one of
	// the same key was under way.
	Overlapping int
	// Rekeyed is the number of handlings with another key than that which the
	// message was published with, or was first handled with if it was not.
	Rekeyed int
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{messages: make(map[string]*booked)}
}

// Sent books the result of publishing a message: nil, an error that wraps
// messaging.ErrUnknown, or a refusal, which is not booked. Messages of one key
// count as published in the order of these calls, a message tried again at its
// first success; so for one key, publish and call Sent from one goroutine. An
// empty key has no order and no overlaps. The key is the message's, whatever
// its handlings say, those that were booked before included.
func (l *Ledger) Sent(id, key string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.message(id, key)
	if !m.named {
		m.key, m.named = key, true
	}
	switch {
	case err == nil && m.sent == 0:
		l.counts.Published++
		m.sent = l.counts.Published
	case errors.Is(err, messaging.ErrUnknown):
		m.unknown = true
	}
}

// Handled books that handling a message begins, which was delivered with key;
// done, that it ended, and whether with success. Further calls of done do
// nothing.
func (l *Ledger) Handled(id, key string) (done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.message(id, key)
	l.counts.Delivered++
	l.clock++
	n := len(m.handled)
	m.handled = append(m.handled, handling{key: key, begin: l.clock})
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		h := &m.handled[n]
		if h.end != 0 {
			return
		}
		l.clock++
		h.end = l.clock
		if err != nil {
			return
		}
		m.successes++
		if m.first == 0 {
			m.first = h.end
		} else {
			l.counts.Duplicate++
		}
	}
}

func (l *Ledger) message(id, key string) *booked {
	m := l.messages[id]
	if m == nil {
		m = &booked{id: id, key: key}
		l.messages[id] = m
	}
	return m
}

// Publish publishes m with p and books the result.
func (l *Ledger) Publish(ctx context.Context, p *messaging.Publisher, m *messaging.Message) error {
	err := p.Publish(ctx, m)
	l.Sent(m.ID, m.Key, err)
	return err
}

// Middleware books handlings. A handler that panics is booked as failed.
func (l *Ledger) Middleware(next messaging.Handler) messaging.Handler {
	return func(ctx context.Context, d *messaging.Delivery) (err error) {
		done, ended := l.Handled(d.ID, d.Key), false
		defer func() {
			if !ended {
				err = errPanicked
			}
			done(err)
		}()
		err = next(ctx, d)
		ended = true
		return err
	}
}

var errPanicked = errors.New("the handler panicked")

// Counts returns what there is so far. It looks at every message.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	for _, m := range l.messages {
		switch {
		case m.sent > 0 && m.successes == 0:
			c.Lost++
		case m.sent == 0 && m.unknown:
			c.Unknown++
		}
	}
	c.Inverted = len(l.inverted())
	for _, n := range l.overlaps() {
		c.Overlapping += n
	}
	for _, n := range l.rekeyed() {
		c.Rekeyed += n
	}
	return c
}

// inverted returns the messages that were handled after a later one.
func (l *Ledger) inverted() (out []*booked) {
	var sent []*booked
	for _, m := range l.messages {
		if m.sent > 0 && m.first > 0 && m.key != "" {
			sent = append(sent, m)
		}
	}
	slices.SortFunc(sent, func(a, b *booked) int { return a.sent - b.sent })
	earliest := make(map[string]int) // first success of what was published later, by key
	for _, m := range slices.Backward(sent) {
		if e, ok := earliest[m.key]; ok && m.first > e {
			out = append(out, m)
		} else {
			earliest[m.key] = m.first
		}
	}
	return out
}

// overlaps returns, by key, how many handlings began while another one was under
// way.
func (l *Ledger) overlaps() map[string]int {
	byKey := make(map[string][]handling)
	for _, m := range l.messages {
		if m.key != "" {
			byKey[m.key] = append(byKey[m.key], m.handled...)
		}
	}
	out := make(map[string]int)
	for key, all := range byKey {
		slices.SortFunc(all, func(a, b handling) int { return a.begin - b.begin })
		last := 0 // when the last of those before ended
		for _, h := range all {
			if h.begin < last {
				out[key]++
			}
			if h.end == 0 {
				h.end = math.MaxInt
			}
			last = max(last, h.end)
		}
	}
	return out
}

// rekeyed returns, by message, how many handlings had another key than its own.
func (l *Ledger) rekeyed() map[string]int {
	out := make(map[string]int)
	for id, m := range l.messages {
		for _, h := range m.handled {
			if h.key != m.key {
				out[id]++
			}
		}
	}
	return out
}

// twice returns the messages that were handled more than once.
func (l *Ledger) twice() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, m := range l.messages {
		if m.successes > 1 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// String returns the counts and the first few messages that are to blame, for
// a failing test.
func (l *Ledger) String() string {
	c, twice := l.Counts(), l.twice()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost, inverted, overlapping []string
	for _, m := range l.messages {
		if m.sent > 0 && m.successes == 0 {
			lost = append(lost, m.id)
		}
	}
	for _, m := range l.inverted() {
		inverted = append(inverted, m.id)
	}
	for key := range l.overlaps() {
		overlapping = append(overlapping, "key "+key)
	}
	rekeyed := slices.Collect(maps.Keys(l.rekeyed()))
	var text strings.Builder
	fmt.Fprintf(&text, "%d published, %d unknown, %d delivered", c.Published, c.Unknown, c.Delivered)
	for _, x := range []struct {
		n    int
		name string
		ids  []string
	}{
		{c.Lost, "lost", lost}, {c.Duplicate, "duplicate", twice}, {c.Inverted, "inverted", inverted},
		{c.Overlapping, "overlapping", overlapping}, {c.Rekeyed, "rekeyed", rekeyed},
	} {
		fmt.Fprintf(&text, ", %d %s", x.n, x.name)
		if len(x.ids) == 0 {
			continue
		}
		slices.Sort(x.ids)
		more := ""
		if len(x.ids) > 5 {
			more = ", …"
		}
		fmt.Fprintf(&text, " (%s%s)", strings.Join(x.ids[:min(len(x.ids), 5)], ", "), more)
	}
	return text.String()
}
