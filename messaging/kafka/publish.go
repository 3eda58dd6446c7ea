package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// Publish implements driver.Publisher.
func (b *broker) Publish(ctx context.Context, msgs []driver.Message) []error {
	errs := b.publish(ctx, msgs)
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return errs
	}
	// A topic may take less than the client does, and then its broker refuses
	// a batch as a whole: alone, most of it is not too large. What would fall
	// behind a later message of its key stays refused.
	held := make(map[[2]string]bool)
	var again []int
	for i := len(msgs) - 1; i >= 0; i-- {
		key := [2]string{msgs[i].Topic, msgs[i].Key}
		switch {
		case errs[i] == nil:
			held[key] = true
		case !errors.Is(errs[i], sarama.ErrMessageSizeTooLarge):
		case msgs[i].Key != "" && held[key]:
			errs[i] = fmt.Errorf("refused together with other messages, publish it again: %w", sarama.ErrMessageSizeTooLarge)
		default:
			again = append(again, i)
		}
	}
	for _, i := range slices.Backward(again) {
		errs[i] = b.publish(ctx, msgs[i:i+1])[0]
	}
	b.forget(msgs, errs)
	return errs
}

// forget has the topics of what became unknown looked up before they are used
// again: one of them may have been deleted.
func (b *broker) forget(msgs []driver.Message, errs []error) {
	for i := range errs {
		if errors.Is(errs[i], driver.ErrUnknown) {
			b.mu.Lock()
			delete(b.known, msgs[i].Topic)
			b.mu.Unlock()
		}
	}
}

// publish gives all messages to the client before it waits for the first
// answer.
func (b *broker) publish(ctx context.Context, msgs []driver.Message) []error {
	errs := make([]error, len(msgs))
	if len(msgs) == 0 {
		return errs
	}
	p, refused, err := b.route(ctx, msgs)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	c, now := newCall(len(msgs)), time.Now()
	for i := range msgs {
		s := &c.slots[i]
		if errs[i] = refused[msgs[i].Topic]; errs[i] != nil {
			continue
		}
		if n := msgs[i].Size(); n > b.maxBytes {
			errs[i] = fmt.Errorf("%w: %d bytes, at most %d", driver.ErrTooLarge, n, b.maxBytes)
			continue
		}
		s.encode(&msgs[i], now)
		s.Metadata, s.sent = s, true
		if err := p.send(ctx, &s.ProducerMessage); err != nil {
			s.sent = false
			for j := i; j < len(msgs); j++ { // what is behind must not overtake
				errs[j] = err
			}
			break
		}
	}
	c.wait(ctx, errs)
	return errs
}

// route returns a producer, and an error for each topic that does not exist.
// The client would look for such a topic for as long as an outage may last.
func (b *broker) route(ctx context.Context, msgs []driver.Message) (*producer, map[string]error, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	var refused map[string]error
	for i := range msgs {
		topic := msgs[i].Topic
		if i > 0 && topic == msgs[i-1].Topic {
			continue
		}
		b.mu.Lock()
		known := b.known[topic]
		b.mu.Unlock()
		if known {
			continue
		}
		missing, err := b.missing(ctx, []string{topic})
		if err != nil {
			return nil, nil, err
		}
		if len(missing) > 0 {
			if refused == nil {
				refused = make(map[string]error)
			}
			refused[topic] = unroutable(missing)
		}
	}
	p, err := b.currentProducer(ctx)
	return p, refused, err
}

// currentProducer returns the producer, a new one after one that has failed
// for good.
func (b *broker) currentProducer(ctx context.Context) (*producer, error) {
	if p, err := b.madeProducer(); p != nil || err != nil { // callers must not queue up for what is there
		return p, err
	}
	select {
	case b.making <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-b.making }()
	p, err := b.madeProducer()
	if p != nil || err != nil {
		return p, err
	}
	client, err := b.connect(ctx, producerConfig(b.base))
	if err != nil {
		return nil, err
	}
	async, err := wait.Answer(ctx, b.start, func() (sarama.AsyncProducer, error) { return sarama.NewAsyncProducerFromClient(client) },
		func(a sarama.AsyncProducer) { _ = a.Close() })
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	p = &producer{broker: b, client: client, async: async, closing: make(chan struct{}), ended: make(chan struct{})}
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.producer = p
		b.wg.Go(p.listen)
	}
	b.mu.Unlock()
	if closed {
		_ = async.Close() // it holds nothing yet
		_ = client.Close()
		return nil, driver.ErrClosed
	}
	return p, nil
}

// madeProducer returns nil if there is none.
func (b *broker) madeProducer() (*producer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, driver.ErrClosed
	}
	return b.producer, nil
}

// retire takes p out of use, once.
func (b *broker) retire(p *producer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.producer == p && !b.closed {
		b.producer = nil
		b.wg.Go(func() { _ = p.close(context.Background()) })
	}
}

