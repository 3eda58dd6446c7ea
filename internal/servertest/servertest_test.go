package servertest_test

import (
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
)

// Each server is greeted in its own protocol, so that a variable that points
// at something else is noticed here and not in an adapter's test.

func TestRedisAnswers(t *testing.T) {
	got := exchange(t, servertest.Redis(t), "PING\r\n", 5)
	require.Equal(t, "+PONG", got)
}

func TestKafkaAnswers(t *testing.T) {
	for _, addr := range servertest.Kafka(t) {
		// ApiVersions version 0, correlation id 7, no client id.
		got := exchange(t, addr, "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff", 8)
		require.Equal(t, "\x00\x00\x00\x07", got[4:], "the correlation id comes back")
	}
}

func TestRabbitMQAnswers(t *testing.T) {
	u, err := url.Parse(servertest.AMQP(t))
	require.NoError(t, err)
	got := exchange(t, u.Host, "AMQP\x00\x00\x09\x01", 1)
	require.Equal(t, "\x01", got, "a method frame: connection.start")
}

func TestPostgresAnswers(t *testing.T) {
	u, err := url.Parse(servertest.Postgres(t))
	require.NoError(t, err)
	// An SSLRequest: S, or N where the server has no certificate.
	got := exchange(t, u.Host, "\x00\x00\x00\x08\x04\xd2\x16\x2f", 1)
	require.Contains(t, "SN", got)
}

func exchange(t *testing.T, addr, request string, answer int) string {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	buf := make([]byte, answer)
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)
	return string(buf)
}
