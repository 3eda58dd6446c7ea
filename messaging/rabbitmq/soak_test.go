package rabbitmq_test

import (
	"context"
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
)

// TestSoak publishes and consumes while the server is killed, connections are
// cut and consumers die without a word, and counts. Short: 2 kills of the
// server (where it can), 5 cuts, 3 consumers; with MAINSTAY_SOAK 20, 50, 20.
func TestSoak(t *testing.T) {
	server := servertest.AMQP(t)
	restarts, cuts, kills := 2, 5, 3
	if os.Getenv("MAINSTAY_SOAK") != "" {
		restarts, cuts, kills = 20, 50, 20
	}
	kill := restart()
	if kill == nil {
		t.Log("the server is not killed: MAINSTAY_RABBITMQ_RESTART is not set")
		restarts = 0
	}
	proxy, through := proxied(t, server)
	b := open(t, through, messaging.Declare)
	ledger := messagingtest.NewLedger()
	name := fmt.Sprintf("soak-%d", time.Now().UnixNano())

	// member is a consumer with connections of its own, through a proxy of its
	// own: cutting that for good is how it dies.
	var members sync.WaitGroup
	member := func(ctx context.Context, url string) {
		mb := open(t, url, messaging.Declare)
		c, err := mb.Consumer(name, &messaging.ConsumerOptions{Drain: 2 * time.Second},
			messaging.On(name, func(context.Context, *messaging.Delivery) error {
				time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond) // long enough to overlap
				return nil
			}).With(ledger.Middleware))
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
		member(consuming, through)
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
	for range kills {
		faults = append(faults, func() {
			own, url := proxied(t, server)
			ctx, leave := context.WithCancel(consuming)
			member(ctx, url)
			pause()
			gone := make(chan struct{})
			go func() {
				own.Cut(5 * time.Second)
				close(gone)
			}()
			time.Sleep(100 * time.Millisecond)
			leave()
			<-gone
		})
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
	t.Logf("%d kills of the server, %d cuts, %d consumers killed: %s", restarts, cuts, kills, ledger)
	require.Zero(t, got.Lost+got.Inverted+got.Overlapping, ledger)
	require.NotZero(t, got.Published)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, b.Close(ctx))
}
