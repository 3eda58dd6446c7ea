package kafka_test

import (
	"context"
	"errors"
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
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
		var wire scissors
		return messagingtest.Harness{
			Driver: open(t, addrs, &wire, messaging.Verify).Driver(), Cut: wire.cut, Restart: restart(),
		}
	})
}

func open(t *testing.T, addrs []string, wire *scissors, topology messaging.Topology) *messaging.Broker {
	t.Helper()
	config := sarama.NewConfig()
	config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, wire
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

// scissors dials, and cuts what it has dialled.
type scissors struct {
	mu    sync.Mutex
	open  map[net.Conn]struct{}
	until time.Time
}

var errCut = errors.New("cut off")

func (s *scissors) Dial(network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return nil, errCut
	}
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if s.open == nil {
		s.open = make(map[net.Conn]struct{})
	}
	s.open[c] = struct{}{}
	return c, nil
}

// cut breaks every connection and lets none be made for d.
func (s *scissors) cut(d time.Duration) {
	s.mu.Lock()
	s.until = time.Now().Add(d)
	for c := range s.open {
		_ = c.Close()
	}
	clear(s.open)
	s.mu.Unlock()
	time.Sleep(d)
}

func TestNothingIsLeftBehind(t *testing.T) {
	addrs := servertest.Kafka(t)
	name := fmt.Sprintf("leak-%d", time.Now().UnixNano())
	use := func() {
		b := open(t, addrs, &scissors{}, messaging.Declare)
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

// TestChaos publishes and consumes while connections are cut, members of the
// group come and go, and, where it can, the broker is killed.
func TestChaos(t *testing.T) {
	addrs := servertest.Kafka(t)
	long := os.Getenv("MAINSTAY_SOAK") != ""
	var wire scissors
	b := open(t, addrs, &wire, messaging.Declare)
	ledger := messagingtest.NewLedger()
	name := fmt.Sprintf("chaos-%d", time.Now().UnixNano())
	require.NoError(t, b.Declare(t.Context(), name))

	consuming, stop := context.WithCancel(t.Context())
	var members, writers sync.WaitGroup
	ended := make(chan error, 64)
	member := func(ctx context.Context) error {
		c, err := b.Consumer(name, &messaging.ConsumerOptions{Drain: 2 * time.Second},
			messaging.On(name, func(context.Context, *messaging.Delivery) error { return nil }).With(ledger.Middleware))
		if err == nil {
			err = c.Run(ctx)
		}
		return err
	}
	for range 2 {
		members.Go(func() {
			if err := member(consuming); err != nil {
				ended <- err
			}
		})
	}

	writing, enough := context.WithCancel(t.Context())
	for w := range 4 { // each has keys of its own
		writers.Go(func() {
			for n := 0; writing.Err() == nil; n++ {
				m := &messaging.Message{ID: fmt.Sprintf("%d-%d", w, n), Topic: name, Key: fmt.Sprintf("%d-%d", w, n%5), Body: []byte("x")}
				for t.Context().Err() == nil {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					err := ledger.Publish(ctx, b.Publisher(), m)
					cancel()
					if err == nil {
						break
					}
				}
				time.Sleep(2 * time.Millisecond) // pace, so that consumers keep up
			}
		})
	}
	guest := func(d time.Duration) {
		ctx, leave := context.WithTimeout(consuming, d)
		defer leave()
		for ctx.Err() == nil { // who starts during an outage is told so
			_ = member(ctx)
			time.Sleep(100 * time.Millisecond)
		}
	}
	members.Go(func() { guest(2 * time.Second) })
	time.Sleep(2 * time.Second)
	wire.cut(500 * time.Millisecond)
	time.Sleep(2 * time.Second)
	if long {
		for _, d := range []time.Duration{5 * time.Second, 100 * time.Millisecond, 20 * time.Second} {
			members.Go(func() { guest(2 * d) })
			wire.cut(d)
			time.Sleep(3 * time.Second)
		}
	}
	if kill := restart(); kill != nil {
		require.NoError(t, kill(t.Context()))
		time.Sleep(3 * time.Second)
	}
	enough()
	writers.Wait()

	require.Eventually(t, func() bool { return ledger.Counts().Lost == 0 || len(ended) > 0 }, 90*time.Second, 100*time.Millisecond,
		"%+v", ledger.Counts())
	stop()
	members.Wait()
	select {
	case err := <-ended:
		require.NoError(t, err, "a consumer gave up")
	default:
	}
	got := ledger.Counts()
	t.Logf("%+v", got)
	require.Zero(t, got.Lost+got.Inverted+got.Overlapping, ledger)
	require.NotZero(t, got.Published)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, b.Close(ctx))
}
