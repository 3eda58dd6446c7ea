package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

func ExampleJoin3() {
	name, age, score, err := concurrency.Join3(context.Background(), constant("Ada"), constant(36), constant(0.9))
	fmt.Println(name, age, score, err)
	// Output: Ada 36 0.9 <nil>
}

// A cache whose loader is asked once, however many miss at the same time.
func ExampleFlight() {
	var (
		cache  sync.Map
		flight concurrency.Flight[string, string]
	)
	load := func(ctx context.Context, id string) (string, error) {
		if v, ok := cache.Load(id); ok {
			return v.(string), nil
		}
		name, _, err := flight.Do(ctx, id, func(context.Context) (string, error) {
			fmt.Println("asking the database for", id)
			name := "Ada"
			cache.Store(id, name)
			return name, nil
		})
		return name, err
	}
	fmt.Println(load(context.Background(), "u-1"))
	fmt.Println(load(context.Background(), "u-1"))
	// Output:
	// asking the database for u-1
	// Ada <nil>
	// Ada <nil>
}

// Whoever is the last to leave takes the work with it, and waits for its end.
func ExampleFlight_Do() {
	var flight concurrency.Flight[int, string]
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, shared, err := flight.Do(ctx, 7, func(ctx context.Context) (string, error) {
		<-ctx.Done() // nobody waits any more
		return "", ctx.Err()
	})
	fmt.Println(shared, errors.Is(err, context.DeadlineExceeded))
	// Output: false true
}

func ExampleFlight_Forget() {
	var flight concurrency.Flight[string, int]
	price := 10
	read := func(context.Context) (int, error) { return price, nil }
	write := func(p int) {
		price = p
		flight.Forget("price") // a read under way may have seen the old one
	}
	write(12)
	v, _, _ := flight.Do(context.Background(), "price", read)
	fmt.Println(v)
	// Output: 12
}
