package memory_test

import (
	"context"
	"fmt"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

func ExampleNew() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker := memory.New(&memory.Options{Partitions: 1, MaxBytes: 1 << 20})
	for _, text := range []string{"one", "two", "three"} {
		if err := broker.Publisher().Publish(ctx, &messaging.Message{Topic: "lines", Key: "k", Body: []byte(text)}); err != nil {
			fmt.Println(err)
		}
	}
	printer, err := broker.Consumer("printer", nil, messaging.On("lines", func(_ context.Context, d *messaging.Delivery) error {
		fmt.Println(string(d.Body))
		if string(d.Body) == "three" {
			stop()
		}
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(printer.Run(ctx))
	// Output:
	// one
	// two
	// three
	// <nil>
}
