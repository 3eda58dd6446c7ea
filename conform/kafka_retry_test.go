package conform_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
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

// What Publish takes can be retried and become a dead letter, whatever its
// headers are: they take room of their own.
func TestKafkaRetriesTheLargestMessages(t *testing.T) {
	for _, headers := range []int{0, 240} {
		t.Run(fmt.Sprint(headers, " headers"), func(t *testing.T) {
			_, b, ctx := kafkaOf(t, "t", "t.dead", "t.dead.dead", "t.g.retry-100ms")
			m := &messaging.Message{Topic: "t", Body: make([]byte, b.Driver().Capabilities().MaxBytes)}
			for i := range headers {
				m.Headers.Add(fmt.Sprintf("h%03d", i), "")
			}
			var err error
			for err = b.Publisher().Publish(ctx, m); errors.Is(err, messaging.ErrTooLarge); err = b.Publisher().Publish(ctx, m) {
				m.Body = m.Body[1:]
			}
			require.NoError(t, err)
			running, stop := context.WithCancel(ctx)
			var attempts []int
			c, err := b.Consumer("g", &messaging.ConsumerOptions{
				Order: messaging.Unordered, Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{100 * time.Millisecond}},
			}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
				attempts = append(attempts, d.Attempt)
				var record *sarama.ConsumerMessage
				require.True(t, d.Native(&record))
				require.Equal(t, d.Attempt > 1, record.Topic == "t.g.retry-100ms", "attempt %d is in %s", d.Attempt, record.Topic)
				return errors.New(strings.Repeat("very long ", 100))
			}))
			require.NoError(t, err)
			clerk, err := b.Consumer("clerk", nil, messaging.On("t.dead", func(_ context.Context, d *messaging.Delivery) error {
				require.Len(t, d.LastError, 512)
				require.Len(t, d.Body, len(m.Body))
				stop()
				return nil
			}))
			require.NoError(t, err)
			var wg sync.WaitGroup
			for _, c := range []*messaging.Consumer{c, clerk} {
				wg.Go(func() { assert.NoError(t, c.Run(running)) })
			}
			wg.Wait()
			require.NoError(t, ctx.Err(), "a dead letter came")
			require.Equal(t, []int{1, 2, 3}, attempts)
		})
	}
}

// What is larger than we publish, since others take more, is retried in the
// consumer and then keeps waiting for its dead letter: the others go on.
func TestKafkaRetriesWhatOthersPublished(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t", "t.dead", "t.g.retry-100ms"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	foreign, err := sarama.NewClient(cluster.ListenAddrs(), func() *sarama.Config {
		c := sarama.NewConfig()
		c.Producer.Return.Successes = true
		return c
	}())
	require.NoError(t, err)
	defer foreign.Close()
	producer, err := sarama.NewSyncProducerFromClient(foreign)
	require.NoError(t, err)
	for _, n := range []int{500_000, 1, 2, 3, 4, 5} {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "t", Value: sarama.ByteEncoder(make([]byte, n))})
		require.NoError(t, err)
	}
	config := sarama.NewConfig()
	config.Producer.MaxMessageBytes = 100_000
	b, err := kafka.Open(ctx, cluster.ListenAddrs(), &kafka.Options{Sarama: config})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close(context.Background())) }()
	var mu sync.Mutex
	runs := make(map[string]int)
	refused := make(chan struct{}, 1)
	c, err := b.Consumer("g", &messaging.ConsumerOptions{
		Order: messaging.Unordered, Concurrency: 1, Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{100 * time.Millisecond}},
	}, messaging.On("t", func(_ context.Context, d *messaging.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		runs[fmt.Sprintf("%d bytes, attempt %d", len(d.Body), d.Attempt)]++
		if d.Attempt == 3 {
			refused <- struct{}{}
		}
		if len(d.Body) > 5 || d.Attempt == 1 {
			return errors.New("no")
		}
		return nil
	}))
	require.NoError(t, err)
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(running) }()
	select {
	case <-refused:
	case <-ctx.Done():
		t.Fatalf("%v, and %v", runs, c.Health(t.Context()))
	}
	require.Eventually(t, func() bool { err := c.Health(ctx); return err != nil && strings.Contains(err.Error(), "t.dead") },
		20*time.Second, 20*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	want := map[string]int{"500000 bytes, attempt 1": 1, "500000 bytes, attempt 2": 1, "500000 bytes, attempt 3": 1}
	for n := range 5 {
		want[fmt.Sprintf("%d bytes, attempt 1", n+1)], want[fmt.Sprintf("%d bytes, attempt 2", n+1)] = 1, 1
	}
	require.Equal(t, want, runs)
}
