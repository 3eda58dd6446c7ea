package rabbitmq_test

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

func TestOpenSaysWhoDoesNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refusing.Close())
	for name, addr := range map[string]string{"silent": silent.Addr().String(), "refusing": refusing.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := rabbitmq.Open(ctx, "amqp://me:secret@"+addr+"/", nil)
			var e *messaging.Error
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, addr)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]struct {
		url string
		o   rabbitmq.Options
	}{
		"partitions":      {"amqp://localhost", rabbitmq.Options{Partitions: -1}},
		"many partitions": {"amqp://localhost", rabbitmq.Options{Partitions: 65}},
		"max bytes":       {"amqp://localhost", rabbitmq.Options{MaxBytes: -1}},
		"scheme":          {"http://me:secret@localhost", rabbitmq.Options{}},
		"no URL":          {"amqp://me:secret@local host:x", rabbitmq.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rabbitmq.Open(t.Context(), c.url, &c.o)
			require.ErrorIs(t, err, messaging.ErrConfig)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestWrongCredentialsEndAtOnce(t *testing.T) {
	u, err := url.Parse(servertest.AMQP(t))
	require.NoError(t, err)
	u.User = url.UserPassword("nobody", "secret")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = rabbitmq.Open(ctx, u.String(), nil)
	require.ErrorContains(t, err, "username or password")
	require.NotContains(t, err.Error(), "secret")
	require.NoError(t, ctx.Err())
}
