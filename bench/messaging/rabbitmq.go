package messaging

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	mainstay "github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"

	"github.com/mainstay-go/mainstay/bench/measure"
)

const rawAMQP = "amqp091-go"

func rabbitmqGroups(url string) []measure.Group {
	// publish has a raw client, plain and bare, on so many connections.
	publish := func(connections ...int) func(context.Context, *stage) ([]publisher, error) {
		return func(ctx context.Context, s *stage) ([]publisher, error) {
			return rabbitmqPublishers(ctx, s, url, connections)
		}
	}
	names := []string{rawAMQP, rawAMQP + unadorned, ours, theirs}
	const four = ", 4 connections"
	floors := []string{rawAMQP, rawAMQP + unadorned, rawAMQP + four, rawAMQP + unadorned + four, ours, theirs}
	return []measure.Group{
		publishing{
			name: "messaging: RabbitMQ publish, one call of 100 messages", names: names, at: batch, callers: 1, open: publish(1),
			goals: []measure.Goal{goal(rawAMQP, 0.9), goal(theirs, 8)},
		}.group(),
		publishing{name: "messaging: RabbitMQ publish, 1 caller of one message", names: names, at: 1, callers: 1, open: publish(1)}.group(),
		publishing{
			name: "messaging: RabbitMQ publish, 100 callers of one message", names: floors, at: 1, callers: callers, open: publish(1, 4),
			goals: []measure.Goal{goal(theirs, 1.3)},
		}.group(),
		consuming{
			name: "messaging: RabbitMQ consume and ack each, prefetch 256", names: []string{rawAMQP, ours, defaults, theirs},
			open:  func(ctx context.Context, s *stage) ([]consumer, error) { return rabbitmqConsumers(ctx, s, url) },
			goals: []measure.Goal{goal(rawAMQP, 0.85)},
		}.group(),
	}
}

// quorum are the arguments of the queues of all contenders.
var quorum = amqp.Table{"x-queue-type": "quorum"}

// rabbit is a connection for one contender, and what it leaves behind.
func rabbit(s *stage, url string) (*amqp.Channel, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = conn.Close() })
	return conn.Channel()
}

func rabbitmqPublishers(ctx context.Context, s *stage, url string, connections []int) ([]publisher, error) {
	admin, err := rabbit(s, url)
	if err != nil {
		return nil, err
	}
	var raw []publisher
	for _, n := range connections {
		for _, bare := range []bool{false, true} {
			p, err := rawAMQPPublisher(ctx, s, url, admin, bare, n)
			if err != nil {
				return nil, err
			}
			raw = append(raw, p)
		}
	}
	topic := unique("topic")
	b, err := rabbitmqBroker(ctx, s, url, admin, topic)
	if err != nil {
		return nil, err
	}
	queue := unique("watermill")
	w, err := watermillAMQP(s, url, queue)
	if err != nil {
		return nil, err
	}
	if _, err := admin.QueueDeclare(queue, true, false, false, false, quorum); err != nil {
		return nil, err
	}
	removed(s, admin, queue)
	return append(raw, mainstayPublisher(ctx, b, topic), w), nil
}

// removed has the queue purged before each measurement and deleted at the end.
func removed(s *stage, admin *amqp.Channel, queue string) {
	s.cleaning = append(s.cleaning, func() error {
		_, err := admin.QueuePurge(queue, false)
		return err
	})
	s.atEnd(func() { _, _ = admin.QueueDelete(queue, false, false, false) })
}

// rabbitmqBroker makes a topic with one group of one queue.
func rabbitmqBroker(ctx context.Context, s *stage, url string, admin *amqp.Channel, topic string) (*mainstay.Broker, error) {
	b, err := s.broker(rabbitmq.Open(ctx, url, &rabbitmq.Options{Partitions: 1, Messaging: mainstay.Options{Topology: mainstay.Declare}}))
	if err != nil {
		return nil, err
	}
	c, err := b.Consumer("all", &mainstay.ConsumerOptions{Order: mainstay.Unordered, Retry: mainstay.RetryPolicy{MaxAttempts: 1}},
		mainstay.On(topic, func(context.Context, *mainstay.Delivery) error { return nil }))
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { forgetTopic(admin, topic) })
	removed(s, admin, topic+"/all")
	return b, c.Declare(ctx)
}

// forgetTopic deletes what a topic and its dead letters have left.
func forgetTopic(admin *amqp.Channel, topic string) {
	for _, name := range []string{topic, topic + ".dead"} {
		_ = admin.ExchangeDelete(name, false, false)
		_ = admin.ExchangeDelete(name+".unclaimed", false, false)
		_, _ = admin.QueueDelete(name+".unclaimed", false, false, false)
	}
}

