package rabbitmq_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

type order struct {
	ID    string
	Total int
}

var orders = messaging.NewTopic("orders", messaging.JSON[order]())

// A program that was written against messaging/memory changes one line, and
// declares its groups before it publishes: a queue gets what comes after it.
// This example needs a RabbitMQ, so it is compiled and not run.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker, err := rabbitmq.Open(ctx, "amqp://guest:guest@localhost:5672/", &rabbitmq.Options{
		Messaging: messaging.Options{Topology: messaging.Declare},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)

	billing, err := broker.Consumer("billing", nil, orders.On(func(_ context.Context, o order, d *messaging.Delivery) error {
		fmt.Println(o.ID, o.Total, d.Position)
		return nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	if err := billing.Declare(ctx); err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, broker.Publisher(), "customer-7", order{ID: "o-1", Total: 1250}); err != nil {
		log.Fatal(err)
	}
	if err := billing.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// TLS and authentication are the client's own settings. With a certificate of
// the client's and the mechanism EXTERNAL no password is needed.
func ExampleOpen_tls() {
	certificate, err := tls.LoadX509KeyPair("billing.crt", "billing.key")
	if err != nil {
		log.Fatal(err)
	}
	config := &amqp.Config{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
		SASL:            []amqp.Authentication{&amqp.ExternalAuth{}},
		Heartbeat:       5 * time.Second,
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker, err := rabbitmq.Open(ctx, "amqps://rabbitmq.example.com:5671/shop", &rabbitmq.Options{AMQP: config})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)
}
