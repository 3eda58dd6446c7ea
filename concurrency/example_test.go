package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

func length(_ context.Context, s string) (int, error) {
	if s == "" {
		return 0, errors.New("empty")
	}
	return len(s), nil
}

func constant[R any](v R) func(context.Context) (R, error) {
	return func(context.Context) (R, error) { return v, nil }
}

func ExampleMap() {
	n, err := concurrency.Map(context.Background(), 2, []string{"one", "three", "eleven"}, length)
	fmt.Println(n, err)
	_, err = concurrency.Map(context.Background(), 2, []string{"one", "", "eleven"}, length)
	fmt.Println(err)
	// Output:
	// [3 5 6] <nil>
	// empty
}

func ExampleMapAll() {
	for i, r := range concurrency.MapAll(context.Background(), 2, []string{"one", "", "eleven"}, length) {
		fmt.Println(i, r.Value, r.Err)
	}
	// Output:
	// 0 3 <nil>
	// 1 0 empty
	// 2 6 <nil>
}

func ExampleEach() {
	seen := make([]bool, 4)
	err := concurrency.Each(context.Background(), 2, []int{0, 1, 2, 3}, func(_ context.Context, i int) error {
		seen[i] = true // each item has its own element: no lock is needed
		return nil
	})
	fmt.Println(seen, err)
	// Output: [true true true true] <nil>
}

func ExampleGather() {
	parts, err := concurrency.Gather(context.Background(), 3, constant("user"), constant("cart"), constant("stock"))
	fmt.Println(strings.Join(parts, " "), err)
	// Output: user cart stock <nil>
}

func ExampleGatherAll() {
	results := concurrency.GatherAll(context.Background(), 2,
		constant("recent"),
		func(context.Context) (string, error) { return "", errors.New("cache is away") },
	)
	for _, r := range results {
		fmt.Printf("%q %v\n", r.Value, r.Err)
	}
	// Output:
	// "recent" <nil>
	// "" cache is away
}

func ExampleFirst() {
	slow := func(ctx context.Context) (string, error) {
		<-ctx.Done() // the loser is cancelled, and waited for
		return "", ctx.Err()
	}
	v, err := concurrency.First(context.Background(), 2, slow, constant("replica"))
	fmt.Println(v, err)
	// Output: replica <nil>
}

func ExampleJoin2() {
	name, age, err := concurrency.Join2(context.Background(), constant("Ada"), constant(36))
	fmt.Println(name, age, err)
	// Output: Ada 36 <nil>
}

func ExamplePanicError() {
	results := concurrency.MapAll(context.Background(), 2, []int{1, 0}, func(_ context.Context, n int) (int, error) {
		return 10 / n, nil
	})
	p, ok := errors.AsType[*concurrency.PanicError](results[1].Err)
	fmt.Println(results[0].Value, ok, p.Value)
	// Output: 10 true runtime error: integer divide by zero
}

func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background()) // in a main: signal.NotifyContext
	service := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			fmt.Println(name, "drained")
			return nil
		}
	}
	migrate := func(context.Context) error { stop(); return nil } // finished: the others go on
	fmt.Println(concurrency.Run(ctx, service("store"), service("consumer"), service("server"), migrate))
	// Output:
	// server drained
	// consumer drained
	// store drained
	// <nil>
}

func ExampleDo() {
	connections := concurrency.NewSemaphore(8, concurrency.FIFO)
	v, err := concurrency.Do(context.Background(), connections, constant("row"))
	fmt.Println(v, err, connections.Stats().Admitted)
	// Output: row <nil> 1
}

func ExampleSemaphore() {
	memory := concurrency.NewSemaphore(100, concurrency.NoWait) // megabytes
	load := func(ctx context.Context, mb int64) (err error) {
		p, err := memory.Acquire(ctx, mb)
		if err != nil {
			return err
		}
		defer p.Done(&err)
		fmt.Println("in use:", memory.Stats().InFlight)
		return nil
	}
	ctx := context.Background()
	fmt.Println(load(ctx, 70))
	p, _ := memory.Acquire(ctx, 60)
	err := load(ctx, 70)
	fmt.Println(errors.Is(err, concurrency.ErrRejected), err)
	p.Done(nil)
	// Output:
	// in use: 70
	// <nil>
	// true concurrency: rejected: semaphore: 60 of 100 units in use, asked for 70
}

func ExamplePermit_Context() {
	one := concurrency.NewSemaphore(1, concurrency.FIFO)
	v, err := concurrency.Do(context.Background(), one, func(ctx context.Context) (string, error) {
		return concurrency.Do(ctx, one, constant("no deadlock")) // Do marks its context
	})
	fmt.Println(v, err)
	// Output: no deadlock <nil>
}

// evenings is a limiter of one's own.
type evenings struct{ hour int }

func (e evenings) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	if e.hour < 18 {
		return concurrency.Permit{}, fmt.Errorf("%w: not before six", concurrency.ErrRejected)
	}
	return concurrency.NewPermit(ctx, func(known bool, err error) {
		fmt.Println("known:", known, "error:", err)
	}), nil
}

func ExampleNewPermit() {
	_, err := concurrency.Do(context.Background(), evenings{9}, constant(1))
	fmt.Println(err)
	_, err = concurrency.Do(context.Background(), evenings{20}, constant(1))
	fmt.Println(err)
	// Output:
	// concurrency: rejected: not before six
	// known: true error: <nil>
	// <nil>
}

func ExampleWaitFor() {
	_, err := concurrency.WaitFor(context.Background(), time.Millisecond, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	fmt.Println(errors.Is(err, context.DeadlineExceeded), err)
	// Output: true concurrency: not done within 1ms: context deadline exceeded
}

func ExampleAbandon() {
	var orphans concurrency.Orphans
	release := make(chan struct{})
	_, err := concurrency.Abandon(context.Background(), &orphans, time.Millisecond, func(context.Context) (int, error) {
		<-release // deaf to its context
		return 1, nil
	})
	fmt.Println(errors.Is(err, context.DeadlineExceeded), len(orphans.List()))
	close(release)
	fmt.Println(orphans.Wait(context.Background()), len(orphans.List()))
	// Output:
	// true 1
	// <nil> 0
}

func ExampleRetry() {
	runs := 0
	price, err := concurrency.Retry(context.Background(), &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: 1, Max: 1}},
		concurrency.Idempotent(func(context.Context) (int, error) {
			if runs++; runs < 3 {
				return 0, errors.New("try again")
			}
			return 42, nil
		}))
	fmt.Println(price, err, runs)
	// Output: 42 <nil> 3
}

func ExampleKeyed() {
	charge := func(_ context.Context, key string) (string, error) { return "receipt for " + key, nil }
	fmt.Println(concurrency.Retry(context.Background(), nil, concurrency.Keyed("order-7", charge)))
	// Output: receipt for order-7 <nil>
}

func ExampleAdvice() {
	fmt.Println(concurrency.Advice(concurrency.Permanent(errors.New("no such product"))))
	fmt.Println(concurrency.Advice(fmt.Errorf("ask: %w", concurrency.RetryAfter(errors.New("busy"), time.Second))))
	// Output:
	// true 0s
	// false 1s
}

func ExampleBackoff() {
	b := concurrency.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	d := b.Delay(3) // uniform in [0, 400 ms]
	fmt.Println(d >= 0 && d <= 400*time.Millisecond)
	// Output: true
}
