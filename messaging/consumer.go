package messaging

import (
	"context"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// ConsumerOptions say how a consumer works. The zero value is a good start.
type ConsumerOptions struct {
	// Order is what is kept in order. Default: ByKey.
	Order Order
	// Concurrency is the number of handlers that run at the same time, each
	// on another key. Default: 16, or the size of the largest batch.
	Concurrency int
	// Prefetch is the number of messages held at a time, those in handlers
	// included; more makes a slow consumer hoard what another could do. At
	// least Concurrency. Default: twice Concurrency. Messages that wait for
	// a retry here, because the broker cannot hold them back itself, or for
	// their dead letter to be taken, count apart, up to 64 times Prefetch.
	Prefetch int
	// Timeout ends the context of a run of the handler. Default: 30 s;
	// negative: no timeout.
	Timeout time.Duration
	// Drain is how long running handlers may take to finish once Run is
	// cancelled, and after a revocation once they are told to stop.
	// Default: 20 s. After it their contexts end.
	Drain time.Duration
	// Retry is what happens to a message whose handler fails.
	Retry RetryPolicy
	// Inbox makes effects happen once, for every route; *idempotency.Guard
	// is one. Nil: at least once. A route that wraps itself, On(f).With(guard.Once),
	// is not seen by the checks at start.
	Inbox Inbox
}

// Order is what a consumer keeps in order. It must be the same in all members
// of a group. What waits for a retry when an Unordered group begins to ask for
// order may still come out of it.
type Order int

const (
	// ByKey handles messages of one topic and key one at a time, in the order
	// of publishing; a message that waits for a retry makes its key wait.
	// Messages without key are in no order.
	ByKey Order = iota
	// ByPartition handles the messages of a partition one at a time.
	ByPartition
	// Unordered handles anything at any time.
	Unordered
)

// String returns the order as Guarantee words it.
func (o Order) String() string {
	switch o {
	case ByKey:
		return "in order per key"
	case ByPartition:
		return "in order per partition"
	case Unordered:
		return "in no order"
	}
	return "in an unknown order"
}

// RetryPolicy says how often and when a failing message is tried again, and
// where it goes in the end. The zero value tries 5 times over some 20 minutes,
// then publishes to the dead-letter topic.
type RetryPolicy struct {
	// MaxAttempts is the number of deliveries in all. Default: 5; negative:
	// no end, only Permanent makes a dead letter.
	MaxAttempts int
	// Inline is the number of extra runs within a delivery, for faults that
	// pass in milliseconds. Default: none.
	Inline int
	// Backoff spaces the inline runs.
	Backoff concurrency.Backoff
	// Delays are the times between deliveries; the last repeats. Default:
	// 10 s, 1 min, 10 min. Meanwhile the message's key waits if order is kept,
	// and the other keys go on. The wait and the count of attempts outlive the
	// process on every broker here: the broker delays the message, or
	// remembers what was noted of it. Guarantee says if they do not. Delays may
	// be changed while messages wait: those keep the delay that they have.
	Delays []time.Duration
	// DeadLetter is the topic of messages that failed for good, with the
	// reserved headers of docs/wire.md. Default: "<topic>.dead". It is
	// published and confirmed before the original is acknowledged; while it is
	// refused, the message's key waits, the others go on, and Health says so.
	DeadLetter string
}

// Inbox lets the effect of a message happen once.
type Inbox interface {
	// Once returns h so wrapped that a message whose handling has succeeded
	// is not handled again.
	Once(h Handler) Handler
	// Retention is how long a success is remembered. It must exceed the
	// longest retry, and is refused at start if it does not.
	Retention() time.Duration
}

// Consumer is one member of a consumer group. Make it with Broker.Consumer; any
// number of members, in any number of processes, share the group's messages.
// It is safe for concurrent use, but Run runs once at a time.
type Consumer struct {
	broker *Broker
	group  string
	opts   ConsumerOptions
	routes map[string]Handler
	topics []string
	sub    driver.Subscription

	mu      sync.Mutex
	running bool
	trouble map[string]error
	lanes   *lanes // of the session; nil: there is none
}

// Consumer returns a member of group that handles the topics of routes. It
// does no I/O. Settings that contradict each other, the routes or the broker
// are refused with ErrConfig: two routes of one topic, a route of the group's
// own dead-letter topic, an Inbox that forgets before the last retry, order on
// a broker that has none. o may be nil.
func (b *Broker) Consumer(group string, o *ConsumerOptions, routes ...Route) (*Consumer, error) {
	c := &Consumer{broker: b, group: group, routes: make(map[string]Handler), trouble: make(map[string]error)}
	if o != nil {
		c.opts = *o
	}
	if err := c.configure(routes); err != nil {
		return nil, &Error{Op: "consume", Topic: only(c.topics), Group: group, Err: err}
	}
	return c, nil
}

// Declare makes what the group needs and does not exist: topics, the group,
// what its retries need, dead-letter topics. From then on messages wait for
// the group.
func (c *Consumer) Declare(ctx context.Context) error {
	d, ok := c.broker.driver.(driver.Declarer)
	if !ok {
		return nil
	}
	if err := d.Declare(ctx, c.sub); err != nil {
		return c.fail("declare", err)
	}
	return nil
}

// Health returns nil while Run runs, the broker answers and nothing is stuck.
func (c *Consumer) Health(ctx context.Context) error {
	c.mu.Lock()
	running := c.running
	var err error
	for _, e := range c.trouble {
		err = e
		break
	}
	c.mu.Unlock()
	if !running {
		return c.fail("health", errNotRunning)
	}
	if err != nil {
		return c.fail("health", err)
	}
	if err := c.broker.driver.Health(ctx); err != nil {
		return c.fail("health", err)
	}
	return nil
}

func (c *Consumer) setLanes(l *lanes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes = l
}

// held returns how long the oldest message has been held here, 0 if there is none.
func (c *Consumer) held() time.Duration {
	c.mu.Lock()
	l := c.lanes
	c.mu.Unlock()
	if l == nil {
		return 0
	}
	since := l.oldest()
	if since.IsZero() {
		return 0
	}
	return time.Since(since)
}

// setTrouble records, or with a nil err removes, what Health should say about what.
func (c *Consumer) setTrouble(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.trouble, what)
	} else {
		c.trouble[what] = err
	}
}

func (c *Consumer) fail(op string, err error) error {
	return &Error{Op: op, Topic: only(c.topics), Group: c.group, Err: err}
}
