package messaging_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

// faulty is the broker in memory with faults and without abilities.
type faulty struct {
	driver.Broker
	noDelay, noOrder bool
	// publish, settle and receive are asked before each call; nil: no fault.
	publish func([]driver.Message) []error
	settle  func([]driver.Settlement) error
	receive func() error
	// note is asked before each note; without it, nothing is noted.
	note func(context.Context, []driver.Noted) error
	// lease is of all deliveries; nil: there is none.
	lease *lease

	mu       sync.Mutex
	notes    map[string]driver.Note
	out, max int // deliveries unsettled, and the most there were
}

func newFaulty() *faulty { return &faulty{Broker: memory.New(nil).Driver()} }

func (f *faulty) front() *messaging.Broker {
	return messaging.NewBroker(f, &messaging.Options{Topology: messaging.Declare})
}

func (f *faulty) Capabilities() driver.Capabilities {
	c := f.Broker.Capabilities()
	c.Delay, c.KeyOrder, c.Notes = c.Delay && !f.noDelay, c.KeyOrder && !f.noOrder, f.note != nil
	return c
}

func (f *faulty) Declare(ctx context.Context, s driver.Subscription) error {
	return f.Broker.(driver.Declarer).Declare(ctx, s)
}

func (f *faulty) Verify(ctx context.Context, s driver.Subscription) error {
	return f.Broker.(driver.Declarer).Verify(ctx, s)
}

func (f *faulty) Publish(ctx context.Context, msgs []driver.Message) []error {
	if f.publish != nil {
		if errs := f.publish(msgs); errs != nil {
			return errs
		}
	}
	return f.Broker.Publish(ctx, msgs)
}

func (f *faulty) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := f.Broker.Subscribe(ctx, s)
	return &faultyReceiver{r, f}, err
}

type faultyReceiver struct {
	driver.Receiver
	f *faulty
}

func (r *faultyReceiver) Receive(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if r.f.receive != nil {
		if err := r.f.receive(); err != nil {
			return nil, err
		}
	}
	ds, err := r.Receiver.Receive(ctx, limit)
	if r.f.receive != nil && len(ds) > 0 {
		// What began to wait before an outage gets nothing in it.
		if err := r.f.receive(); err != nil {
			return nil, err
		}
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.out += len(ds)
	r.f.max = max(r.f.max, r.f.out)
	for i := range ds {
		if l := r.f.lease; l != nil {
			l.attach(&ds[i])
		}
		if n, ok := r.f.notes[ds[i].ID]; ok {
			ds[i].Note = &n
		}
	}
	return ds, err
}

// Note implements driver.Noter.
func (r *faultyReceiver) Note(ctx context.Context, notes []driver.Noted) error {
	if err := r.f.note(ctx, notes); err != nil {
		return err
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.notes == nil {
		r.f.notes = make(map[string]driver.Note)
	}
	for _, n := range notes {
		r.f.notes[n.Delivery.ID] = n.Note
	}
	return nil
}

func (r *faultyReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	if r.f.settle != nil {
		if err := r.f.settle(s); err != nil {
			return err
		}
	}
	err := r.Receiver.Settle(ctx, s)
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.out -= len(s)
	return err
}

// start runs c until the returned function is called, which returns what Run
// returned.
func start(t *testing.T, c *messaging.Consumer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		return <-done
	}
}

func consumer(t *testing.T, b *messaging.Broker, o *messaging.ConsumerOptions, routes ...messaging.Route) *messaging.Consumer {
	t.Helper()
	c, err := b.Consumer("group", o, routes...)
	require.NoError(t, err)
	return c
}

func publish(t *testing.T, b *messaging.Broker, msgs ...*messaging.Message) {
	t.Helper()
	require.NoError(t, b.Publisher().Publish(t.Context(), msgs...))
}

func msg(id, key string) *messaging.Message {
	return &messaging.Message{ID: id, Topic: "t", Key: key, Body: []byte(id)}
}

// deadLetters consumes a dead-letter topic into a channel, in the group that
// wrote it.
func deadLetters(t *testing.T, b *messaging.Broker, topic string) (<-chan *messaging.Delivery, func() error) {
	t.Helper()
	got := make(chan *messaging.Delivery, 100)
	c, err := b.Consumer("group", nil, messaging.On(topic, func(_ context.Context, d *messaging.Delivery) error {
		got <- d
		return nil
	}))
	require.NoError(t, err)
	return got, start(t, c)
}

// never is the channel of things that must not happen for a while.
func never[T any](t *testing.T, c <-chan T, d time.Duration, what string) {
	t.Helper()
	select {
	case x := <-c:
		require.Failf(t, what, "%v", x)
	case <-time.After(d):
	}
}

func subscription(topics ...string) driver.Subscription { return driver.Subscription{Topics: topics} }
