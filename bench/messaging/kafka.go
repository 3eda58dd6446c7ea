package messaging

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	mainstay "github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"

	"github.com/mainstay-go/mainstay/bench/measure"
)

const rawKafka = "sarama"

func kafkaGroups(addr string) []measure.Group {
	addrs := list(addr)
	publish := func(ctx context.Context, s *stage) ([]publisher, error) { return kafkaPublishers(ctx, s, addrs) }
	names := []string{rawKafka, rawKafka + unadorned, ours, theirs}
	floors := append(slices.Clip(names), rawKafka+", async", rawKafka+", async, told of 100 callers")
	publishAsync := func(ctx context.Context, s *stage) ([]publisher, error) {
		all, err := publish(ctx, s)
		for _, together := range []int{0, callers} {
			var p publisher
			if err == nil {
				p, err = asyncKafkaPublisher(s, addrs, together)
			}
			all = append(all, p)
		}
		return all, err
	}
	return []measure.Group{
		publishing{
			name: "messaging: Kafka publish, one call of 100 messages", names: names, at: batch, callers: 1, open: publish,
			goals: []measure.Goal{goal(rawKafka, 0.9), goal(theirs, 12)},
		}.group(),
		publishing{name: "messaging: Kafka publish, 1 caller of one message", names: floors, at: 1, callers: 1, open: publishAsync}.group(),
		publishing{
			name: "messaging: Kafka publish, 100 callers of one message", names: floors, at: 1, callers: callers, open: publishAsync,
			goals: []measure.Goal{goal(theirs, 1.3)},
		}.group(),
		consuming{
			name: "messaging: Kafka consume, 1 partition", names: []string{rawKafka, ours, defaults, theirs},
			open:  func(ctx context.Context, s *stage) ([]consumer, error) { return kafkaConsumers(ctx, s, addrs) },
			goals: []measure.Goal{goal(rawKafka, 0.85)},
		}.group(),
		consuming{
			name: "messaging: Kafka, 1 partition, 64 keys, a handler that takes 1 ms", names: []string{theirs, ours}, each: 200,
			open:  func(ctx context.Context, s *stage) ([]consumer, error) { return kafkaSlow(ctx, s, addrs) },
			goals: []measure.Goal{goal(theirs, 40)},
		}.group(),
	}
}

// safeProducer is what all contenders publish with: Mainstay's own settings.
func safeProducer(c *sarama.Config) *sarama.Config {
	c.Version = sarama.V2_8_0_0
	c.Producer.RequiredAcks, c.Producer.Idempotent, c.Net.MaxOpenRequests = sarama.WaitForAll, true, 1
	c.Producer.Return.Successes = true
	return c
}

// kafkaTopic makes a topic of one partition that is gone at the end.
func kafkaTopic(s *stage, addrs []string) (string, error) {
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(addrs, c)
	if err != nil {
		return "", err
	}
	topic := unique("topic")
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: -1}, false); err != nil {
		return "", err
	}
	s.atEnd(func() {
		_ = admin.DeleteTopic(topic)
		_ = admin.Close()
	})
	return topic, nil
}

func kafkaBroker(ctx context.Context, s *stage, addrs []string) (*mainstay.Broker, error) {
	return s.broker(kafka.Open(ctx, addrs, &kafka.Options{Partitions: 1, Messaging: mainstay.Options{Topology: mainstay.Declare}}))
}

func kafkaPublishers(ctx context.Context, s *stage, addrs []string) ([]publisher, error) {
	var topics [4]string
	for i := range topics {
		topic, err := kafkaTopic(s, addrs)
		if err != nil {
			return nil, err
		}
		topics[i] = topic
	}
	p, err := sarama.NewSyncProducer(addrs, safeProducer(sarama.NewConfig()))
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = p.Close() })
	b, err := kafkaBroker(ctx, s, addrs)
	if err != nil {
		return nil, err
	}
	w, err := watermillKafka(s, addrs, topics[3])
	if err != nil {
		return nil, err
	}
	return []publisher{rawKafkaPublisher(p, topics[0], false), rawKafkaPublisher(p, topics[1], true), mainstayPublisher(ctx, b, topics[2]), w}, nil
}

func rawKafkaPublisher(p sarama.SyncProducer, topic string, bare bool) publisher {
	var id atomic.Int64
	return func(messages int) error {
		msgs := make([]*sarama.ProducerMessage, messages)
		for i := range msgs {
			msgs[i] = rawKafkaMessage(topic, id.Add(1), bare)
		}
		if messages == 1 {
			_, _, err := p.SendMessage(msgs[0])
			return err
		}
		return p.SendMessages(msgs)
	}
}

func rawKafkaMessage(topic string, n int64, bare bool) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(body)}
	if bare {
		m.Headers = []sarama.RecordHeader{{Key: []byte("id"), Value: strconv.AppendInt(nil, n, 10)}}
		return m
	}
	m.Key, m.Timestamp = sarama.StringEncoder(keyNames[n%keys]), time.Now()
	m.Headers = []sarama.RecordHeader{
		{Key: []byte("mainstay-id"), Value: []byte(watermill.NewUUID())},
		{Key: []byte("mainstay-time"), Value: m.Timestamp.UTC().AppendFormat(nil, time.RFC3339Nano)},
	}
	return m
}

