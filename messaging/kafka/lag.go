package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

// Lag implements driver.Lagger. It counts from what the group has committed to
// the end, so what is settled beyond a message that is not counts too, as do
// the marks of transactions and what compaction took out. A group that has committed nothing has all of
// a partition before it, which is where it would begin. The age is by the
// timestamp of the record; it costs a small read for each partition that lags.
func (b *broker) Lag(ctx context.Context, topic, group string) (messages int64, oldest time.Duration, err error) {
	type result struct {
		messages int64
		oldest   time.Duration
	}
	r, err := wait.Answer(ctx, b.start, func() (r result, err error) {
		partitions, err := b.control.Partitions(topic)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return r, fmt.Errorf("%w: %q", driver.ErrUnroutable, topic)
		}
		if err != nil {
			return r, fmt.Errorf("topic %q: %w", topic, err)
		}
		positions, err := b.positions(topic, group, partitions)
		if err != nil {
			return r, fmt.Errorf("positions of group %q: %w", group, err)
		}
		for _, p := range partitions {
			if err := context.Cause(ctx); err != nil { // nobody waits any more
				return r, err
			}
			from, end, err := b.bounds(topic, p, positions[p])
			if err != nil {
				return r, fmt.Errorf("partition %d of topic %q: %w", p, topic, err)
			}
			if end <= from {
				continue
			}
			r.messages += end - from
			at, err := b.timeOf(topic, p, from)
			if err != nil {
				return r, fmt.Errorf("record %d of partition %d of topic %q: %w", from, p, topic, err)
			}
			if !at.IsZero() {
				r.oldest = max(r.oldest, time.Since(at))
			}
		}
		return r, nil
	}, func(result) {})
	return r.messages, r.oldest, err
}

// positions returns what group has committed; -1: nothing.
func (b *broker) positions(topic, group string, partitions []int32) (map[int32]int64, error) {
	admin, err := sarama.NewClusterAdminFromClient(b.control) // closing it would close the client
	if err != nil {
		return nil, err
	}
	answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if err != nil {
		return nil, err
	}
	out := make(map[int32]int64, len(partitions))
	for _, p := range partitions {
		block := answer.GetBlock(topic, p)
		switch {
		case block == nil:
			out[p] = -1
		case block.Err != sarama.ErrNoError:
			return nil, block.Err
		default:
			out[p] = block.Offset
		}
	}
	return out, nil
}

// bounds returns where the group goes on reading, and the end of the partition.
func (b *broker) bounds(topic string, p int32, committed int64) (from, end int64, err error) {
	if end, err = b.control.GetOffset(topic, p, sarama.OffsetNewest); err != nil || end == committed {
		return end, end, err
	}
	first, err := b.control.GetOffset(topic, p, sarama.OffsetOldest)
	return max(first, committed), end, err
}

// timeOf returns the timestamp of the record at offset, or of the next there
// is; zero: there is none that could be read.
func (b *broker) timeOf(topic string, p int32, offset int64) (time.Time, error) {
	leader, err := b.control.Leader(topic, p)
	if err != nil {
		return time.Time{}, err
	}
	// The server returns a whole batch, however small the limit is.
	q := &sarama.FetchRequest{Version: 11, MaxWaitTime: 100, MinBytes: 1, MaxBytes: 1}
	q.AddBlock(topic, p, offset, 1, -1)
	answer, err := leader.Fetch(q)
	if err != nil {
		return time.Time{}, err
	}
	block := answer.GetBlock(topic, p)
	switch {
	case block == nil:
		return time.Time{}, sarama.ErrIncompleteResponse
	case block.Err == sarama.ErrOffsetOutOfRange: // deleted meanwhile
		return time.Time{}, nil
	case block.Err != sarama.ErrNoError:
		return time.Time{}, block.Err
	}
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil || batch.Control {
			continue
		}
		for _, r := range batch.Records {
			switch {
			case batch.FirstOffset+r.OffsetDelta < offset:
			case batch.LogAppendTime:
				return batch.MaxTimestamp, nil
			default:
				return batch.FirstTimestamp.Add(r.TimestampDelta), nil
			}
		}
	}
	return time.Time{}, nil
}
