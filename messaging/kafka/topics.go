package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// Declare implements driver.Declarer. A group needs nothing: one that is new
// begins at the oldest message.
func (b *broker) Declare(ctx context.Context, s driver.Subscription) error {
	tiers := tiersOf(&s)
	all := slices.Concat(s.Topics, s.DeadLetters, names(tiers))
	missing, err := b.missing(ctx, all)
	if err != nil {
		return err
	}
	plain := sarama.TopicDetail{NumPartitions: int32(b.partitions), ReplicationFactor: -1}
	if b.replicas > 0 {
		plain.ReplicationFactor = int16(b.replicas)
	}
	for _, topic := range missing {
		detail := plain
		if i := slices.Index(names(tiers), topic); i >= 0 {
			detail = tiers[i].keep(plain)
		}
		err := wait.Call(ctx, b.start, func() error {
			// Closing it would close the client that it is on.
			admin, err := sarama.NewClusterAdminFromClient(b.control)
			if err != nil {
				return err
			}
			return admin.CreateTopic(topic, &detail, false)
		})
		if err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return fmt.Errorf("topic %q with %d partitions: %w", topic, b.partitions, err)
		}
	}
	for len(missing) > 0 { // a topic is usable when brokers have heard of it
		if missing, err = b.missing(ctx, missing); err != nil {
			return err
		}
		if len(missing) > 0 && !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// Verify implements driver.Declarer.
func (b *broker) Verify(ctx context.Context, s driver.Subscription) error {
	missing, err := b.missing(ctx, slices.Concat(s.Topics, s.DeadLetters, names(tiersOf(&s))))
	if err != nil || len(missing) == 0 {
		return err
	}
	return unroutable(missing)
}

func unroutable(missing []string) error {
	names := make([]string, len(missing))
	for i, topic := range missing {
		names[i] = fmt.Sprintf("%q", topic)
	}
	return fmt.Errorf("%w: %s", driver.ErrUnroutable, strings.Join(names, ", "))
}

// missing returns those of topics that do not exist, or have no leader yet.
func (b *broker) missing(ctx context.Context, topics []string) ([]string, error) {
	if b.isClosed() {
		return nil, driver.ErrClosed
	}
	missing, err := wait.Answer(ctx, b.start, func() (missing []string, _ error) {
		for _, topic := range topics {
			switch err := b.control.RefreshMetadata(topic); {
			case err == nil:
			case errors.Is(err, sarama.ErrUnknownTopicOrPartition), errors.Is(err, sarama.ErrLeaderNotAvailable), errors.Is(err, sarama.ErrInvalidTopic):
				missing = append(missing, topic)
			default:
				return nil, fmt.Errorf("topic %q: %w", topic, err)
			}
		}
		return missing, nil
	}, func([]string) {})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range topics {
		b.known[topic] = !slices.Contains(missing, topic)
	}
	return missing, nil
}

// topics returns all that this client may see. The client's own list is of those
// that it uses.
func (b *broker) topics(ctx context.Context) ([]string, error) {
	return wait.Answer(ctx, b.start, func() (all []string, _ error) {
		failed := []error{sarama.ErrOutOfBrokers}
		for _, at := range b.control.Brokers() {
			_ = at.Open(b.control.Config()) // it may be open
			answer, err := at.GetMetadata(sarama.NewMetadataRequest(b.base.Version, nil))
			if err != nil {
				_ = at.Close()
				failed = append(failed, err)
				continue
			}
			for _, t := range answer.Topics {
				all = append(all, t.Name)
			}
			return all, nil
		}
		return nil, errors.Join(failed...)
	}, nil)
}

// sleep returns false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
