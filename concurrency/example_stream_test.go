package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// words is a source: what reads a file, rows or the pages of a service looks
// like this, and reports what went wrong in its place.
func words(text string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for w := range strings.SplitSeq(text, " ") {
			var err error
			if w == "?" {
				err = errors.New("not a word")
			}
			if !yield(w, err) {
				return
			}
		}
	}
}

func ExampleStream() {
	for n, err := range concurrency.Stream(context.Background(), 2, words("one three ? eleven"), length) {
		fmt.Println(n, err)
	}
	// Output:
	// 3 <nil>
	// 5 <nil>
	// 0 not a word
	// 6 <nil>
}

// Leaving the loop is enough: a source without an end is read no further, and
// nothing is alive after it.
func ExampleStream_break() {
	naturals := func(yield func(int, error) bool) {
		for i := 1; yield(i, nil); i++ {
		}
	}
	square := func(_ context.Context, i int) (int, error) { return i * i, nil }
	for v := range concurrency.Stream(context.Background(), 4, naturals, square) {
		if v > 30 {
			fmt.Println(v)
			break
		}
	}
	// Output: 36
}

// Stages nest: fetch eight at a time, store by the hundred, two batches at once.
func ExampleStream_pipeline() {
	ctx := context.Background()
	fetch := func(_ context.Context, id int) (string, error) { return fmt.Sprint("row ", id), nil }
	store := func(_ context.Context, rows []string) (int, error) { return len(rows), nil }

	ids := slices.Values(make([]int, 250))
	rows := concurrency.Stream(ctx, 8, concurrency.From(ids), fetch)
	batches := concurrency.Batch(ctx, rows, 100, time.Minute)
	for n, err := range concurrency.Stream(ctx, 2, batches, store) {
		fmt.Println(n, err)
	}
	// Output:
	// 100 <nil>
	// 100 <nil>
	// 50 <nil>
}

func ExampleStreamUnordered() {
	fast := make(chan struct{})
	get := func(_ context.Context, name string) (string, error) {
		if name == "slow" {
			<-fast
		}
		return name, nil
	}
	for name := range concurrency.StreamUnordered(context.Background(), 2, words("slow fast"), get) {
		fmt.Println(name)
		if name == "fast" {
			close(fast)
		}
	}
	// Output:
	// fast
	// slow
}

func ExampleBatch() {
	for batch, err := range concurrency.Batch(context.Background(), words("a b c ? d"), 2, time.Minute) {
		fmt.Println(batch, err)
	}
	// Output:
	// [a b] <nil>
	// [c] <nil>
	// [] not a word
	// [d] <nil>
}

func ExampleFrom() {
	ages := map[string]int{"Ada": 36, "Grace": 85}
	n := 0
	for size := range concurrency.Stream(context.Background(), 2, concurrency.From(maps.Keys(ages)), length) {
		n += size
	}
	fmt.Println(n)
	// Output: 8
}

// Several gathers share one semaphore: each bounds itself, and all of them
// together leave the database no more than three queries at a time. They nest
// without deadlock.
func ExampleGather_sharedSemaphore() {
	database := concurrency.NewSemaphore(3, concurrency.FIFO)
	query := func(s string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			return concurrency.Do(ctx, database, constant(s))
		}
	}
	page := func(name string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			parts, err := concurrency.Gather(ctx, 2, query(name+".user"), query(name+".cart"), query(name+".stock"))
			return strings.Join(parts, " "), err
		}
	}
	pages, err := concurrency.Gather(context.Background(), 4, page("home"), page("cart"), page("help"))
	for _, p := range pages {
		fmt.Println(p)
	}
	fmt.Println(err, database.Stats().Admitted, "queries,", database.Stats().InFlight, "in flight")
	// Output:
	// home.user home.cart home.stock
	// cart.user cart.cart cart.stock
	// help.user help.cart help.stock
	// <nil> 9 queries, 0 in flight
}
