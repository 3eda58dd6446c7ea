package cloudevents_test

import (
	"context"
	"fmt"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/cloudevents"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

var placed = messaging.NewTopic("orders", cloudevents.Binary(messaging.JSON[order]()))

func ExampleBinary() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	broker := memory.New(nil)
	err := placed.Publish(ctx, broker.Publisher(), "ada", event{
		ID: "order-17", Source: "/shop", Type: "com.example.order.placed", Data: order{Pence: 1250},
	})
	if err != nil {
		fmt.Println(err)
	}
	billing, err := broker.Consumer("billing", nil, placed.On(func(_ context.Context, e event, d *messaging.Delivery) error {
		fmt.Println(e.Type, e.Data.Pence, d.ID, d.Headers.Get("ce_source"))
		stop()
		return nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(billing.Run(ctx))
	// Output:
	// com.example.order.placed 1250 order-17 /shop
	// <nil>
}

func ExampleStructured() {
	topic := messaging.NewTopic("orders", cloudevents.Structured[order]())
	m, err := topic.Message("ada", event{ID: "order-17", Time: at, Source: "/shop", Type: "com.example.order.placed", Data: order{Pence: 1250}})
	fmt.Println(string(m.Body), err)
	// Output:
	// {"data":{"pence":1250},"datacontenttype":"application/json","id":"order-17","source":"/shop","specversion":"1.0","time":"2026-01-31T12:50:00.123456789Z","type":"com.example.order.placed"} <nil>
}
