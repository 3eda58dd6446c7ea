package redisstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

func TestConformance(t *testing.T) {
	addr := servertest.Redis(t)
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
		var wire scissors
		return messagingtest.Harness{
			Driver: open(t, addr, &wire, &redisstream.Options{Lease: 2 * time.Second}).Driver(), Cut: wire.cut, Restart: restart(),
		}
	})
}

func open(t testing.TB, addr string, wire *scissors, o *redisstream.Options) *messaging.Broker {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Dialer: wire.dial, PoolSize: 50})
	t.Cleanup(func() { _ = c.Close() })
	b, err := redisstream.Open(t.Context(), c, o)
	require.NoError(t, err)
	return b
}

// restart runs what MAINSTAY_REDIS_RESTART says: a shell command that kills the
// server and returns when it is back.
func restart() func(context.Context) error {
	command := os.Getenv("MAINSTAY_REDIS_RESTART")
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

func (s *scissors) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
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

var _ = fmt.Sprint
