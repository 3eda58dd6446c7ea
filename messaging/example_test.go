package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

type Order struct {
	ID       string
	Customer string
	Pence    int
}

// Orders is what both sides share.
var Orders = messaging.NewTopic("orders", messaging.JSON[Order]())

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker := memory.New(nil) // kafka.Open in place of memory.New, and nothing else changes

	order := Order{ID: "o-1", Customer: "ada", Pence: 1250}
	if err := Orders.Publish(ctx, broker.Publisher(), order.Customer, order); err != nil {
		fmt.Println(err)
	}
	billing, err := broker.Consumer("billing", nil, Orders.On(func(_ context.Context, o Order, _ *messaging.Delivery) error {
		fmt.Println("billed", o.Customer, o.Pence)
		stop()
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(billing.Guarantee())
	fmt.Println(billing.Run(ctx))
	// Output:
	// at least once while this process lives, in order per key, 5 attempts, then orders.dead
	// billed ada 1250
	// <nil>
}

// A message that keeps failing leaves its queue, with what is known about it.
func ExampleRetryPolicy() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker := memory.New(nil)
	err := Orders.Publish(ctx, broker.Publisher(), "ada", Order{ID: "o-1"})
	if err != nil {
		fmt.Println(err)
	}
	shipping, err := broker.Consumer("shipping", &messaging.ConsumerOptions{
		Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{time.Millisecond}},
	}, Orders.On(func(_ context.Context, _ Order, d *messaging.Delivery) error {
		fmt.Println("attempt", d.Attempt)
		return errors.New("no carrier")
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	clerk, err := broker.Consumer("clerk", nil, messaging.On("orders.dead", func(_ context.Context, d *messaging.Delivery) error {
		fmt.Printf("from %s: %s: %s\n", d.Origin, d.LastError, d.Body)
		stop()
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- clerk.Run(ctx) }()
	fmt.Println(shipping.Run(ctx), <-done)
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// from orders: no carrier: {"ID":"o-1","Customer":"","Pence":0}
	// <nil> <nil>
}

// What callers branch on is an error value; the message to publish again is in
// the error, with its ID.
func ExampleError() {
	broker := memory.New(&memory.Options{MaxBytes: 10_000})
	err := broker.Publisher().Publish(context.Background(), &messaging.Message{Topic: "blobs", ID: "b-1", Body: make([]byte, 20_000)})
	fmt.Println(errors.Is(err, messaging.ErrTooLarge))
	if e, ok := errors.AsType[*messaging.Error](err); ok {
		fmt.Println(e.Op, e.Topic, e.Unsent[0].ID)
	}
	// Output:
	// true
	// publish blobs b-1
}

// Contradictions are refused when a consumer is made, by name.
func ExampleBroker_Consumer() {
	bill := func(context.Context, Order, *messaging.Delivery) error { return nil }
	_, err := memory.New(nil).Consumer("billing", nil, Orders.On(bill), Orders.On(bill))
	fmt.Println(err)
	// Output:
	// messaging: consume "orders" group "billing": configuration: two routes of topic "orders": one would take the other's messages; join them in one handler, or give one of them a group of its own
}

// A batch is handled in one call; each message has its own outcome.
func ExampleTopic_OnBatch() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker := memory.New(nil)
	store := Orders.OnBatch(3, time.Second, func(_ context.Context, orders []Order, ds []*messaging.Delivery) []error {
		defer stop()
		fmt.Println("one INSERT of", len(orders))
		errs := make([]error, len(orders))
		for i, o := range orders {
			if o.Pence < 0 {
				errs[i] = messaging.Permanent(fmt.Errorf("order %s: negative", ds[i].ID))
			}
		}
		return errs
	})
	for _, customer := range []string{"ada", "bo", "cy"} { // a batch has one message of a key
		if err := Orders.Publish(ctx, broker.Publisher(), customer, Order{Customer: customer, Pence: 100}); err != nil {
			fmt.Println(err)
		}
	}
	warehouse, err := broker.Consumer("warehouse", nil, store)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(warehouse.Run(ctx))
	// Output:
	// one INSERT of 3
	// <nil>
}
