package messagingtest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
	"github.com/mainstay-go/mainstay/messaging/messagingtest"
)

func ExampleLedger() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker, ledger := memory.New(nil), messagingtest.NewLedger()
	for n := range 3 {
		m := &messaging.Message{ID: fmt.Sprint("m", n), Topic: "t", Key: "k"}
		if err := ledger.Publish(ctx, broker.Publisher(), m); err != nil {
			fmt.Println(err)
		}
	}
	consumer, err := broker.Consumer("g", nil, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
		switch d.ID {
		case "m1":
			return messaging.Permanent(errors.New("a dead letter")) // has no effect: to the ledger it is lost
		case "m2":
			stop()
		}
		return nil
	}).With(ledger.Middleware))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(consumer.Run(ctx))
	fmt.Println(ledger)
	// Output:
	// <nil>
	// 3 published, 0 unknown, 3 delivered, 1 lost (m1), 0 duplicate, 0 inverted, 0 overlapping, 0 rekeyed
}

// The same ledger books any other client by hand.
func ExampleLedger_Handled() {
	ledger := messagingtest.NewLedger()
	ledger.Sent("a", "key", nil)
	done := ledger.Handled("a", "key")
	done(nil)
	ledger.Handled("a", "key")(nil) // the broker redelivered it
	fmt.Println(ledger.Counts().Duplicate)
	// Output: 1
}
