package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// publisher keeps a link to publish on, and makes a new one when it broke.
type publisher struct {
	broker     *broker
	connecting chan struct{} // holds one: who makes a link, or ends it
	now        atomic.Pointer[link]
}

// Publish implements driver.Publisher. All messages are written before the
// first confirmation is waited for.
func (b *broker) Publish(ctx context.Context, msgs []driver.Message) []error {
	errs := make([]error, len(msgs))
	if len(msgs) == 0 {
		return errs
	}
	parcels := make([]parcel, 0, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		if errs[i] = b.route(ctx, m.Topic); errs[i] != nil {
			continue
		}
		p := parcel{exchange: m.Topic, key: slotOf(m), i: i}
		if errs[i] = b.fits(m); errs[i] != nil {
			continue
		}
		if p.Publishing, errs[i] = encode(m); errs[i] == nil {
			errs[i] = inFrame(&p.Publishing)
		}
		if errs[i] == nil {
			parcels = append(parcels, p)
		}
	}
	b.pub.send(ctx, parcels)
	for i := range parcels {
		p := &parcels[i]
		errs[p.i] = p.err
		if p.err != nil && (code(p.err) == amqp.NotFound || errors.Is(p.err, driver.ErrUnroutable)) {
			b.forget(p.exchange)
		}
	}
	return errs
}

// slotOf returns the routing key of m. Without a key any will do.
func slotOf(m *driver.Message) string {
	if m.Key == "" {
		return slotNames[rand.IntN(slots)]
	}
	return slotNames[slot(m.Key)]
}

// route refuses a topic that does not exist. Publishing to it would cost the
// channel, and with it the fate of all that is under way.
func (b *broker) route(ctx context.Context, topic string) error {
	b.mu.Lock()
	known, closed := b.known[topic], b.closed
	b.mu.Unlock()
	switch {
	case closed:
		return driver.ErrClosed
	case known:
		return context.Cause(ctx)
	case topic == "":
		return fmt.Errorf("%w: a message without topic", driver.ErrUnroutable)
	}
	var ok bool
	err := b.patiently(ctx, func() error {
		return b.ask(ctx, func(c *channels) (err error) {
			ok, err = hasTopic(c, topic)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("looking for topic %q: %w", topic, err)
	}
	if !ok {
		return fmt.Errorf("%w: %q", driver.ErrUnroutable, topic)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[topic] = true
	return nil
}

func (b *broker) forget(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, topic)
}

// patiently repeats f, with growing pauses, until it succeeds, ctx ends, or it
// is clear that it will not succeed.
func (b *broker) patiently(ctx context.Context, f func() error) error {
	pause := concurrency.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second}
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || !passes(err) {
			return err
		}
		t := time.NewTimer(pause.Delay(n))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// passes reports whether an error may be one of a server that is away.
func passes(err error) bool {
	switch code(err) {
	case amqp.AccessRefused, amqp.NotAllowed, amqp.NotFound, amqp.PreconditionFailed, amqp.NotImplemented, amqp.ResourceLocked:
		return false
	}
	return !errors.Is(err, driver.ErrClosed) && !errors.Is(err, amqp.ErrSASL) && !errors.Is(err, amqp.ErrCredentials) && !errors.Is(err, amqp.ErrVhost)
}

// fits refuses what the server would close the connection for.
func (b *broker) fits(m *driver.Message) error {
	if n := m.Size(); n > b.maxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", driver.ErrTooLarge, n, b.maxBytes)
	}
	return nil
}

// frame is what the properties of a message must fit into: the smallest frame
// that servers offer by default is 128 KiB.
const frame = 128 << 10

func inFrame(p *amqp.Publishing) error {
	n, most := tableSize(p.Headers)+len(p.MessageId)+len(p.ContentType)+64, frame
	n += len(p.ContentEncoding) + len(p.CorrelationId) + len(p.ReplyTo) + len(p.Type) + len(p.AppId)
	if _, stamped := p.Headers[wire.Group]; !stamped {
		most -= wire.Reserve // so that it can be dead-lettered too
	}
	if n > most {
		return fmt.Errorf("%w: %w: %d bytes with key and schema, at most %d", driver.ErrTooLarge, errHeaders, n, most)
	}
	return nil
}

// send writes parcels and waits for what becomes of them, until ctx ends.
func (p *publisher) send(ctx context.Context, parcels []parcel) {
	if len(parcels) == 0 {
		return
	}
	c := newCall(parcels)
	var l *link
	err := p.broker.patiently(ctx, func() (err error) {
		l, err = p.link(ctx)
		return err
	})
	if err == nil {
		err = l.take(ctx, c)
	}
	if err != nil {
		for i := range parcels {
			parcels[i].err = fmt.Errorf("not sent: %w", err)
		}
		return
	}
	c.wait(ctx, l)
}

// link returns the link, a new one after one that broke.
func (p *publisher) link(ctx context.Context) (*link, error) {
	if l := p.now.Load(); l != nil && !l.isDead() { // callers must not queue up for what is there
		return l, nil
	}
	select {
	case p.connecting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-p.connecting }()
	if l := p.now.Load(); l != nil && !l.isDead() {
		return l, nil
	}
	if p.broker.isClosed() {
		return nil, driver.ErrClosed
	}
	c, err := p.broker.dial(ctx, "publish")
	if err != nil {
		return nil, err
	}
	l, err := wait.Answer(ctx, p.broker.start, func() (*link, error) { return newLink(c) }, func(*link) { c.kill() })
	if err != nil {
		c.kill()
		return nil, err
	}
	if !p.broker.start(l.write) {
		c.kill()
		return nil, driver.ErrClosed
	}
	p.now.Store(l)
	return l, nil
}

// blockedBy returns why the server does not take messages, or "".
func (p *publisher) blockedBy() string {
	select {
	case p.connecting <- struct{}{}:
		defer func() { <-p.connecting }()
	default:
		return "" // it is being connected: nothing is known
	}
	l := p.now.Load()
	if l == nil || l.isDead() {
		return ""
	}
	reason, _ := l.blocked()
	return reason
}

// close ends the link, politely until ctx ends.
func (p *publisher) close(ctx context.Context) error {
	select {
	case p.connecting <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.connecting }()
	l := p.now.Load()
	if l == nil {
		return nil
	}
	return l.end(ctx)
}
