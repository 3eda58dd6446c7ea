package idempotency_test

import (
	"testing"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/idempotency/idempotencytest"
)

func TestMemoryStore(t *testing.T) {
	idempotencytest.TestStore(t, func(*testing.T) idempotency.Store { return idempotency.NewMemoryStore(1000) })
}

func BenchmarkMemoryStore(b *testing.B) {
	idempotencytest.BenchmarkStore(b, func(*testing.B) idempotency.Store { return idempotency.NewMemoryStore(10_000_000) })
}
