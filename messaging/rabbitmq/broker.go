package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// broker is the connections to a server: one for control, which answers at
// once; one that publishes, which the server stops reading when it is short of
// memory or disk; and one for each member of a group, which must be heard then.
type broker struct {
	url        string
	base       amqp.Config
	partitions int
	maxBytes   int

	connecting chan struct{} // holds one: who makes the control connection
	pub        publisher
	wg         sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	control   *conn
	known     map[string]bool // topics that exist
	receivers map[*receiver]struct{}
}

func newBroker(url string, o *Options) *broker {
	b := &broker{
		url: url, partitions: o.Partitions, maxBytes: o.MaxBytes,
		connecting: make(chan struct{}, 1), known: make(map[string]bool), receivers: make(map[*receiver]struct{}),
	}
	if o.AMQP != nil {
		b.base = *o.AMQP
	}
	b.pub = publisher{broker: b, connecting: make(chan struct{}, 1)}
	return b
}

// Capabilities implements driver.Broker.
func (b *broker) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "rabbitmq", Durable: true, KeyOrder: true, DelayUnordered: true, Notes: true, MaxBytes: b.maxBytes}
}

// start runs f in a goroutine that Close waits for. A closed broker starts
// nothing.
func (b *broker) start(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(f)
	return true
}

func (b *broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// controlConn returns the control connection, a new one after one that broke.
func (b *broker) controlConn(ctx context.Context) (*conn, error) {
	select {
	case b.connecting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-b.connecting }()
	b.mu.Lock()
	c, closed := b.control, b.closed
	b.mu.Unlock()
	switch {
	case closed:
		return nil, driver.ErrClosed
	case c != nil && !c.IsClosed():
		return c, nil
	}
	c, err := b.dial(ctx, "control")
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		c.kill()
		return nil, driver.ErrClosed
	}
	b.control = c
	return c, nil
}

// ask runs f with channels of the control connection, within ctx.
func (b *broker) ask(ctx context.Context, f func(*channels) error) error {
	c, err := b.controlConn(ctx)
	if err != nil {
		return err
	}
	return wait.Call(ctx, b.start, func() error {
		ch := &channels{conn: c}
		defer ch.close()
		return f(ch)
	})
}

// channels hands out a channel, a new one after a question that the server
// answered by closing it.
type channels struct {
	conn *conn
	now  *amqp.Channel
}

func (c *channels) channel() (*amqp.Channel, error) {
	if c.now != nil && !c.now.IsClosed() {
		return c.now, nil
	}
	ch, err := c.conn.Channel()
	if err != nil {
		return nil, err
	}
	c.now = ch
	return ch, nil
}

func (c *channels) close() {
	if c.now != nil {
		_ = c.now.Close()
	}
}

// Health implements driver.Broker.
func (b *broker) Health(ctx context.Context) error {
	err := b.ask(ctx, func(c *channels) error {
		_, err := c.channel() // a round trip
		return err
	})
	if err != nil {
		return err
	}
	if reason := b.pub.blockedBy(); reason != "" {
		return fmt.Errorf("the server does not take messages: %s", reason)
	}
	return nil
}

// Close implements driver.Broker.
func (b *broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	control := b.control
	var open []*receiver
	for r := range b.receivers {
		open = append(open, r)
	}
	b.mu.Unlock()
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(open)+2)
	)
	for i, r := range open {
		wg.Go(func() { errs[i] = r.Close(ctx) })
	}
	wg.Wait()
	wg.Go(func() { errs[len(open)] = b.pub.close(ctx) })
	if control != nil {
		wg.Go(func() { errs[len(open)+1] = control.end(ctx) })
	}
	wg.Wait()
	return errors.Join(append(errs, wait.End(ctx, &b.wg))...) // the last call ends by the deadlines of its connection
}
