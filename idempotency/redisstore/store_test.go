package redisstore_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/idempotency/idempotencytest"
	"github.com/mainstay-go/mainstay/idempotency/redisstore"
	"github.com/mainstay-go/mainstay/internal/servertest"
)

// connect returns a client, and a prefix of the test's own whose keys are
// deleted with it.
func connect(t testing.TB) (*redis.Client, string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: servertest.Redis(t)})
	prefix := "test:" + uuid.NewString() + ":"
	t.Cleanup(func() {
		ctx := context.Background()
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(t, client.Del(ctx, keys.Val()).Err())
		}
		require.NoError(t, keys.Err())
		require.NoError(t, client.Close())
	})
	return client, prefix
}

func open(t testing.TB) *redisstore.Store {
	client, prefix := connect(t)
	return redisstore.New(client, &redisstore.Options{Prefix: prefix})
}

func TestStore(t *testing.T) {
	servertest.Redis(t)
	idempotencytest.TestStore(t, func(t *testing.T) idempotency.Store { return open(t) })
}

func BenchmarkStore(b *testing.B) {
	servertest.Redis(b)
	idempotencytest.BenchmarkStore(b, func(b *testing.B) idempotency.Store { return open(b) })
}
