package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// Publisher sends messages to where they are durable: a broker, a database
// transaction, a spool. It is safe for concurrent use.
type Publisher struct {
	driver   driver.Publisher
	maxBytes int
	tel      *telemetry
	prepare  func(ctx context.Context, topic string) error // nil: nothing to prepare
}

// NewPublisher returns the front of p, for an outbox, a spool, or a place of
// one's own. Of the options, Topology is not used. Programs get a broker's
// publisher from Broker.Publisher.
func NewPublisher(p driver.Publisher, o *Options) *Publisher {
	if o == nil {
		o = &Options{}
	}
	var c driver.Capabilities
	if b, ok := p.(driver.Broker); ok {
		c = b.Capabilities()
	}
	return newPublisher(p, c.MaxBytes, newTelemetry(o, c.Name))
}

func newPublisher(p driver.Publisher, maxBytes int, t *telemetry) *Publisher {
	if maxBytes > 0 {
		maxBytes -= min(wire.Reserve, maxBytes/2)
	}
	return &Publisher{driver: p, maxBytes: maxBytes, tel: t}
}

// Publish sends msgs and returns nil when every one of them is durable where
// this publisher keeps messages. Into a message without ID or time it writes
// them, and changes nothing else; messages of one topic and key keep their
// order. If one message is invalid, none is sent.
//
// A failure is an *Error whose Unsent holds the messages that are not known to
// be held; it wraps ErrUnknown if the fate of one of them is open, ErrTooLarge
// and ErrUnroutable where they apply. There is no retry here: the caller knows
// its deadline, and publishing Unsent again cannot double anything for a
// consumer with an inbox.
func (p *Publisher) Publish(ctx context.Context, msgs ...*Message) error {
	if len(msgs) == 0 {
		return nil
	}
	topic, err := p.check(msgs)
	if err != nil {
		return &Error{Op: "publish", Topic: topic, Unsent: msgs, Err: err}
	}
	now := time.Now()
	nameAll(msgs, now)
	for _, m := range msgs {
		if m.Time.IsZero() {
			m.Time = now
		}
	}
	if p.prepare != nil {
		last := ""
		for _, m := range msgs {
			if m.Topic == last {
				continue
			}
			last = m.Topic
			if err := p.prepare(ctx, m.Topic); err != nil {
				return &Error{Op: "publish", Topic: topic, Unsent: msgs, Err: err}
			}
		}
	}
	copies := make([]driver.Message, len(msgs))
	for i, m := range msgs {
		copies[i] = driver.Message(*m)
	}
	span := p.tel.publishing(ctx, topic, copies)
	errs := p.driver.Publish(span.ctx, copies)
	unsent, err := collect(msgs, errs)
	span.published(len(msgs)-len(unsent), len(unsent), err)
	if err != nil {
		return &Error{Op: "publish", Topic: topic, Unsent: unsent, Err: err}
	}
	return nil
}

// check returns the one topic of msgs, or "" if they have several.
func (p *Publisher) check(msgs []*Message) (topic string, err error) {
	for i, m := range msgs {
		switch {
		case m == nil:
			return "", configf("message %d of %d is nil", i+1, len(msgs))
		case m.Topic == "":
			return "", configf("message %d of %d has no topic", i+1, len(msgs))
		}
		for j := range m.Headers {
			if wire.Reserved(m.Headers[j].Key) {
				return m.Topic, configf("header %q is reserved: names that begin with %q are Mainstay's own", m.Headers[j].Key, wire.Prefix)
			}
		}
		if n := (*driver.Message)(m).Size(); p.maxBytes > 0 && n > p.maxBytes {
			return m.Topic, fmt.Errorf("%w: %d bytes with key and headers, at most %d", ErrTooLarge, n, p.maxBytes)
		}
		if i == 0 {
			topic = m.Topic
		} else if m.Topic != topic {
			topic = ""
		}
	}
	return topic, nil
}

// collect joins what went wrong, each text once, and finds the messages it
// went wrong for.
func collect(msgs []*Message, errs []error) ([]*Message, error) {
	if len(errs) != len(msgs) {
		return msgs, fmt.Errorf("%w: the driver answered for %d of %d messages", ErrUnknown, len(errs), len(msgs))
	}
	var (
		distinct []error
		unsent   []*Message
		seen     map[string]bool
	)
	for i, err := range errs {
		if err == nil {
			continue
		}
		unsent = append(unsent, msgs[i])
		if seen == nil {
			seen = make(map[string]bool)
		}
		if text := err.Error(); !seen[text] && len(seen) < 10 {
			seen[text] = true
			distinct = append(distinct, err)
		} else if errors.Is(err, ErrUnknown) && !errors.Is(errors.Join(distinct...), ErrUnknown) {
			distinct = append(distinct, err) // what callers branch on is never crowded out
		}
	}
	if len(distinct) == 1 {
		return unsent, distinct[0]
	}
	return unsent, errors.Join(distinct...)
}
