package redisstream_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

type order struct {
	ID    string
	Total int
}

var orders = messaging.NewTopic("orders", messaging.JSON[order]())

// A program that was written against messaging/memory changes one line. This
// example needs a Redis, so it is compiled and not run.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	broker, err := redisstream.Open(ctx, client, &redisstream.Options{
		Messaging: messaging.Options{Topology: messaging.Declare},
		Retain:    24 * time.Hour,
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

// The client is the program's: its TLS, users, sentinels or cluster are its own
// settings.
func ExampleOpen_tls() {
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:     []string{"redis.example.com:6380"},
		Username:  "billing",
		Password:  os.Getenv("REDIS_PASSWORD"),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	})
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	broker, err := redisstream.Open(ctx, client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)
}
