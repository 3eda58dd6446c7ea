package redisstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

// TestSoak publishes and consumes while the server is killed, connections are
// cut and stall beyond the lease, and consumers die without a word, and counts.
// Short: 2 kills of the server (where it can), 5 cuts, 3 consumers, 1 stall;
// with MAINSTAY_SOAK 20, 50, 20, 10. The server must sync what it confirms:
// appendfsync always.
func TestSoak(t *testing.T) {
	server := servertest.Redis(t)
	restarts, cuts, kills, stalls := 2, 5, 3, 1
	if os.Getenv("MAINSTAY_SOAK") != "" {
		restarts, cuts, kills, stalls = 20, 50, 20, 10
	}
	kill := restart()
	if kill == nil {
		t.Log("the server is not killed: MAINSTAY_REDIS_RESTART is not set")
		restarts = 0
	}
	settings := &redisstream.Options{Lease: 2 * time.Second, Messaging: messaging.Options{Topology: messaging.Declare}}
	proxy := messagingtest.NewProxy(t, server)
	b := open(t, proxy.Addr(), settings)
	ledger := messagingtest.NewLedger()
	name := fmt.Sprintf("soak-%d", time.Now().UnixNano())

	handle := func(ctx context.Context, d *messaging.Delivery) error {
		select { // long enough to overlap, if two had one key
		case <-time.After(time.Duration(rand.IntN(3)) * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if d.Attempt == 1 && rand.IntN(50) == 0 {
			return errors.New("one in fifty fails")
		}
		return nil
	}
	var members sync.WaitGroup
	member := func(ctx context.Context, addr string) {
		mb := open(t, addr, settings)
		c, err := mb.Consumer(name, &messaging.ConsumerOptions{
			Drain: 2 * time.Second,
			Retry: messaging.RetryPolicy{MaxAttempts: -1, Delays: []time.Duration{50 * time.Millisecond, time.Second}},
		}, messaging.On(name, handle).With(ledger.Middleware))
		require.NoError(t, err)
		require.NoError(t, c.Declare(ctx))
		members.Go(func() {
			for ctx.Err() == nil { // who starts during an outage is told so
				if err := c.Run(ctx); err != nil {
					t.Logf("a consumer ended: %v", err)
					time.Sleep(200 * time.Millisecond)
				}
			}
			closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = mb.Close(closing) // the server may be away
		})
	}
	consuming, stop := context.WithCancel(t.Context())
	for range 2 {
		member(consuming, proxy.Addr())
	}

	writing, enough := context.WithCancel(t.Context())
	var writers sync.WaitGroup
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
	pause := func() { time.Sleep(time.Duration(500+rand.IntN(1500)) * time.Millisecond) }
	var faults []func()
	for range restarts {
		faults = append(faults, func() { require.NoError(t, kill(t.Context())) })
	}
	for range cuts {
		faults = append(faults, func() { proxy.Cut(time.Duration(rand.IntN(1000)) * time.Millisecond) })
	}
	guest := func(fault func(*messagingtest.Proxy), leave bool) func() {
		return func() { // a member with a connection of its own
			own := messagingtest.NewProxy(t, server)
			ctx, end := context.WithCancel(consuming)
			member(ctx, own.Addr())
			pause()
			gone := make(chan struct{})
			go func() {
				fault(own)
				close(gone)
			}()
			time.Sleep(100 * time.Millisecond)
			if leave {
				end()
			}
			<-gone
			pause()
			end()
		}
	}
	for range kills {
		faults = append(faults, guest(func(p *messagingtest.Proxy) { p.Cut(4 * time.Second) }, true))
	}
	for range stalls { // it comes back when others have its partitions
		faults = append(faults, guest(func(p *messagingtest.Proxy) { p.Stall(6 * time.Second) }, false))
	}
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	pause()
	for _, f := range faults {
		f()
		pause()
	}
	enough()
	writers.Wait()
	require.Eventually(t, func() bool { return ledger.Counts().Lost == 0 }, 90*time.Second, 100*time.Millisecond, "%s", ledger)
	stop()
	members.Wait()
	got := ledger.Counts()
	t.Logf("%d kills of the server, %d cuts, %d consumers killed, %d stalled: %s", restarts, cuts, kills, stalls, ledger)
	require.Zero(t, got.Lost+got.Inverted+got.Overlapping, ledger)
	require.NotZero(t, got.Published)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, b.Close(ctx))
}
