package memory_test

import (
	"testing"
	"testing/synctest"

	"github.com/mainstay-go/mainstay/messaging/memory"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func TestConformance(t *testing.T) {
	messagingtest.TestBroker(t, func(*testing.T) messagingtest.Harness {
		return messagingtest.Harness{Driver: memory.New(&memory.Options{MaxBytes: 1 << 20}).Driver()}
	})
}

var _ = synctest.Test
