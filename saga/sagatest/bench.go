package sagatest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mainstay-go/mainstay/saga"
)

// BenchmarkStore measures the store that open returns: create, and commit by one
// and by 64 callers at once, each with a saga of its own. The 64 show what group
// commit brings.
func BenchmarkStore(b *testing.B, open func(*testing.B) saga.Store) {
	var next atomic.Int64
	fresh := func(b *testing.B, s saga.Store) saga.Record {
		r := record(fmt.Sprint("bench", next.Add(1)))
		if err := s.Create(context.Background(), r); err != nil {
			b.Fatal(err)
		}
		return r
	}
	commit := func(s saga.Store, r saga.Record, rev int64) error {
		results, err := s.Commit(context.Background(), []saga.Change{{Record: r, Rev: rev}})
		return errors.Join(append(results, err)...)
	}
	b.Run("Create", func(b *testing.B) {
		s := open(b)
		b.ReportAllocs()
		for b.Loop() {
			fresh(b, s)
		}
	})
	b.Run("Commit", func(b *testing.B) {
		s := open(b)
		r, rev := fresh(b, s), int64(1)
		b.ReportAllocs()
		for ; b.Loop(); rev++ {
			if err := commit(s, r, rev); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Commit64", func(b *testing.B) {
		s := open(b)
		var records []saga.Record
		for range 64 {
			records = append(records, fresh(b, s))
		}
		b.ReportAllocs()
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var wg sync.WaitGroup
		for _, r := range records {
			wg.Go(func() {
				for rev := int64(1); left.Add(-1) >= 0; rev++ {
					if err := commit(s, r, rev); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
