package idempotencytest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

// BenchmarkStore measures the store that open returns: once (a new key taken and
// completed), replay (the result of a key that is done), contended (a key that
// is held), and once by GOMAXPROCS callers. New keys are remembered for 10 ms;
// a store of limited size should hold 100,000.
func BenchmarkStore(b *testing.B, open func(*testing.B) idempotency.Store) {
	result := make([]byte, 100)
	claim := func(id string) idempotency.Claim {
		return idempotency.Claim{Key: key(id), Lease: long}
	}
	begin := func(b *testing.B, s idempotency.Store, c idempotency.Claim, want idempotency.State) idempotency.Token {
		out, err := s.Begin(b.Context(), c)
		if err != nil || out.State != want {
			b.Fatalf("Begin: %v, %v; want %v", out.State, err, want)
		}
		return out.Token
	}
	complete := func(b *testing.B, s idempotency.Store, t idempotency.Token, ttl time.Duration) {
		if err := s.Complete(b.Context(), t, result, ttl); err != nil {
			b.Fatalf("Complete: %v", err)
		}
	}
	once := func(b *testing.B, s idempotency.Store, n int64) {
		token := begin(b, s, claim(strconv.FormatInt(n, 10)), idempotency.Acquired)
		complete(b, s, token, 10*time.Millisecond)
	}

	b.Run("Once", func(b *testing.B) {
		s, n := open(b), int64(0)
		b.ReportAllocs()
		for b.Loop() {
			n++
			once(b, s, n)
		}
	})
	b.Run("OnceParallel", func(b *testing.B) {
		s := open(b)
		var n atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				once(b, s, n.Add(1))
			}
		})
	})
	b.Run("Replay", func(b *testing.B) {
		s := open(b)
		complete(b, s, begin(b, s, claim("a"), idempotency.Acquired), long)
		b.ReportAllocs()
		for b.Loop() {
			begin(b, s, claim("a"), idempotency.Done)
		}
	})
	b.Run("Contended", func(b *testing.B) {
		s := open(b)
		begin(b, s, claim("a"), idempotency.Acquired)
		b.ReportAllocs()
		for b.Loop() {
			begin(b, s, claim("a"), idempotency.InProgress)
		}
	})
}
