package kafka_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func TestConformance(t *testing.T) {
	addrs := servertest.Kafka(t)
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness { return harness(t, addrs, messaging.Verify) })
}

func harness(t *testing.T, addrs []string, topology messaging.Topology) messagingtest.Harness {
	t.Helper()
	wires := newWires(t)
	return messagingtest.Harness{Driver: open(t, addrs, wires, topology).Driver(), Cut: wires.cut, Stall: wires.stall, Restart: restart(), ByPosition: true}
}

func open(t *testing.T, addrs []string, through *wires, topology messaging.Topology) *messaging.Broker {
	t.Helper()
	config := sarama.NewConfig()
	if through != nil {
		config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, through
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := kafka.Open(ctx, addrs, &kafka.Options{Sarama: config, Messaging: messaging.Options{Topology: topology}})
	require.NoError(t, err)
	return b
}

// restart runs what MAINSTAY_KAFKA_RESTART says: a shell command that kills the
// broker and returns when it is back.
func restart() func(context.Context) error {
	command := os.Getenv("MAINSTAY_KAFKA_RESTART")
	if command == "" {
		return nil
	}
	return func(ctx context.Context) error { return exec.CommandContext(ctx, "sh", "-c", command).Run() }
}

// wires dials through a proxy per address, since brokers say themselves where
// they are.
type wires struct {
	t  *testing.T
	mu sync.Mutex
	to map[string]*messagingtest.Proxy
}

func newWires(t *testing.T) *wires { return &wires{t: t, to: make(map[string]*messagingtest.Proxy)} }

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

func (w *wires) all(do func(*messagingtest.Proxy)) {
	var wg sync.WaitGroup
	w.mu.Lock()
	for _, p := range w.to {
		wg.Go(func() { do(p) })
	}
	w.mu.Unlock()
	wg.Wait()
}

func (w *wires) cut(d time.Duration)   { w.all(func(p *messagingtest.Proxy) { p.Cut(d) }) }
func (w *wires) stall(d time.Duration) { w.all(func(p *messagingtest.Proxy) { p.Stall(d) }) }

func TestNothingIsLeftBehind(t *testing.T) {
	addrs := servertest.Kafka(t)
	name := fmt.Sprintf("leak-%d", time.Now().UnixNano())
	use := func() {
		b := open(t, addrs, nil, messaging.Declare)
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: name}))
		c, err := b.Consumer(name, nil, messaging.On(name, func(context.Context, *messaging.Delivery) error {
			stop()
			return nil
		}))
		require.NoError(t, err)
		require.NoError(t, c.Run(ctx))
		require.NoError(t, b.Close(context.Background()))
	}
	use() // the metrics library keeps one for ever
	before := runtime.NumGoroutine()
	use()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 10*time.Second, 50*time.Millisecond, // Eventually has one
		"there were %d goroutines, and there are %d", before, runtime.NumGoroutine())
}

// TestFaults runs on three nodes as on one: MAINSTAY_KAFKA_RESTART says which
// of them it kills.
func TestFaults(t *testing.T) {
	addrs := servertest.Kafka(t)
	faults := messagingtest.Faults{Restarts: 2, Cuts: 5, Kills: 3}
	if os.Getenv("MAINSTAY_SOAK") != "" {
		faults = messagingtest.Faults{Restarts: 20, Cuts: 50, Kills: 20, Stalls: 10, Pause: 15 * time.Second}
	}
	messagingtest.TestFaults(t, func(t *testing.T) messagingtest.Harness { return harness(t, addrs, messaging.Declare) }, faults)
}
