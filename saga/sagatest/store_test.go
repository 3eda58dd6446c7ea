package sagatest

import (
	"testing"

	"github.com/mainstay-go/mainstay/saga"
)

func TestMemoryStore(t *testing.T) {
	TestStore(t, func(*testing.T) saga.Store { return saga.NewMemoryStore() })
}

func BenchmarkMemoryStore(b *testing.B) {
	BenchmarkStore(b, func(*testing.B) saga.Store { return saga.NewMemoryStore() })
}
