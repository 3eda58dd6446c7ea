package redisstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/featurestore/redisstore"
	"github.com/redis/go-redis/v9"
)

type user struct {
	ID string `feature:"user_id"`
}

type profile struct {
	Age int64 `feature:"age,default=0"`
}

// It needs a server, so it is compiled and not run.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()

	profiles := featurestore.NewView[user, profile]("profile", 24*time.Hour)
	store := featurestore.New(redisstore.New(client, nil), nil, nil)
	row, err := profiles.Get(context.Background(), store, user{"u1"})
	if err != nil {
		fmt.Println("no features:", err)
		return
	}
	fmt.Println(row.Features.Age, row.Status)
}
