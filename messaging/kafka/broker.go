package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// broker is a connection to a cluster.
type broker struct {
	addrs                []string
	base                 *sarama.Config
	partitions, replicas int
	maxBytes             int
	control              sarama.Client

	making chan struct{} // holds one: who makes a producer
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	producer  *producer
	known     map[string]bool // topics that exist
	receivers map[*receiver]struct{}
}

func open(ctx context.Context, addrs []string, o *Options) (*broker, error) {
	b := &broker{
		addrs: addrs, base: o.Sarama, partitions: o.Partitions, replicas: o.Replicas,
		maxBytes: max(o.Sarama.Producer.MaxMessageBytes-overhead, 1),
		making:   make(chan struct{}, 1), known: make(map[string]bool), receivers: make(map[*receiver]struct{}),
	}
	client, err := b.connect(ctx, controlConfig(b.base))
	if err != nil {
		return nil, err
	}
	b.control = client
	if _, err := b.currentProducer(ctx); err != nil {
		_ = client.Close()
		return nil, err
	}
	return b, nil
}

// connect makes a client, if somebody answers.
func (b *broker) connect(ctx context.Context, c *sarama.Config) (sarama.Client, error) {
	return wait.Answer(ctx, b.start, func() (sarama.Client, error) {
		if err := b.ping(ctx, c); err != nil {
			return nil, err
		}
		return sarama.NewClient(b.addrs, c) // without metadata of everything, it connects later
	}, func(c sarama.Client) { _ = c.Close() })
}

// ping asks one address after the other until one answers.
func (b *broker) ping(ctx context.Context, c *sarama.Config) error {
	var errs []error
	for _, addr := range b.addrs {
		try := *c
		if deadline, ok := ctx.Deadline(); ok {
			left := max(time.Until(deadline), time.Millisecond)
			try.Net.DialTimeout, try.Net.ReadTimeout = min(try.Net.DialTimeout, left), min(try.Net.ReadTimeout, left)
		}
		at := sarama.NewBroker(addr)
		err := at.Open(&try)
		if err == nil {
			_, err = at.ApiVersions(&sarama.ApiVersionsRequest{})
			_ = at.Close()
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = fmt.Errorf("it hung up, as brokers do that expect TLS, or other credentials: see Options.Sarama, Net.TLS and Net.SASL: %w", err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return fmt.Errorf("no broker answers: %w", errors.Join(errs...))
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

// Capabilities implements driver.Broker.
func (b *broker) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "kafka", Durable: true, KeyOrder: true, DelayUnordered: true, Notes: true, Replay: true, MaxBytes: b.maxBytes}
}

// Health implements driver.Broker. Any broker of the cluster will do.
func (b *broker) Health(ctx context.Context) error {
	if b.isClosed() {
		return driver.ErrClosed
	}
	return wait.Call(ctx, b.start, func() error {
		for _, at := range b.control.Brokers() {
			_ = at.Open(b.control.Config()) // it may be open
			if _, err := at.ApiVersions(&sarama.ApiVersionsRequest{}); err == nil {
				return nil
			}
			_ = at.Close()
		}
		return b.ping(ctx, b.control.Config())
	})
}

func (b *broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close implements driver.Broker.
func (b *broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	p := b.producer
	var open []*receiver
	for r := range b.receivers {
		open = append(open, r)
	}
	b.mu.Unlock()
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(open))
	)
	for i, r := range open {
		wg.Go(func() { errs[i] = r.Close(ctx) })
	}
	wg.Wait()
	if p != nil {
		errs = append(errs, p.close(ctx))
	}
	if err := b.control.Close(); err != nil && !errors.Is(err, sarama.ErrClosedClient) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, wait.End(ctx, &b.wg))...) // the last call ends by the timeouts of its client
}
