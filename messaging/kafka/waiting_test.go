package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

// A message that waits for an hour stops neither its partition nor, when its
// consumer is replaced, has others delivered again.
func TestAWaitingMessageBlocksNobody(t *testing.T) {
	const total = 40_000 // more than may lie beyond it where nothing can be written down
	addrs := servertest.Kafka(t)
	topic := fmt.Sprintf("waiting-%d", time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := kafka.Open(ctx, addrs, &kafka.Options{Partitions: 1, Messaging: messaging.Options{Topology: messaging.Declare}})
	require.NoError(t, err)
	defer b.Close(context.Background())
	var mu sync.Mutex
	runs := make(map[string]int)
	left, enough := total, make(chan struct{})
	run := func() (stop func() error) {
		c, err := b.Consumer("g", &messaging.ConsumerOptions{Retry: messaging.RetryPolicy{Delays: []time.Duration{time.Hour}}},
			messaging.On(topic, func(_ context.Context, d *messaging.Delivery) error {
				mu.Lock()
				defer mu.Unlock()
				runs[d.ID]++
				if d.Key == "waits" {
					return errors.New("not yet")
				}
				if left--; left == 0 {
					close(enough)
				}
				return nil
			}))
		require.NoError(t, err)
		return start(ctx, c)
	}
	msgs := []*messaging.Message{{ID: "waits", Topic: topic, Key: "waits"}}
	for n := range total {
		msgs = append(msgs, &messaging.Message{ID: fmt.Sprint(n), Topic: topic, Key: fmt.Sprint(n % 100)})
	}
	for from := 0; from < len(msgs); from += 5000 {
		require.NoError(t, b.Publisher().Publish(ctx, msgs[from:min(from+5000, len(msgs))]...))
	}
	stop := run()
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatalf("%d of %d messages were not handled while one waited", left, total)
	}
	n, _, err := b.Driver().(driver.Lagger).Lag(ctx, topic, "g")
	require.NoError(t, err)
	require.EqualValues(t, total+1, n, "the position stands before what waits")
	require.NoError(t, stop())
	position := func() *sarama.OffsetFetchResponseBlock {
		admin, err := sarama.NewClusterAdmin(addrs, sarama.NewConfig())
		require.NoError(t, err)
		defer admin.Close()
		all, err := admin.ListConsumerGroupOffsets("g", map[string][]int32{topic: {0}})
		require.NoError(t, err)
		return all.GetBlock(topic, 0)
	}
	t.Logf("position %d, and beside it %q", position().Offset, position().Metadata)

	mu.Lock()
	left, enough = 100, make(chan struct{})
	mu.Unlock()
	stop = run()
	for n := range 100 { // they come behind everything that could come again
		require.NoError(t, b.Publisher().Publish(ctx, &messaging.Message{ID: fmt.Sprint("late", n), Topic: topic, Key: fmt.Sprint(n)}))
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("what was published later did not come")
	}
	require.NoError(t, stop())
	mu.Lock()
	defer mu.Unlock()
	again := 0
	for id, n := range runs {
		if n > 1 {
			again++
			t.Logf("%s ran %d times", id, n)
		}
	}
	require.Zero(t, again, "handled again, though settled")
	require.Equal(t, 1, runs["waits"])
}

func start(ctx context.Context, c *messaging.Consumer) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}