// rawAMQPPublisher publishes to what Mainstay has declared, or, bare, straight to
// a queue. Calls take turns on connections with a channel each.
func rawAMQPPublisher(ctx context.Context, s *stage, url string, admin *amqp.Channel, bare bool, connections int) (publisher, error) {
	queue, exchange := unique("raw"), ""
	channels := make([]*amqp.Channel, connections)
	for i := range channels {
		ch, err := rabbit(s, url)
		if err != nil {
			return nil, err
		}
		if err := ch.Confirm(false); err != nil {
			return nil, err
		}
		channels[i] = ch
	}
	if bare {
		if _, err := admin.QueueDeclare(queue, true, false, false, false, quorum); err != nil {
			return nil, err
		}
		removed(s, admin, queue)
	} else {
		exchange = queue
		if _, err := rabbitmqBroker(ctx, s, url, admin, exchange); err != nil {
			return nil, err
		}
	}
	var id, turn atomic.Int64
	return func(messages int) error {
		ch := channels[turn.Add(1)%int64(len(channels))]
		confirms := make([]*amqp.DeferredConfirmation, messages)
		for i := range confirms {
			n := id.Add(1)
			m := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: strconv.FormatInt(n, 10), Body: body}
			to := queue
			if !bare {
				to = slotNames[n%keys]
				m.MessageId, m.Timestamp = watermill.NewUUID(), time.Now()
				m.Headers = amqp.Table{"mainstay-key": keyNames[n%keys], "mainstay-time": m.Timestamp.UTC().Format(time.RFC3339Nano)}
			}
			c, err := ch.PublishWithDeferredConfirm(exchange, to, true, false, m)
			if err != nil {
				return err
			}
			confirms[i] = c
		}
		for _, c := range confirms {
			if ok, err := c.WaitContext(ctx); !ok {
				return fmt.Errorf("not confirmed: %w", err)
			}
		}
		return nil
	}, nil
}

// slotNames are the routing keys that Mainstay publishes with.
var slotNames = func() (names [keys]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}()

// watermillConfig is Watermill's durable queue, with confirms and as many
// channels as there are callers, which its documentation advises; and the same
// queues as the others have.
func watermillConfig(url string) wmamqp.Config {
	c := wmamqp.NewDurableQueueConfig(url)
	c.Queue.Arguments = quorum
	c.Publish.ConfirmDelivery, c.Publish.Mandatory = true, true
	c.Publish.ChannelPoolSize = callers
	c.Consume.Qos.PrefetchCount = 256
	return c
}

func watermillAMQP(s *stage, url, queue string) (publisher, error) {
	p, err := wmamqp.NewPublisher(watermillConfig(url), watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = p.Close() })
	return watermillPublisher(p, queue), nil
}

func watermillPublisher(p message.Publisher, topic string) publisher {
	return func(messages int) error {
		msgs := make([]*message.Message, messages)
		for i := range msgs {
			msgs[i] = message.NewMessage(watermill.NewUUID(), body)
		}
		return p.Publish(topic, msgs...)
	}
}

func watermillConsumer(sub message.Subscriber, topic string, work func()) func(context.Context, *gate) error {
	return func(ctx context.Context, g *gate) error {
		msgs, err := sub.Subscribe(ctx, topic)
		if err != nil {
			return err
		}
		for m := range msgs {
			g.enter()
			if work != nil {
				work()
			}
			m.Ack()
			g.leave()
		}
		return nil
	}
}

func rabbitmqConsumers(ctx context.Context, s *stage, url string) ([]consumer, error) {
	admin, err := rabbit(s, url)
	if err != nil {
		return nil, err
	}
	var all []consumer
	for _, o := range []*mainstay.ConsumerOptions{nil, {Prefetch: 256}, {}} {
		topic := unique("topic")
		b, err := s.broker(rabbitmq.Open(ctx, url, &rabbitmq.Options{Partitions: 1, Messaging: mainstay.Options{Topology: mainstay.Declare}}))
		if err != nil {
			return nil, err
		}
		group := &mainstay.ConsumerOptions{}
		if o != nil {
			group = o
		}
		c, err := b.Consumer("all", group, mainstay.On(topic, func(context.Context, *mainstay.Delivery) error { return nil }))
		if err != nil {
			return nil, err
		}
		queue := topic + "/all/0"
		s.atEnd(func() { // after the broker is closed
			_, _ = admin.QueueDelete(queue, false, false, false)
			forgetTopic(admin, topic)
		})
		if err := c.Declare(ctx); err != nil {
			return nil, err
		}
		fill := fillWith(mainstayPublisher(ctx, b, topic))
		if o != nil {
			all = append(all, consumer{run: mainstayConsumer(b, topic, "all", o, nil), fill: fill})
			continue
		}
		all = append(all, consumer{fill: fill, run: func(ctx context.Context, g *gate) error { // the raw client, on the same kind of queue
			ch, err := rabbit(s, url)
			if err != nil {
				return err
			}
			return rawAMQPConsume(ctx, ch, queue, g)
		}})
	}
	queue := unique("watermill")
	p, err := watermillAMQP(s, url, queue)
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _, _ = admin.QueueDelete(queue, false, false, false) })
	sub, err := wmamqp.NewSubscriber(watermillConfig(url), watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = sub.Close() })
	if err := sub.SubscribeInitialize(queue); err != nil {
		return nil, err
	}
	return append(all, consumer{run: watermillConsumer(sub, queue, nil), fill: fillBy(p)}), nil
}

func rawAMQPConsume(ctx context.Context, ch *amqp.Channel, queue string, g *gate) error {
	if err := ch.Qos(256, 0, false); err != nil {
		return err
	}
	in, err := ch.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case d := <-in:
			g.enter()
			if err := d.Ack(false); err != nil {
				return err
			}
			g.leave()
		case <-ctx.Done():
			return nil
		}
	}
}

func list(addrs string) []string { return strings.Split(addrs, ",") }
