package concurrency_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// What is called under a context that lives as long as the process
// must leave nothing behind in it.
func TestALongLivedParentKeepsNothing(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	waits := func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	watched := func(ctx context.Context) (int, error) {
		_ = ctx.Done()
		return 1, nil
	}
	semaphore := concurrency.NewSemaphore(1, concurrency.FIFO)
	var (
		breaker concurrency.Breaker
		orphans concurrency.Orphans
		flight  concurrency.Flight[int, int]
		budget  concurrency.Budget
		hedger  concurrency.Hedger
	)
	op := concurrency.Idempotent(watched)
	keys := concurrency.NewRates[int](1e9, 1, 10)
	n := 0
	for name, call := range map[string]func(){
		"Map":    func() { _, _ = concurrency.Map(parent, 2, []int{1, 2, 3}, square) },
		"MapAll": func() { concurrency.MapAll(parent, 2, []int{1, 2, 3}, square) },
		"Gather": func() { _, _ = concurrency.Gather(parent, 2, watched, watched) },
		"First":  func() { _, _ = concurrency.First(parent, 2, watched, waits) },
		"Join2":  func() { _, _, _ = concurrency.Join2(parent, watched, watched) },
		"Stream": func() { // one that is left, and one that ends
			for range 2 {
				for range concurrency.Stream(parent, 2, numbers(3), square) {
					n++
					if n%2 == 0 {
						break
					}
				}
			}
		},
		"Batch": func() {
			for range concurrency.Batch(parent, numbers(3), 2, time.Hour) {
				if n++; n%2 == 0 {
					break
				}
			}
		},
		"Run": func() { _ = concurrency.Run(parent, func(context.Context) error { return nil }) },
		"Do": func() {
			_, _ = concurrency.Do(parent, semaphore, func(ctx context.Context) (int, error) {
				return concurrency.Do(ctx, &breaker, watched)
			})
		},
		"a queue that is left": func() {
			held, err := semaphore.Acquire(parent, 1)
			defer held.Done(&err)
			_, _ = concurrency.WaitFor(parent, time.Microsecond, func(ctx context.Context) (concurrency.Permit, error) {
				return semaphore.Acquire(ctx, 1)
			})
		},
		"WaitFor":  func() { _, _ = concurrency.WaitFor(parent, time.Hour, watched) },
		"Abandon":  func() { _, _ = concurrency.Abandon(parent, &orphans, time.Hour, watched) },
		"Retry":    func() { _, _ = concurrency.Retry(concurrency.WithBudget(parent, &budget), nil, op) },
		"Hedge":    func() { _, _ = concurrency.Hedge(parent, &hedger, op) },
		"Flight":   func() { _, _, _ = flight.Do(parent, n, watched) },
		"new keys": func() { n++; _ = through(parent, keys.For(n), nil) },
	} {
		const calls = 1000
		for range calls {
			call()
		}
		before := live()
		for range calls {
			call()
		}
		if more := int64(live()) - int64(before); more > calls/4 {
			t.Errorf("%s: %d objects more after %d calls", name, more, calls)
		}
	}
}

// live is the number of objects on the heap.
func live() uint64 {
	var m runtime.MemStats
	for range 2 { // a timer that has been stopped goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapObjects
}
