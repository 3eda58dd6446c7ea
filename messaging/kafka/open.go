package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging"
)

// Options are the settings of a connection to Kafka.
type Options struct {
	// Messaging are the options of every broker.
	Messaging messaging.Options
	// Sarama is where the client's settings begin: TLS, SASL, ClientID,
	// version, compression, limits. It is copied. What this package's
	// guarantees rest on is set over it: an idempotent producer with one open
	// request, confirmed by all in-sync replicas; Java's partitioner;
	// cooperative rebalances; positions that begin, and are reset, at the
	// oldest message. Timeouts and retries that have the values of
	// sarama.NewConfig get better ones. Nil: sarama.NewConfig.
	Sarama *sarama.Config
	// Partitions of a topic that is declared. Default: 8.
	Partitions int
	// Replicas of a topic that is declared. Default: the cluster's own
	// default.replication.factor.
	Replicas int
}

// Open connects to the cluster that addrs, host:port each, are some brokers
// of. It returns within ctx: with an error that names addrs if none of them
// answers. It tries once; a program that may start before its cluster calls it
// again. o may be nil.
func Open(ctx context.Context, addrs []string, o *Options) (*messaging.Broker, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	fail := func(err error) (*messaging.Broker, error) {
		return nil, &messaging.Error{Op: "open", Err: fmt.Errorf("kafka at %s: %w", strings.Join(addrs, ","), err)}
	}
	if len(addrs) == 0 {
		return fail(fmt.Errorf("%w: no addresses", messaging.ErrConfig))
	}
	if opts.Partitions < 0 || opts.Partitions > math.MaxInt32 || opts.Replicas < 0 || opts.Replicas > math.MaxInt16 {
		return fail(fmt.Errorf("%w: Partitions is %d and Replicas %d: out of range", messaging.ErrConfig, opts.Partitions, opts.Replicas))
	}
	if opts.Partitions == 0 {
		opts.Partitions = 8
	}
	if opts.Sarama == nil {
		opts.Sarama = sarama.NewConfig()
	}
	if err := checkConfig(opts.Sarama); err != nil {
		return fail(err)
	}
	b, err := open(ctx, addrs, &opts)
	if err != nil {
		return fail(err)
	}
	return messaging.NewBroker(b, &opts.Messaging), nil
}

func checkConfig(c *sarama.Config) error {
	if !c.Version.IsAtLeast(sarama.V2_4_0_0) {
		return fmt.Errorf("%w: Sarama.Version is %v: cooperative rebalances need at least 2.4", messaging.ErrConfig, c.Version)
	}
	for _, check := range []*sarama.Config{controlConfig(c), producerConfig(c), groupConfig(c, 0)} {
		if err := check.Validate(); err != nil {
			return errors.Join(messaging.ErrConfig, err)
		}
	}
	return nil
}
