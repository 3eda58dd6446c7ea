package redisstream_test

import (
	"context"
	"os"
	"os/exec"
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
		wire := messagingtest.NewProxy(t, addr)
		return messagingtest.Harness{
			Driver: open(t, wire.Addr(), &redisstream.Options{Lease: 2 * time.Second}).Driver(), Cut: wire.Cut, Restart: restart(),
		}
	})
}

func open(t testing.TB, addr string, o *redisstream.Options) *messaging.Broker {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 50})
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
