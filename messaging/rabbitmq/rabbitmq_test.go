package rabbitmq_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

func TestConformance(t *testing.T) {
	server := servertest.AMQP(t)
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
		proxy, through := proxied(t, server)
		return messagingtest.Harness{Driver: open(t, through, messaging.Verify).Driver(), Cut: proxy.Cut, Restart: restart()}
	})
}

// proxied returns a proxy for the server, and the URL that leads through it.
func proxied(t *testing.T, server string) (*messagingtest.Proxy, string) {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	proxy := messagingtest.NewProxy(t, u.Host)
	u.Host = proxy.Addr()
	return proxy, u.String()
}

func open(t *testing.T, url string, topology messaging.Topology) *messaging.Broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		b, err := rabbitmq.Open(ctx, url, &rabbitmq.Options{Messaging: messaging.Options{Topology: topology}})
		if err == nil {
			return b
		}
		select { // a server that has just started hangs up on some when the machine is busy
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			require.NoError(t, err)
		}
	}
}

// restart runs what MAINSTAY_RABBITMQ_RESTART says: a shell command that kills
// the server and returns when it is back.
func restart() func(context.Context) error {
	command := os.Getenv("MAINSTAY_RABBITMQ_RESTART")
	if command == "" {
		return nil
	}
	return func(ctx context.Context) error {
		// RabbitMQ 3.10 writes down that a quorum queue exists up to half a
		// second after it has declared it, and confirmed what was published to
		// it: a kill in between loses the queue. See docs/guarantees.md.
		time.Sleep(2 * time.Second)
		return exec.CommandContext(ctx, "sh", "-c", command).Run()
	}
}
