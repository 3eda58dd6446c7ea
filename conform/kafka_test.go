package conform_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/mainstay-go/mainstay/messaging/kafka"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func TestKafka(t *testing.T) {
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
		require.NoError(t, err)
		t.Cleanup(cluster.Close)

		var wire scissors
		config := sarama.NewConfig()
		config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, &wire
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		b, err := kafka.Open(ctx, cluster.ListenAddrs(), &kafka.Options{Sarama: config})
		require.NoError(t, err)
		return messagingtest.Harness{Driver: b.Driver(), Cut: wire.cut}
	})
}

// scissors dials, and cuts what it has dialled.
type scissors struct {
	mu    sync.Mutex
	open  []net.Conn
	until time.Time
}

func (s *scissors) Dial(network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return nil, net.ErrClosed
	}
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err == nil {
		s.open = append(s.open, c)
	}
	return c, err
}

// cut breaks every connection and lets none be made for d.
func (s *scissors) cut(d time.Duration) {
	s.mu.Lock()
	s.until = time.Now().Add(d)
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	time.Sleep(d)
}
