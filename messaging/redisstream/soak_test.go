package redisstream_test

import (
	"os"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

// TestFaults needs a server that syncs what it confirms: appendfsync always.
func TestFaults(t *testing.T) {
	addr := servertest.Redis(t)
	faults := messagingtest.Faults{Restarts: 2, Cuts: 5, Kills: 3, Stalls: 1}
	if os.Getenv("MAINSTAY_SOAK") != "" {
		faults = messagingtest.Faults{Restarts: 20, Cuts: 50, Kills: 20, Stalls: 10}
	}
	messagingtest.TestFaults(t, func(t *testing.T) messagingtest.Harness {
		wire := messagingtest.NewProxy(t, addr)
		return messagingtest.Harness{
			Driver: open(t, wire.Addr(), &redisstream.Options{Lease: 2 * time.Second}).Driver(),
			Cut:    wire.Cut, Stall: wire.Stall, Restart: restart(),
		}
	}, faults)
}
