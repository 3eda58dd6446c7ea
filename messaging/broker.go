package messaging

import (
	"context"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Options are what a broker's publishers and consumers share.
type Options struct {
	// TracerProvider makes the spans of publishing and processing. Nil: the
	// global one of OpenTelemetry.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the counters and histograms. Nil: the global one.
	MeterProvider metric.MeterProvider
	// Logger hears of failures, retries and dead letters. Nil: silence.
	Logger *slog.Logger
	// Topology says what to do about topics before they are used. Default: Verify.
	Topology Topology
}

// Topology says who makes topics, queues and groups.
type Topology int

const (
	// Verify makes Consumer.Run refuse, by name, what does not exist. Somebody
	// else makes it: an operator, Broker.Declare, Consumer.Declare.
	Verify Topology = iota
	// Declare makes what is missing: for a consumer when it runs, for a
	// publisher before the first message to a topic.
	Declare
	// Trust neither looks nor makes.
	Trust
)

// Broker is a connection to a message broker. It is got from an adapter's
// Open, or New for the one in memory, and is safe for concurrent use.
type Broker struct {
	driver driver.Broker
	opts   Options
	tel    *telemetry
	pub    *Publisher

	mu       sync.Mutex
	declared map[string]bool
}

// NewBroker returns the front of d. Adapters call it; programs call adapters.
// The Broker owns d from now on and closes it.
func NewBroker(d driver.Broker, o *Options) *Broker {
	b := &Broker{driver: d, declared: make(map[string]bool)}
	if o != nil {
		b.opts = *o
	}
	b.tel = newTelemetry(&b.opts, d.Capabilities().Name)
	b.pub = newPublisher(d, d.Capabilities().MaxBytes, b.tel)
	if b.opts.Topology == Declare {
		b.pub.prepare = b.declareOnce
	}
	return b
}

// Publisher returns the broker's publisher, always the same one. It needs no
// closing.
func (b *Broker) Publisher() *Publisher { return b.pub }

// Driver returns the driver, for packages that use abilities beyond this one.
func (b *Broker) Driver() driver.Broker { return b.driver }

// Declare makes the topics that do not exist, to publish to. Where the broker
// has nothing to declare it does nothing.
func (b *Broker) Declare(ctx context.Context, topics ...string) error {
	if len(topics) == 0 {
		return nil
	}
	d, ok := b.driver.(driver.Declarer)
	if !ok {
		return nil
	}
	if err := d.Declare(ctx, driver.Subscription{Topics: topics}); err != nil {
		return &Error{Op: "declare", Topic: only(topics), Err: err}
	}
	return nil
}

func (b *Broker) declareOnce(ctx context.Context, topic string) error {
	b.mu.Lock()
	done := b.declared[topic]
	b.mu.Unlock()
	if done {
		return nil
	}
	if err := b.Declare(ctx, topic); err != nil {
		return err
	}
	b.mu.Lock()
	b.declared[topic] = true
	b.mu.Unlock()
	return nil
}

// Health returns nil if the broker answers.
func (b *Broker) Health(ctx context.Context) error {
	if err := b.driver.Health(ctx); err != nil {
		return &Error{Op: "health", Err: err}
	}
	return nil
}

// Close ends the connection and every consumer on it: end their Run first, or
// they end with an error. A second call returns nil.
func (b *Broker) Close(ctx context.Context) error {
	if err := b.driver.Close(ctx); err != nil {
		return &Error{Op: "close", Err: err}
	}
	return nil
}

func only(topics []string) string {
	if len(topics) == 1 {
		return topics[0]
	}
	return ""
}
