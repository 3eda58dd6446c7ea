package conform_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

// kafkaOf returns a Kafka in the process with these topics, of one partition
// each, and a connection to it.
func kafkaOf(t *testing.T, topics ...string) (cluster *kfake.Cluster, b *messaging.Broker, ctx context.Context) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...), kfake.GroupMinSessionTimeout(500*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	b, err = kafka.Open(ctx, cluster.ListenAddrs(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return cluster, b, ctx
}

// Kafka deletes by a record's timestamp: a copy of an old message must not be
// deleted before it is due.
func TestKafkaKeepsCopiesOfOldMessages(t *testing.T) {
	cluster, b, ctx := kafkaOf(t, "t", "t.dead", "t.g.retry-100ms")
	const age = 30 * 24 * time.Hour
	old := time.Now().Add(-age)
	require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{Topic: "t", Time: old}))
	running, stop := context.WithCancel(ctx)
	c, err := b.Consumer("g", &messaging.ConsumerOptions{
		Order: messaging.Unordered, Retry: messaging.RetryPolicy{MaxAttempts: 2, Delays: []time.Duration{100 * time.Millisecond}},
	}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
		require.True(t, d.Time.Equal(old), "the message has its time: %v", d.Time)
		if d.Attempt == 2 {
			stop() // the dead letter is published before Run returns
		}
		return errors.New("no")
	}))
	require.NoError(t, err)
	require.NoError(t, c.Run(running))
	consumer, err := sarama.NewConsumer(cluster.ListenAddrs(), sarama.NewConfig())
	require.NoError(t, err)
	defer consumer.Close()
	for topic, want := range map[string]time.Duration{"t": age, "t.g.retry-100ms": 0, "t.dead": 0} {
		p, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
		require.NoError(t, err)
		defer p.Close()
		select {
		case m := <-p.Messages():
			require.InDelta(t, want.Hours(), time.Since(m.Timestamp).Hours(), 1, "hours since the timestamp of the record in %s", topic)
		case <-ctx.Done():
			t.Fatal("nothing in ", topic)
		}
	}
}
