package main

import (
	"context"
	"net"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

func kafkaPeers() []*peer {
	return []*peer{
		{
			broker: "kafka", name: "sarama, safe", declare: kafkaDeclare,
			publisher: saramaPublisher(saramaSafe), consume: saramaConsume(saramaSafe),
			settings: "acks=all, idempotent, 1 open request, 10 retries; offsets begin at the oldest, cooperative-sticky, a message is marked when it has been handled, as the example of its consumer groups does; one handler per partition",
		},
		{
			broker: "kafka", name: "sarama, defaults", declare: kafkaDeclare,
			publisher: saramaPublisher(saramaDefaults), consume: saramaConsume(saramaDefaults),
			settings: "sarama.NewConfig: acks=1, 3 retries, 5 open requests; offsets begin at the newest, range assignment; the same handler",
		},
		{
			broker: "kafka", name: "Watermill, safe", declare: kafkaDeclare,
			publisher: watermillKafkaPublisher(true), consume: watermillKafkaConsume(true),
			settings: "acks=all, idempotent, 1 open request over DefaultSaramaSyncPublisherConfig; the marshaler that partitions by key; offsets begin at the oldest; Ack after handling, each message in a goroutine as its Router does",
		},
		{
			broker: "kafka", name: "Watermill, defaults", declare: kafkaDeclare,
			publisher: watermillKafkaPublisher(false), consume: watermillKafkaConsume(false),
			settings: "DefaultSaramaSyncPublisherConfig (acks=1, 10 retries), DefaultSaramaSubscriberConfig, DefaultMarshaler, which sends no key to Kafka: keys are spread over partitions",
		},
		{
			broker: "kafka", name: "Mainstay", ours: true, declare: kafkaDeclare,
			publisher: func(ctx context.Context, at place) (func(context.Context, string, string) error, func(), error) {
				return mainstayPublisher(at, func() (*messaging.Broker, error) { return mainstayKafka(ctx, at) })
			},
			consume: func(ctx context.Context, at place, handle handler) error {
				return mainstayConsume(ctx, at, handle, func() (*messaging.Broker, error) { return mainstayKafka(ctx, at) })
			},
			settings: "defaults: order by key, 16 handlers",
		},
	}
}

// detour dials the proxy in place of the server.
type detour struct{ through map[string]string }

// Dial implements proxy.Dialer.
func (d detour) Dial(network, addr string) (net.Conn, error) {
	if p := d.through[addr]; p != "" {
		addr = p
	}
	return net.DialTimeout(network, addr, 5*time.Second) //nolint:noctx // the interface has no context
}

func through(c *sarama.Config, at place) *sarama.Config {
	c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, detour{at.Through}
	return c
}

// kafkaDeclare makes the topic past the proxy, before there are faults.
func kafkaDeclare(_ context.Context, at place) error {
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(at.Servers, c)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	return admin.CreateTopic(at.Topic, &sarama.TopicDetail{NumPartitions: 8, ReplicationFactor: -1}, false)
}

func saramaDefaults() *sarama.Config {
	c := sarama.NewConfig()
	c.Producer.Return.Successes = true // a SyncProducer demands it
	return c
}

func saramaSafe() *sarama.Config {
	c := saramaDefaults()
	c.Producer.RequiredAcks, c.Producer.Idempotent, c.Net.MaxOpenRequests, c.Producer.Retry.Max = sarama.WaitForAll, true, 1, 10
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	return c
}

func saramaPublisher(config func() *sarama.Config) func(context.Context, place) (func(context.Context, string, string) error, func(), error) {
	return func(_ context.Context, at place) (func(context.Context, string, string) error, func(), error) {
		p, err := sarama.NewSyncProducer(at.Servers, through(config(), at))
		if err != nil {
			return nil, nil, err
		}
		return func(_ context.Context, id, key string) error {
			_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: at.Topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(id)})
			return err
		}, func() { _ = p.Close() }, nil
	}
}

func saramaConsume(config func() *sarama.Config) func(context.Context, place, handler) error {
	return func(ctx context.Context, at place, handle handler) error {
		group, err := sarama.NewConsumerGroup(at.Servers, at.Topic, through(config(), at))
		if err != nil {
			return err
		}
		defer func() { _ = group.Close() }()
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{at.Topic}, claims{handle}); err != nil {
				return err
			}
		}
		return nil
	}
}

type claims struct{ handle handler }