// asyncKafkaPublisher is the least that callers of one message each can have of
// the client: a channel that is used again, and one message on it. It waits for
// together messages, or a millisecond, before it makes a request; 0: it does not.
func asyncKafkaPublisher(s *stage, addrs []string, together int) (publisher, error) {
	topic, err := kafkaTopic(s, addrs)
	if err != nil {
		return nil, err
	}
	c := safeProducer(sarama.NewConfig())
	if c.Producer.Flush.Messages = together; together > 0 {
		c.Producer.Flush.Frequency = time.Millisecond
	}
	p, err := sarama.NewAsyncProducer(addrs, c)
	if err != nil {
		return nil, err
	}
	var listeners sync.WaitGroup
	listeners.Go(func() {
		for m := range p.Successes() {
			m.Metadata.(chan error) <- nil
		}
	})
	listeners.Go(func() {
		for e := range p.Errors() {
			e.Msg.Metadata.(chan error) <- e.Err
		}
	})
	s.atEnd(func() {
		p.AsyncClose()
		listeners.Wait()
	})
	var id atomic.Int64
	waiting := sync.Pool{New: func() any { return make(chan error, 1) }}
	return func(int) error {
		answer := waiting.Get().(chan error)
		m := rawKafkaMessage(topic, id.Add(1), false)
		m.Metadata = answer
		p.Input() <- m
		err := <-answer
		waiting.Put(answer)
		return err
	}, nil
}

func watermillKafka(s *stage, addrs []string, topic string) (publisher, error) {
	p, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
		Brokers: addrs, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: safeProducer(wmkafka.DefaultSaramaSyncPublisherConfig()),
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = p.Close() })
	return watermillPublisher(p, topic), nil
}

func watermillKafkaSubscriber(s *stage, addrs []string, topic string, work func()) (func(context.Context, *gate) error, error) {
	c := wmkafka.DefaultSaramaSubscriberConfig()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	sub, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
		Brokers: addrs, Unmarshaler: wmkafka.DefaultMarshaler{}, ConsumerGroup: topic, OverwriteSaramaConfig: c,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = sub.Close() })
	return watermillConsumer(sub, topic, work), nil
}

func kafkaConsumers(ctx context.Context, s *stage, addrs []string) ([]consumer, error) {
	b, err := kafkaBroker(ctx, s, addrs)
	if err != nil {
		return nil, err
	}
	var all []consumer
	for _, o := range []*mainstay.ConsumerOptions{nil, {Prefetch: 512}, {}} {
		topic, err := kafkaTopic(s, addrs)
		if err != nil {
			return nil, err
		}
		c := consumer{fill: fillWith(mainstayPublisher(ctx, b, topic))}
		if o == nil {
			c.run = func(ctx context.Context, g *gate) error { return rawKafkaConsume(ctx, addrs, topic, g) }
		} else {
			c.run = mainstayConsumer(b, topic, topic, o, nil)
		}
		all = append(all, c)
	}
	topic, err := kafkaTopic(s, addrs)
	if err != nil {
		return nil, err
	}
	p, err := watermillKafka(s, addrs, topic)
	if err != nil {
		return nil, err
	}
	run, err := watermillKafkaSubscriber(s, addrs, topic, nil)
	if err != nil {
		return nil, err
	}
	return append(all, consumer{run: run, fill: fillBy(p)}), nil
}

func rawKafkaConsume(ctx context.Context, addrs []string, topic string, g *gate) error {
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	group, err := sarama.NewConsumerGroup(addrs, topic, c)
	if err != nil {
		return err
	}
	defer func() { _ = group.Close() }()
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{topic}, rawHandler{g}); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

type rawHandler struct{ gate *gate }

// Setup implements sarama.ConsumerGroupHandler.
func (rawHandler) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (rawHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h rawHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		h.gate.enter()
		session.MarkMessage(m, "")
		h.gate.leave()
	}
	return nil
}

// kafkaSlow has a handler of 1 ms. Mainstay's must see every key in order.
func kafkaSlow(ctx context.Context, s *stage, addrs []string) ([]consumer, error) {
	b, err := kafkaBroker(ctx, s, addrs)
	if err != nil {
		return nil, err
	}
	topics := [2]string{}
	for i := range topics {
		if topics[i], err = kafkaTopic(s, addrs); err != nil {
			return nil, err
		}
	}
	p, err := watermillKafka(s, addrs, topics[0])
	if err != nil {
		return nil, err
	}
	run, err := watermillKafkaSubscriber(s, addrs, topics[0], func() { time.Sleep(time.Millisecond) })
	if err != nil {
		return nil, err
	}
	var sent uint64
	var seen [keys]atomic.Uint64
	fill := func(n int) error {
		msgs := make([]*mainstay.Message, n)
		for i := range msgs {
			sent++
			msgs[i] = &mainstay.Message{Topic: topics[1], Key: strconv.FormatUint(sent%keys, 10), Body: append(binary.BigEndian.AppendUint64(nil, sent), body[8:]...)}
		}
		return b.Publisher().Publish(ctx, msgs...)
	}
	work := func(d *mainstay.Delivery) {
		n := binary.BigEndian.Uint64(d.Body)
		time.Sleep(time.Millisecond)
		if before := seen[n%keys].Swap(n); before >= n {
			must(fmt.Errorf("of key %s, message %d came after %d", d.Key, n, before))
		}
	}
	return []consumer{
		{run: run, fill: fillBy(p)},
		{run: mainstayConsumer(b, topics[1], topics[1], &mainstay.ConsumerOptions{Concurrency: keys, Prefetch: 8 * keys}, work), fill: fill},
	}, nil
}
