package messagingtest

import (
	"context"
	"errors"
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
