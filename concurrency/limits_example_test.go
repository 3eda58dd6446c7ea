package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

func ExampleBreaker() {
	payments := &concurrency.Breaker{MinCalls: 3} // one per dependency
	ctx := context.Background()
	down := func(context.Context) (string, error) { return "", errors.New("connection refused") }
	for range 4 {
		_, err := concurrency.Do(ctx, payments, down)
		fmt.Println(errors.Is(err, concurrency.ErrOpen), err)
	}
	_, err := concurrency.Do(ctx, payments, down)
	_, after := concurrency.Advice(err) // Retry waits that long
	fmt.Println("try again in", after.Round(time.Second))
	// Output:
	// false connection refused
	// false connection refused
	// false connection refused
	// true concurrency: rejected: breaker open
	// try again in 5s
}

func ExampleRate() {
	api := concurrency.NewRate(100, 2) // a second, and at once
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	for range 3 {
		_, err := concurrency.Do(ctx, api, constant("ok"))
		fmt.Println(err == nil, errors.Is(err, concurrency.ErrRejected)) // the third would come too late: it does not wait for that
	}
	// Output:
	// true false
	// true false
	// false true
}

func ExampleRates() {
	perTenant := concurrency.NewRates[string](10, 2, 10_000)
	ctx := context.Background()
	for _, tenant := range []string{"loud", "loud", "loud", "quiet"} {
		_, err := perTenant.For(tenant).Acquire(ctx, 1)
		fmt.Println(tenant, err == nil)
	}
	// Output:
	// loud true
	// loud true
	// loud false
	// quiet true
}

func ExampleAdmission() {
	var stock concurrency.Admission // one per dependency, or in front of one's own handlers
	handle := func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // what it reads
		defer cancel()
		return concurrency.Do(ctx, &stock, constant("in stock"))
	}
	fmt.Println(handle(context.Background()))
	st := stock.Stats()
	fmt.Println(st.Admitted, "admitted,", st.Rejected, "refused")
	// Output:
	// in stock <nil>
	// 1 admitted, 0 refused
}

func ExampleWithPriority() {
	var stock concurrency.Admission
	ctx := context.Background()
	checkout := concurrency.WithPriority(ctx, 1)
	report := concurrency.WithPriority(ctx, -1)
	for range 5 { // it knows nothing of its callee yet, and starts with 10 at a time
		_, err := stock.Acquire(checkout, 1)
		fmt.Println("checkout", err == nil)
	}
	_, err := stock.Acquire(report, 1) // may use half of what there is
	fmt.Println("report", err == nil, errors.Is(err, concurrency.ErrRejected))
	_, err = stock.Acquire(checkout, 1)
	fmt.Println("checkout", err == nil)
	// Output:
	// checkout true
	// checkout true
	// checkout true
	// checkout true
	// checkout true
	// report false true
	// checkout true
}