// Setup implements sarama.ConsumerGroupHandler.
func (claims) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler, as its documentation
// shows it.
func (c claims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			if err := c.handle(session.Context(), string(m.Value), string(m.Key)); err != nil {
				return nil //nolint:nilerr // the session has ended, and the message is not marked
			}
			session.MarkMessage(m, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

const keyMetadata = "key"

func byKey() wmkafka.MarshalerUnmarshaler {
	return wmkafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get(keyMetadata), nil })
}

func watermillKafkaPublisher(safe bool) func(context.Context, place) (func(context.Context, string, string) error, func(), error) {
	return func(_ context.Context, at place) (func(context.Context, string, string) error, func(), error) {
		c := wmkafka.PublisherConfig{Brokers: at.Servers, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: wmkafka.DefaultSaramaSyncPublisherConfig()}
		through(c.OverwriteSaramaConfig, at)
		if safe {
			c.Marshaler = byKey()
			s := c.OverwriteSaramaConfig
			s.Version, s.Producer.RequiredAcks, s.Producer.Idempotent, s.Net.MaxOpenRequests = sarama.V2_8_0_0, sarama.WaitForAll, true, 1
		}
		p, err := wmkafka.NewPublisher(c, watermill.NopLogger{})
		if err != nil {
			return nil, nil, err
		}
		return watermillPublish(p, at.Topic), func() { _ = p.Close() }, nil
	}
}

func watermillPublish(p message.Publisher, topic string) func(context.Context, string, string) error {
	return func(_ context.Context, id, key string) error {
		m := message.NewMessage(id, []byte(id))
		m.Metadata.Set(keyMetadata, key)
		return p.Publish(topic, m)
	}
}

func watermillKafkaConsume(safe bool) func(context.Context, place, handler) error {
	return func(ctx context.Context, at place, handle handler) error {
		c := wmkafka.SubscriberConfig{
			Brokers: at.Servers, Unmarshaler: wmkafka.DefaultMarshaler{}, ConsumerGroup: at.Topic, OverwriteSaramaConfig: wmkafka.DefaultSaramaSubscriberConfig(),
		}
		through(c.OverwriteSaramaConfig, at)
		if safe {
			c.Unmarshaler = byKey()
			c.OverwriteSaramaConfig.Consumer.Offsets.Initial = sarama.OffsetOldest
		}
		sub, err := wmkafka.NewSubscriber(c, watermill.NopLogger{})
		if err != nil {
			return err
		}
		return watermillConsume(ctx, sub, at.Topic, handle)
	}
}

// watermillConsume handles each message in a goroutine, as Watermill's Router
// does: how many there are at a time is the subscriber's to say.
func watermillConsume(ctx context.Context, sub message.Subscriber, topic string, handle handler) error {
	defer func() { _ = sub.Close() }()
	msgs, err := sub.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	for m := range msgs {
		go func() {
			if err := handle(m.Context(), m.UUID, m.Metadata.Get(keyMetadata)); err != nil {
				m.Nack()
			} else {
				m.Ack()
			}
		}()
	}
	return nil
}

func mainstayKafka(ctx context.Context, at place) (*messaging.Broker, error) {
	return kafka.Open(ctx, at.Servers, &kafka.Options{Sarama: through(sarama.NewConfig(), at)})
}

func mainstayPublisher(at place, open func() (*messaging.Broker, error)) (func(context.Context, string, string) error, func(), error) {
	b, err := open()
	if err != nil {
		return nil, nil, err
	}
	publish := func(ctx context.Context, id, key string) error {
		return b.Publisher().Publish(ctx, &messaging.Message{ID: id, Topic: at.Topic, Key: key, Body: []byte(id)})
	}
	return publish, func() { shut(b) }, nil
}

func shut(b *messaging.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = b.Close(ctx)
}

func mainstayConsume(ctx context.Context, at place, handle handler, open func() (*messaging.Broker, error)) error {
	b, err := open()
	if err != nil {
		return err
	}
	defer shut(b)
	c, err := mainstayConsumer(b, at, handle)
	if err != nil {
		return err
	}
	if err := c.Declare(ctx); err != nil {
		return err
	}
	return c.Run(ctx)
}

func mainstayConsumer(b *messaging.Broker, at place, handle handler) (*messaging.Consumer, error) {
	return b.Consumer(at.Topic, nil, messaging.On(at.Topic, func(ctx context.Context, d *messaging.Delivery) error {
		return handle(ctx, d.ID, d.Key)
	}))
}
