package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// parcel is one message on its way, and what became of it.
type parcel struct {
	amqp.Publishing
	exchange, key string
	i             int // its place among the messages of Publish

	sent     confirmation // nil: not written
	refused  error        // why it could not be written
	answered bool         // sent was done when the caller had waited
	err      error        // the outcome
}

func (p *parcel) parcelKey() parcelKey { return keyOf(p.exchange, p.key, p.MessageId, p.Headers) }

// confirmation is amqp.DeferredConfirmation.
type confirmation interface {
	Done() <-chan struct{}
	Acked() bool
}

func isDone(c confirmation) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// call is one Publish that waits. write fills it in one goroutine while wait
// waits in another and may leave: whatever has not begun by then is not sent.
type call struct {
	parcels []parcel
	written chan struct{} // closed when write is through

	mu    sync.Mutex
	begun int // parcels that write has begun with
	left  bool
}

func newCall(parcels []parcel) *call { return &call{parcels: parcels, written: make(chan struct{})} }

// errBehind: what is behind a message that failed must not overtake it.
var errBehind = errors.New("not sent: a message before it failed")

// write sends one parcel after the other, until one fails. It returns the one
// that the caller left in the middle of, nil if there is none.
func (c *call) write(send func(*parcel) (confirmation, error)) (alone *parcel) {
	defer close(c.written)
	for i := range c.parcels {
		c.mu.Lock()
		if c.left {
			c.mu.Unlock()
			return nil
		}
		c.begun = i + 1
		c.mu.Unlock()
		sent, err := send(&c.parcels[i])
		c.mu.Lock()
		c.parcels[i].sent, c.parcels[i].refused = sent, err
		left := c.left
		c.mu.Unlock()
		switch {
		case err != nil:
			return nil
		case left:
			return &c.parcels[i]
		}
	}
	return nil
}

// wait sets the outcome of every parcel. It returns when all have one or ctx
// ends.
func (c *call) wait(ctx context.Context, l *link) {
	select {
	case <-c.written:
	case <-ctx.Done():
		select {
		case <-c.written:
		default:
			c.leave(ctx, l)
			return
		}
	}
	for i := range c.parcels {
		p := &c.parcels[i]
		if p.sent == nil {
			continue
		}
		select {
		case <-p.sent.Done():
			p.answered = true
		case <-ctx.Done():
			p.answered = isDone(p.sent)
		}
	}
	l.hearAll()
	for i := range c.parcels {
		c.parcels[i].err = c.outcome(ctx, l, i)
	}
}

// leave is for a call that is still being written.
func (c *call) leave(ctx context.Context, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	for i := range c.parcels {
		p := &c.parcels[i]
		p.answered = p.sent != nil && isDone(p.sent)
	}
	l.hearAll()
	for i := range c.parcels {
		switch {
		case i >= c.begun:
			c.parcels[i].err = fmt.Errorf("not sent: %w", context.Cause(ctx))
		case c.parcels[i].sent == nil && c.parcels[i].refused == nil: // in the middle of it
			c.parcels[i].err = fmt.Errorf("%w: %w", driver.ErrUnknown, context.Cause(ctx))
		default:
			c.parcels[i].err = c.outcome(ctx, l, i)
		}
	}
}

// outcome says what became of parcel i, all returns of what is answered being
// booked. An answer that has come since does not count: its return may not be.
func (c *call) outcome(ctx context.Context, l *link, i int) error {
	p := &c.parcels[i]
	switch {
	case p.sent == nil && p.refused == nil:
		return errBehind
	case errors.Is(p.refused, amqp.ErrClosed): // before its last frame
		return fmt.Errorf("not sent: %w", l.why())
	case p.refused != nil:
		return fmt.Errorf("%w: %w", driver.ErrUnknown, p.refused)
	case !p.answered:
		l.give(p)
		err := fmt.Errorf("%w: %w", driver.ErrUnknown, context.Cause(ctx))
		if reason, _ := l.blocked(); reason != "" {
			err = fmt.Errorf("%w (%s)", err, reason)
		}
		return err
	case p.sent.Acked():
		return l.unrouted(p)
	case !l.isDead():
		// Of several queues one may have taken it.
		return fmt.Errorf("%w: the server refused it: a queue of the topic is full or out of order", driver.ErrUnknown)
	}
	<-l.dead
	if tooLarge(l, p) {
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, l.why())
	}
	return l.lost()
}

// tooLarge reports whether the channel was closed because of p. The server
// says only how large the message was.
func tooLarge(l *link, p *parcel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause != nil && l.cause.Code == amqp.PreconditionFailed &&
		strings.Contains(l.cause.Reason, fmt.Sprintf("message size %d is larger", len(p.Body)))
}
