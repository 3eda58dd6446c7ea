package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging/kafka"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func TestConformance(t *testing.T) {
	addrs := servertest.Kafka(t)
	messagingtest.TestBroker(t, func(t *testing.T) messagingtest.Harness {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		b, err := kafka.Open(ctx, addrs, nil)
		require.NoError(t, err)
		return messagingtest.Harness{Driver: b.Driver()}
	})
}
