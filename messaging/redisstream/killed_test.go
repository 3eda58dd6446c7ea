package redisstream_test

import (
	"testing"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/internal/killed"
	"github.com/mainstay-go/mainstay/messaging/redisstream"
)

func TestRetriesOutliveAKilledProcess(t *testing.T) {
	addr := servertest.Redis(t)
	killed.Retries(t, func(t *testing.T) *messaging.Broker {
		return open(t, addr, &redisstream.Options{Messaging: messaging.Options{Topology: messaging.Declare}})
	}, messaging.ByKey)
}
