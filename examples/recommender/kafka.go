package main

import (
	"context"
	"errors"

	"github.com/mainstay-go/mainstay/messaging"
)

func openKafka(ctx context.Context, addrs []string, o messaging.Options) (*messaging.Broker, error) {
	return nil, errors.New("not yet")
}
