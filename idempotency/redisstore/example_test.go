package redisstore_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/idempotency/redisstore"
)

func Example() {
	ctx := context.Background()
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:6379"}})
	guard := idempotency.New(redisstore.New(client, nil), nil)

	key := idempotency.Key{Scope: "charge", ID: "order-17"}
	receipt, err := idempotency.Do(ctx, guard, key, func(context.Context) (string, error) {
		return "receipt 1", nil
	})
	fmt.Println(receipt, err)
}
