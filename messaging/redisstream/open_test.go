package redisstream

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
)

func TestPersistenceIsTold(t *testing.T) {
	for set, want := range map[[2]string]string{
		{"yes", "always"}:   "on disk when published (appendfsync always)",
		{"yes", "everysec"}: "on disk within about a second (appendfsync everysec)",
		{"yes", "no"}:       "on disk when the operating system writes it (appendfsync no)",
		{"no", "always"}:    "since the last snapshot gone with a crash of the server (appendonly no)",
		{"", ""}:            "on disk as the server is set, which it does not tell (appendfsync)",
		{"yes", "new"}:      "on disk as the server is set, which it does not tell (appendfsync)",
	} {
		require.Equal(t, want, persistence(set[0], set[1]))
	}
}

func nothing(context.Context, *messaging.Delivery) error { return nil }

func TestGuaranteeTellsWhatTheServerIsSetTo(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servertest.Redis(t)})
	t.Cleanup(func() { _ = client.Close() })
	set := client.ConfigGet(t.Context(), "append*").Val()
	b, err := Open(t.Context(), client, &Options{Lease: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.WithoutCancel(t.Context()))) })
	c, err := b.Consumer("g", nil, messaging.On("t", nothing))
	require.NoError(t, err)
	require.Contains(t, c.Guarantee(), "append", c.Guarantee())
	if set["appendonly"] == "yes" {
		require.Contains(t, c.Guarantee(), "(appendfsync "+set["appendfsync"]+")")
	}
}
