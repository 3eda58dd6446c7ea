package kafka_test

import (
	"testing"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/internal/killed"
)

func TestRetriesOutliveAKilledProcess(t *testing.T) {
	addrs := servertest.Kafka(t)
	killed.Retries(t, func(t *testing.T) *messaging.Broker { return open(t, addrs, nil, messaging.Declare) }, messaging.ByKey)
}

func TestUnorderedRetriesOutliveAKilledProcess(t *testing.T) {
	addrs := servertest.Kafka(t)
	killed.Retries(t, func(t *testing.T) *messaging.Broker { return open(t, addrs, nil, messaging.Declare) }, messaging.Unordered)
}
