package mainstay_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

// Order is what both sides of the topic agree on.
type Order struct {
	ID    string
	Pence int
}

func charge(_ context.Context, o Order) error {
	fmt.Println("charged", o.ID, o.Pence)
	return nil
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A consumer charges each order once and says what holds with its settings.
// The body is the program of README.md; a test keeps the two equal.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	broker, orders := memory.New(nil), messaging.NewTopic("orders", messaging.JSON[Order]())
	inbox := idempotency.New(idempotency.NewMemoryStore(100_000), nil)
	billing, err := broker.Consumer("billing", &messaging.ConsumerOptions{Inbox: inbox}, orders.On(
		func(ctx context.Context, o Order, _ *messaging.Delivery) error {
			defer stop() // one order is enough here
			return charge(ctx, o)
		}))
	must(err)
	must(orders.Publish(ctx, broker.Publisher(), "ada", Order{ID: "o-1", Pence: 1250})) // nil: the broker holds it
	must(billing.Run(ctx))
	fmt.Println(billing.Guarantee())
	// Output:
	// charged o-1 1250
	// at least once while this process lives, effects once for 7 days, in order per key, 5 attempts, then orders.dead
}