// producer is one idempotent producer: one ID and its sequences.
type producer struct {
	broker  *broker
	client  sarama.Client
	async   sarama.AsyncProducer
	closing chan struct{}
	ended   chan struct{} // closed when every message has its answer
	once    sync.Once
	sends   sync.RWMutex // held for writing when the input is about to close
}

func (p *producer) send(ctx context.Context, m *sarama.ProducerMessage) error {
	p.sends.RLock()
	defer p.sends.RUnlock()
	select {
	case <-p.closing:
		return p.end()
	default:
	}
	select {
	case p.async.Input() <- m: // without a look at channels that all callers share
		return nil
	default:
	}
	select {
	case p.async.Input() <- m:
		return nil
	case <-p.closing:
		return p.end()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errReplaced is what callers hear who were about to use a producer that has
// failed for good. Their messages do not go to the next one in the same call:
// earlier ones of it may still come.
var errReplaced = errors.New("the producer was replaced before the message was sent: publish it again")

// end is why p takes nothing more.
func (p *producer) end() error {
	if p.broker.isClosed() {
		return driver.ErrClosed
	}
	return errReplaced
}

// listen passes the answers on, until close.
func (p *producer) listen() {
	var wg sync.WaitGroup
	wg.Go(func() {
		for m := range p.async.Successes() {
			m.Metadata.(*slot).answer(nil)
		}
	})
	wg.Go(func() {
		for e := range p.async.Errors() {
			fatal, err := judge(e.Err)
			e.Msg.Metadata.(*slot).answer(err)
			if fatal {
				p.broker.retire(p)
			}
		}
	})
	wg.Wait()
	close(p.ended)
}

// close waits for what was given to the client, no longer than ctx: then it is
// unknown.
func (p *producer) close(ctx context.Context) error {
	p.once.Do(func() {
		close(p.closing)
		p.sends.Lock()
		p.async.AsyncClose()
		p.sends.Unlock()
	})
	var late error
	select {
	case <-p.ended:
	case <-ctx.Done():
		late = fmt.Errorf("messages were still being sent: %w", context.Cause(ctx))
	}
	if err := p.client.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) { // ends its retries
		return errors.Join(late, err)
	}
	return late
}

// judge translates an error of the client. Where the message may have been
// sent before the error it says unknown: the client retries, and does not tell
// what happened to earlier tries. fatal: the producer's sequence is broken.
func judge(err error) (fatal bool, _ error) {
	var config sarama.ConfigurationError
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.As(err, &config):
		return false, fmt.Errorf("%w: %w", driver.ErrTooLarge, err)
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed),
		errors.Is(err, sarama.ErrInvalidTimestamp), errors.Is(err, sarama.ErrPolicyViolation), errors.Is(err, sarama.ErrInvalidRecord):
		return false, err
	case errors.Is(err, sarama.ErrOutOfOrderSequenceNumber), errors.Is(err, sarama.ErrUnknownProducerID),
		errors.Is(err, sarama.ErrInvalidProducerEpoch), errors.Is(err, sarama.ErrProducerFenced), errors.Is(err, sarama.ErrInvalidProducerIDMapping):
		fatal = true
	}
	return fatal, fmt.Errorf("%w: %w", driver.ErrUnknown, err)
}

// call is one Publish that waits.
type call struct {
	slots []slot
	done  chan struct{}

	mu   sync.Mutex
	left int // answers that are missing
}

// slot is one message of a call, on its way through the client.
type slot struct {
	record
	call *call
	sent bool // only the sender looks at it

	// Under the call's lock.
	answered bool
	err      error
}

func newCall(n int) *call {
	c := &call{slots: make([]slot, n), done: make(chan struct{}), left: n}
	for i := range c.slots {
		c.slots[i].call = c
	}
	return c
}

func (s *slot) answer(err error) {
	s.call.mu.Lock()
	defer s.call.mu.Unlock()
	s.answered, s.err = true, err
	s.call.take(1)
}

// take counts answers, and what needs none.
func (c *call) take(n int) {
	if c.left -= n; c.left == 0 {
		close(c.done)
	}
}

// wait sets the outcome of what was sent; what has no answer when ctx ends is
// unknown.
func (c *call) wait(ctx context.Context, errs []error) {
	unsent := 0
	for i := range c.slots {
		if !c.slots[i].sent {
			unsent++
		}
	}
	if unsent > 0 {
		c.mu.Lock()
		c.take(unsent)
		c.mu.Unlock()
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.slots {
		switch s := &c.slots[i]; {
		case !s.sent:
		case s.answered:
			errs[i] = s.err
		default:
			errs[i] = fmt.Errorf("%w: %w", driver.ErrUnknown, context.Cause(ctx))
		}
	}
}
