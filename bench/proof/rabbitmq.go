package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

func rabbitmqPeers() []*peer {
	return []*peer{
		{
			broker: "rabbitmq", name: "amqp091-go, safe", declare: declareQueue(quorum),
			publisher: amqpPublisher(true), consume: amqpConsume(32),
			settings: "persistent, mandatory, every confirm awaited; a quorum queue with a single active consumer, which RabbitMQ's documentation names for order; prefetch 32, Ack after handling; connections made anew by the program, as its examples do",
		},
		{
			broker: "rabbitmq", name: "amqp091-go, tutorial", declare: declareQueue(nil),
			publisher: amqpPublisher(false), consume: amqpConsume(1),
			settings: "the client has no defaults; RabbitMQ's tutorial 2, work queues: a durable classic queue, persistent messages, no confirms, prefetch 1, Ack after handling; connections made anew as above",
		},
		{
			broker: "rabbitmq", name: "Watermill, safe", declare: declareQueue(quorum),
			publisher: watermillAMQPPublisher(true), consume: watermillAMQPConsume(true),
			settings: "NewDurableQueueConfig with ConfirmDelivery, Mandatory, and a quorum queue with a single active consumer",
		},
		{
			broker: "rabbitmq", name: "Watermill, defaults", declare: declareQueue(nil),
			publisher: watermillAMQPPublisher(false), consume: watermillAMQPConsume(false),
			settings: "NewDurableQueueConfig: a durable classic queue, persistent messages, no confirms, prefetch 1",
		},
		{
			broker: "rabbitmq", name: "Mainstay", ours: true,
			declare: func(ctx context.Context, at place) error {
				direct := place{Servers: at.Servers, Topic: at.Topic}
				b, err := rabbitmq.Open(ctx, direct.amqp(), nil)
				if err != nil {
					return err
				}
				defer shut(b)
				c, err := mainstayConsumer(b, at, nil)
				if err != nil {
					return err
				}
				return c.Declare(ctx)
			},
			publisher: func(ctx context.Context, at place) (func(context.Context, string, string) error, func(), error) {
				return mainstayPublisher(at, func() (*messaging.Broker, error) { return rabbitmq.Open(ctx, at.amqp(), nil) })
			},
			consume: func(ctx context.Context, at place, handle handler) error {
				return mainstayConsume(ctx, at, handle, func() (*messaging.Broker, error) { return rabbitmq.Open(ctx, at.amqp(), nil) })
			},
			settings: "defaults: order by key, 16 handlers",
		},
	}
}

// amqp is the URL, through the proxy if there is one.
func (at place) amqp() string {
	host := at.Servers[0]
	if p := at.Through[host]; p != "" {
		host = p
	}
	return "amqp://guest:guest@" + host + "/"
}

// quorum queues with one consumer at a time.
var quorum = amqp.Table{"x-queue-type": "quorum", "x-single-active-consumer": true}

func declareQueue(args amqp.Table) func(context.Context, place) error {
	return func(_ context.Context, at place) error {
		conn, err := amqp.Dial(place{Servers: at.Servers}.amqp())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		_, err = ch.QueueDeclare(at.Topic, true, false, false, false, args)
		return err
	}
}

// amqpPublisher publishes on one channel and dials anew when it has closed.
func amqpPublisher(confirm bool) func(context.Context, place) (func(context.Context, string, string) error, func(), error) {
	return func(_ context.Context, at place) (func(context.Context, string, string) error, func(), error) {
		var (
			mu   sync.Mutex
			conn *amqp.Connection
			ch   *amqp.Channel
		)
		channel := func() (*amqp.Channel, error) {
			mu.Lock()
			defer mu.Unlock()
			if ch != nil && !ch.IsClosed() {
				return ch, nil
			}
			if conn != nil {
				_ = conn.Close()
			}
			var err error
			if conn, err = amqp.Dial(at.amqp()); err != nil {
				return nil, err
			}
			if ch, err = conn.Channel(); err == nil && confirm {
				err = ch.Confirm(false)
			}
			return ch, err
		}
		publish := func(ctx context.Context, id, key string) error {
			ch, err := channel()
			if err != nil {
				return err
			}
			m := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: id, Headers: amqp.Table{"key": key}, Body: []byte(id)}
			if !confirm {
				return ch.PublishWithContext(ctx, "", at.Topic, false, false, m)
			}
			sent, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", at.Topic, true, false, m)
			if err != nil {
				return err
			}
			ok, err := sent.WaitContext(ctx)
			if err == nil && !ok {
				err = errors.New("not confirmed")
			}
			return err
		}
		return publish, func() {
			if conn != nil {
				_ = conn.Close()
			}
		}, nil
	}
}

func amqpConsume(prefetch int) func(context.Context, place, handler) error {
	return func(ctx context.Context, at place, handle handler) error {
		conn, err := amqp.Dial(at.amqp())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		if err := ch.Qos(prefetch, 0, false); err != nil {
			return err
		}
		in, err := ch.Consume(at.Topic, "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		for {
			select {
			case d, ok := <-in:
				if !ok {
					return errors.New("the channel was closed")
				}
				if err := handle(ctx, d.MessageId, fmt.Sprint(d.Headers["key"])); err != nil {
					return err
				}
				if err := d.Ack(false); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func watermillAMQPConfig(at place, safe bool) wmamqp.Config {
	c := wmamqp.NewDurableQueueConfig(at.amqp())
	if safe {
		c.Publish.ConfirmDelivery, c.Publish.Mandatory = true, true
		c.Queue.Arguments = quorum
	}
	return c
}

func watermillAMQPPublisher(safe bool) func(context.Context, place) (func(context.Context, string, string) error, func(), error) {
	return func(_ context.Context, at place) (func(context.Context, string, string) error, func(), error) {
		p, err := wmamqp.NewPublisher(watermillAMQPConfig(at, safe), watermill.NopLogger{})
		if err != nil {
			return nil, nil, err
		}
		return watermillPublish(p, at.Topic), func() { _ = p.Close() }, nil
	}
}

func watermillAMQPConsume(safe bool) func(context.Context, place, handler) error {
	return func(ctx context.Context, at place, handle handler) error {
		sub, err := wmamqp.NewSubscriber(watermillAMQPConfig(at, safe), watermill.NopLogger{})
		if err != nil {
			return err
		}
		return watermillConsume(ctx, sub, at.Topic, handle)
	}
}
