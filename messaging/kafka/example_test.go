package kafka_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

type order struct {
	ID    string
	Total int
}

var orders = messaging.NewTopic("orders", messaging.JSON[order]())

// A program that was written against messaging/memory changes one line. This
// example needs a Kafka, so it is compiled and not run.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker, err := kafka.Open(ctx, []string{"localhost:9092"}, &kafka.Options{
		Messaging:  messaging.Options{Topology: messaging.Declare},
		Partitions: 16,
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
	if err := billing.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// TLS, SASL and everything else about connections are the client's own
// settings. They hold for all connections that the broker makes.
func ExampleOpen_tls() {
	config := sarama.NewConfig()
	config.ClientID = "billing"
	config.Net.TLS.Enable = true
	config.Net.TLS.Config = &tls.Config{MinVersion: tls.VersionTLS12} // RootCAs, Certificates: as for any client
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLTypePlaintext // SCRAM and OAUTHBEARER need a client of yours, see sarama.Config
	config.Net.SASL.User, config.Net.SASL.Password = "billing", os.Getenv("KAFKA_PASSWORD")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker, err := kafka.Open(ctx, []string{"kafka.example.com:9093"}, &kafka.Options{Sarama: config})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)
}
