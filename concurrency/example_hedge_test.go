package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// price asks replicas in turn; late tells that the first one is stuck.
func price(late bool) concurrency.Op[string] {
	var asked atomic.Int64
	return concurrency.Idempotent(func(ctx context.Context) (string, error) {
		if asked.Add(1) > 1 {
			return "the other replica", nil
		}
		if late {
			<-ctx.Done() // the loser is told, and must listen
			return "", ctx.Err()
		}
		return "a replica", nil
	})
}

func ExampleHedge() {
	prices := &concurrency.Hedger{Ratio: 0.2} // one per dependency: it learns how long this one takes
	ctx := context.Background()
	for i := range 100 {
		late := i%50 == 49
		from, err := concurrency.Hedge(ctx, prices, price(late))
		if late || err != nil {
			fmt.Println(from, err)
		}
	}
	// Output:
	// the other replica <nil>
	// the other replica <nil>
}

func ExampleHedger_Stats() {
	h := &concurrency.Hedger{Ratio: 0.02} // at most two second runs for 100 first ones
	for range 49 {
		_, _ = concurrency.Hedge(context.Background(), h, price(false))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := concurrency.Hedge(ctx, h, price(true)) // only 0.98 of a second run has been earned
	st := h.Stats()
	fmt.Println(errors.Is(err, context.DeadlineExceeded), st.Admitted, st.Rejected > 0)
	// Output: true 0 true
}

func ExampleWithBudget() {
	budget := new(concurrency.Budget) // one for the service
	down := errors.New("connection refused")
	asked := 0
	query := concurrency.Idempotent(func(context.Context) (int, error) { asked++; return 0, down })
	policy := &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: 1, Max: 1}}
	lookUp := concurrency.Idempotent(func(ctx context.Context) (int, error) { return concurrency.Retry(ctx, policy, query) })

	ctx := concurrency.WithBudget(context.Background(), budget) // for each request
	for range 1000 {
		_, _ = concurrency.Retry(ctx, policy, lookUp) // two layers, three runs each
	}
	fmt.Println("without a budget it would be 9000:", asked < 1250)
	// Output: without a budget it would be 9000: true
}

// Several gathers share one semaphore: each has a limit of its own, and all
// together never have more than eight queries under way.
func ExampleSemaphore_shared() {
	database := concurrency.NewSemaphore(8, concurrency.FIFO)
	var running, peak atomic.Int64
	query := func(ctx context.Context, id int) (int, error) {
		return concurrency.Do(ctx, database, func(context.Context) (int, error) {
			defer running.Add(-1)
			if now := running.Add(1); now > 8 {
				peak.Store(now)
			}
			return id * id, nil
		})
	}
	page := func(ctx context.Context) (sum int, err error) {
		squares, err := concurrency.Map(ctx, 5, []int{1, 2, 3, 4, 5, 6}, query)
		for _, s := range squares {
			sum += s
		}
		return sum, err
	}
	sums, err := concurrency.Gather(context.Background(), 4, page, page, page, page)
	fmt.Println(sums, err, "more than eight:", peak.Load() > 0, "queries:", database.Stats().Admitted)
	// Output: [91 91 91 91] <nil> more than eight: false queries: 24
}
