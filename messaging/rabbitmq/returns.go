package rabbitmq

import (
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// A message that no queue takes comes back, and is confirmed then like any
// other. The server does not say which publishing came back, only what was
// published: the same message may be under way several times, for callers that
// wait and for some that have left.

// parcelKey is what a returned message is recognised by.
type parcelKey struct{ exchange, key, id string }

func keyOf(exchange, key, id string, headers amqp.Table) parcelKey {
	if id == "" { // it did not fit into the property
		id = printed(headers[wire.ID])
	}
	return parcelKey{exchange, key, id}
}

// unwanted is how often a message came back that nobody has asked for.
type unwanted struct {
	n   int
	err error
}

// leftover is a message whose caller did not wait for its answer.
type leftover struct {
	parcelKey
	sent confirmation
}

func (l *link) book(r *amqp.Return) {
	k := keyOf(r.Exchange, r.RoutingKey, r.MessageId, r.Headers)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unwanted[k] == nil {
		l.unwanted[k] = &unwanted{err: returned(r)}
	}
	l.unwanted[k].n++
	l.returns.Add(1)
}

// keep books a message whose caller has left, and takes the oldest of these off
// the books that have their answers by now: their returns came before.
func (l *link) keep(x leftover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.left) && isDone(l.left[n].sent) {
		l.drop(l.left[n].parcelKey)
		n++
	}
	clear(l.left[:n])
	l.left = append(l.left[n:], x)
}

// drop takes one return of k off the books, if there is one.
func (l *link) drop(k parcelKey) {
	u := l.unwanted[k]
	if u == nil {
		return
	}
	l.returns.Add(-1)
	if u.n--; u.n == 0 {
		delete(l.unwanted, k)
	}
}

// give leaves the answer to p, which may have been sent, to the link.
func (l *link) give(p *parcel) {
	select {
	case l.given <- leftover{p.parcelKey(), p.sent}:
	case <-l.ended:
	}
}

// hearAll waits until every return that came before is booked.
func (l *link) hearAll() {
	select {
	case <-l.heard:
	case <-l.ended:
	}
}

// unrouted returns the error of a message that came back, once. What came back
// of the same message when an earlier caller sent it, and left, is not for p:
// the server confirms what it returns at once, so that one has its answer if p
// has.
func (l *link) unrouted(p *parcel) error {
	if l.returns.Load() == 0 {
		return nil
	}
	k := p.parcelKey()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unwanted[k] == nil {
		return nil
	}
	l.left = slices.DeleteFunc(l.left, func(x leftover) bool {
		if x.parcelKey != k || !isDone(x.sent) {
			return false
		}
		l.drop(k)
		return true
	})
	u := l.unwanted[k]
	if u == nil {
		return nil
	}
	l.drop(k)
	return u.err
}

// returned translates what the server says about a message it cannot route.
func returned(r *amqp.Return) error {
	return fmt.Errorf("%w: no group of topic %q is declared (%s)", driver.ErrUnroutable, r.Exchange, strings.ToLower(r.ReplyText))
}
