package messaging

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmredis "github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"

	mainstay "github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/redisstream"

	"github.com/mainstay-go/mainstay/bench/measure"
)

const rawRedis = "go-redis"

func redisGroups(addr string) []measure.Group {
	publish := func(ctx context.Context, s *stage) ([]publisher, error) { return redisPublishers(ctx, s, addr) }
	names := []string{rawRedis, rawRedis + unadorned, ours, theirs}
	return []measure.Group{
		publishing{
			name: "messaging: Redis publish, one call of 100 messages", names: names, at: batch, callers: 1, open: publish,
			goals: []measure.Goal{goal(rawRedis, 0.85)},
		}.group(),
		publishing{
			name: "messaging: Redis publish, 1 caller of one message", names: names, at: 1, callers: 1, open: publish,
			goals: []measure.Goal{goal(rawRedis, 0.85)},
		}.group(),
		publishing{name: "messaging: Redis publish, 100 callers of one message", names: names, at: 1, callers: callers, open: publish}.group(),
		consuming{
			name: "messaging: Redis consume, 1 stream, 256 at a time", names: []string{rawRedis, ours, defaults, theirs},
			open:  func(ctx context.Context, s *stage) ([]consumer, error) { return redisConsumers(ctx, s, addr) },
			goals: []measure.Goal{goal(rawRedis, 0.85)},
		}.group(),
	}
}

func redisClient(s *stage, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr})
	s.atEnd(func() { _ = c.Close() })
	return c
}

// emptied has a stream emptied before each measurement and deleted at the end.
func emptied(ctx context.Context, s *stage, c *redis.Client, stream string) {
	s.cleaning = append(s.cleaning, func() error { return c.XTrimMaxLen(ctx, stream, 0).Err() })
	s.atEnd(func() { _ = c.Del(context.Background(), stream).Err() })
}

// streamOf is the stream of a topic of one partition.
func streamOf(topic string) string { return "mainstay:{" + topic + ":0}" }

func redisBroker(ctx context.Context, s *stage, c *redis.Client, topic string) (*mainstay.Broker, error) {
	b, err := s.broker(redisstream.Open(ctx, c, &redisstream.Options{Partitions: 1, Messaging: mainstay.Options{Topology: mainstay.Declare}}))
	if err != nil {
		return nil, err
	}
	s.atEnd(func() {
		ctx := context.Background()
		stream := streamOf(topic)
		_ = c.Del(ctx, "mainstay:{"+topic+"}:topic", "mainstay:{"+topic+"}:members:all").Err()
		_ = c.Del(ctx, stream+":owner:all", stream+":delayed:all", stream+":headers:all").Err()
	})
	return b, b.Declare(ctx, topic)
}

func redisPublishers(ctx context.Context, s *stage, addr string) ([]publisher, error) {
	c := redisClient(s, addr)
	topic, raw, least, wm := unique("topic"), unique("raw"), unique("bare"), unique("watermill")
	b, err := redisBroker(ctx, s, c, topic)
	if err != nil {
		return nil, err
	}
	w, err := watermillRedis(c, wm)
	if err != nil {
		return nil, err
	}
	for _, stream := range []string{streamOf(topic), raw, least, wm} {
		emptied(ctx, s, c, stream)
	}
	return []publisher{rawRedisPublisher(ctx, c, raw, false), rawRedisPublisher(ctx, c, least, true), mainstayPublisher(ctx, b, topic), w}, nil
}

func rawRedisPublisher(ctx context.Context, c *redis.Client, stream string, bare bool) publisher {
	var id atomic.Int64
	return func(messages int) error {
		add := func(c redis.Cmdable) error {
			n := id.Add(1)
			values := []any{"id", strconv.FormatInt(n, 10), "body", body}
			if !bare {
				values = []any{"id", watermill.NewUUID(), "key", keyNames[n%keys], "time", time.Now().UTC().Format(time.RFC3339Nano), "body", body}
			}
			return c.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values}).Err()
		}
		if messages == 1 {
			return add(c)
		}
		pipe := c.Pipeline()
		for range messages {
			_ = add(pipe)
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}

func watermillRedis(c *redis.Client, topic string) (publisher, error) {
	p, err := wmredis.NewPublisher(wmredis.PublisherConfig{Client: c}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	return watermillPublisher(p, topic), nil
}

func redisConsumers(ctx context.Context, s *stage, addr string) ([]consumer, error) {
	var all []consumer
	for _, o := range []*mainstay.ConsumerOptions{nil, {Prefetch: 512}, {}} {
		topic, c := unique("topic"), redisClient(s, addr)
		b, err := redisBroker(ctx, s, c, topic)
		if err != nil {
			return nil, err
		}
		stream := streamOf(topic)
		s.atEnd(func() { _ = c.Del(context.Background(), stream).Err() })
		fill := fillWith(mainstayPublisher(ctx, b, topic))
		if o != nil {
			all = append(all, consumer{run: mainstayConsumer(b, topic, "all", o, nil), fill: fill})
			continue
		}
		if err := c.XGroupCreateMkStream(ctx, stream, "all", "0").Err(); err != nil {
			return nil, err
		}
		all = append(all, consumer{
			run: func(ctx context.Context, g *gate) error { return rawRedisConsume(ctx, c, stream, g) },
			fill: func(n int) error { // all there was is acked
				if err := c.XTrimMaxLen(ctx, stream, 0).Err(); err != nil {
					return err
				}
				return fill(n)
			},
		})
	}
	topic, c := unique("watermill"), redisClient(s, addr)
	p, err := watermillRedis(c, topic)
	if err != nil {
		return nil, err
	}
	sub, err := wmredis.NewSubscriber(wmredis.SubscriberConfig{
		Client: c, ConsumerGroup: "all", Consumer: "one", OldestId: "0", BlockTime: 100 * time.Millisecond,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	s.atEnd(func() { _ = redisClient(s, addr).Del(context.Background(), topic).Err() })
	s.atEnd(func() { _ = sub.Close() })
	return append(all, consumer{run: watermillConsumer(sub, topic, nil), fill: fillBy(p)}), nil
}

func rawRedisConsume(ctx context.Context, c *redis.Client, stream string, g *gate) error {
	ids := make([]string, 0, 256)
	for ctx.Err() == nil {
		got, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: "all", Consumer: "one", Streams: []string{stream, ">"}, Count: 256, Block: 100 * time.Millisecond,
		}).Result()
		if errors.Is(err, redis.Nil) || ctx.Err() != nil {
			continue
		}
		if err != nil {
			return err
		}
		ids = ids[:0]
		for _, m := range got[0].Messages {
			g.enter()
			ids = append(ids, m.ID)
		}
		if err := c.XAck(ctx, stream, "all", ids...).Err(); err != nil {
			return err
		}
		for range ids {
			g.leave()
		}
	}
	return nil
}
