package conform_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

// wires dial through a proxy per address.
type wires struct {
	t  *testing.T
	mu sync.Mutex
	to map[string]*messagingtest.Proxy
}

func (w *wires) Dial(network, addr string) (net.Conn, error) {
	w.mu.Lock()
	p := w.to[addr]
	if p == nil {
		p = messagingtest.NewProxy(w.t, addr)
		w.to[addr] = p
	}
	w.mu.Unlock()
	return net.DialTimeout(network, p.Addr(), 5*time.Second)
}

func (w *wires) stall(d time.Duration) {
	var wg sync.WaitGroup
	w.mu.Lock()
	for _, p := range w.to {
		wg.Go(func() { p.Stall(d) })
	}
	w.mu.Unlock()
	wg.Wait()
}

// A member that hears nothing for so long that others have its partition begins
// no handler beside theirs, also of what it holds already.
func TestKafkaBeginsNothingBesideTheNextOwner(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t", "t.dead"), kfake.GroupMinSessionTimeout(500*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func(through *wires) *messaging.Broker {
		c := sarama.NewConfig()
		c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = 2*time.Second, 500*time.Millisecond
		if through != nil {
			c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, through
		}
		b, err := kafka.Open(ctx, cluster.ListenAddrs(), &kafka.Options{Sarama: c})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, b.Close(context.Background())) })
		return b
	}
	wire := &wires{t: t, to: make(map[string]*messagingtest.Proxy)}
	first, second := open(wire), open(nil)
	const total = 25
	var msgs []*messaging.Message
	for n := range total {
		msgs = append(msgs, &messaging.Message{ID: fmt.Sprint(n), Topic: "t", Key: "k"})
	}
	require.NoError(t, second.Publisher().Publish(ctx, msgs...))

	var mu sync.Mutex
	var events []string
	begun := map[string]chan struct{}{"first": make(chan struct{}), "second": make(chan struct{})}
	handled := make(map[string]bool)
	all := make(chan struct{})
	run := func(name string, b *messaging.Broker) (stop func() error) {
		c, err := b.Consumer("g", &messaging.ConsumerOptions{Drain: time.Second}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
			mu.Lock()
			events = append(events, name)
			if c := begun[name]; c != nil {
				close(c)
				begun[name] = nil
			}
			mu.Unlock()
			time.Sleep(500 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if handled[d.ID] = true; len(handled) == total && all != nil {
				close(all)
				all = nil
			}
			return nil
		}))
		require.NoError(t, err)
		running, stopRun := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- c.Run(running) }()
		return func() error {
			stopRun()
			return <-done
		}
	}
	finished, firstBegun, secondBegun := all, begun["first"], begun["second"]
	stopFirst := run("first", first)
	<-firstBegun
	stalled := make(chan struct{})
	go func() {
		defer close(stalled)
		wire.stall(12 * time.Second)
	}()
	stopSecond := run("second", second)
	<-secondBegun
	<-stalled
	mu.Lock()
	seen := events
	mu.Unlock()
	beside := 0
	for i, name := range seen {
		if name == "first" && i > 0 && seen[i-1] == "second" {
			beside++
		}
	}
	require.Zero(t, beside, "handlers that the first one began beside the second one's: %v", seen)
	<-finished
	require.NoError(t, stopSecond())
	require.NoError(t, stopFirst())
}
