package rabbitmq_test

import (
	"os"
	"testing"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

// TestFaults stalls no consumer: RabbitMQ gives its messages to the next one
// when heartbeats are missing, and the stalled one hears of it later.
func TestFaults(t *testing.T) {
	server := servertest.AMQP(t)
	faults := messagingtest.Faults{Restarts: 2, Cuts: 5, Kills: 3}
	if os.Getenv("MAINSTAY_SOAK") != "" {
		faults = messagingtest.Faults{Restarts: 20, Cuts: 50, Kills: 20}
	}
	messagingtest.TestFaults(t, func(t *testing.T) messagingtest.Harness {
		wire, through := proxied(t, server)
		return messagingtest.Harness{Driver: open(t, through, messaging.Declare).Driver(), Cut: wire.Cut, Stall: wire.Stall, Restart: restart(), Unconfirmed: true}
	}, faults)
}
