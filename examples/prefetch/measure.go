package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/rabbitmq"
)

// queue is a topic of its own on the server, with one unordered group, whose prefetch is the
// server's: what it hands out before anything is settled.
type queue struct {
	url    string
	broker *messaging.Broker
	topic  string
	left   int // published and not handled
}

const group = "measured"

func openQueue(ctx context.Context, url string) (*queue, error) {
	opening, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := rabbitmq.Open(opening, url, &rabbitmq.Options{Messaging: messaging.Options{Topology: messaging.Declare}})
	if err != nil {
		return nil, err
	}
	q := &queue{url: url, broker: b, topic: fmt.Sprintf("prefetch-%d", time.Now().UnixNano())}
	c, err := q.consumer(1, 1, func(context.Context, *messaging.Delivery) error { return nil })
	if err == nil {
		err = c.Declare(opening) // before publishing: a queue gets what comes after it
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *queue) consumer(concurrency, prefetch int, h messaging.Handler) (*messaging.Consumer, error) {
	return q.broker.Consumer(group, &messaging.ConsumerOptions{
		Order: messaging.Unordered, Concurrency: concurrency, Prefetch: prefetch, Retry: messaging.RetryPolicy{MaxAttempts: 1},
	}, messaging.On(q.topic, h))
}

// fill publishes until there are n.
func (q *queue) fill(ctx context.Context, n int) error {
	const batch = 500
	for q.left < n {
		msgs := make([]*messaging.Message, batch)
		for i := range msgs {
			msgs[i] = &messaging.Message{Topic: q.topic, Body: make([]byte, 256)}
		}
		if err := q.broker.Publisher().Publish(ctx, msgs...); err != nil {
			return err
		}
		q.left += batch
	}
	return nil
}

// close deletes what was made on the server.
func (q *queue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := q.broker.Close(ctx)
	c, dialErr := amqp.Dial(q.url)
	if dialErr != nil {
		return errors.Join(err, dialErr)
	}
	defer func() { _ = c.Close() }()
	ch, chErr := c.Channel()
	if chErr != nil {
		return errors.Join(err, chErr)
	}
	for _, name := range []string{q.topic + "/" + group, q.topic + ".dead.unclaimed"} {
		_, failed := ch.QueueDelete(name, false, false, false)
		err = errors.Join(err, failed)
	}
	for _, name := range []string{q.topic, q.topic + ".unclaimed", q.topic + ".dead", q.topic + ".dead.unclaimed", q.topic + "/" + group + "/dead"} {
		err = errors.Join(err, ch.ExchangeDelete(name, false, false))
	}
	return err
}

// dependency takes so long for one and serves so many at a time; others queue.
func dependency(capacity int, answer time.Duration) messaging.Handler {
	serves := concurrency.NewSemaphore(int64(capacity), concurrency.FIFO)
	return func(ctx context.Context, _ *messaging.Delivery) error {
		_, err := concurrency.Do(ctx, serves, func(ctx context.Context) (struct{}, error) {
			t := time.NewTimer(answer)
			defer t.Stop()
			select {
			case <-t.C:
				return struct{}{}, nil
			case <-ctx.Done():
				return struct{}{}, context.Cause(ctx)
			}
		})
		return err
	}
}

// measured is one run of a consumer over a backlog.
type measured struct {
	handled   int
	perSecond float64
	p50, p99  time.Duration
}

// fastest is how many messages a second one consumer may handle at most: so many must be there.
const fastest = 20_000

// measure consumes for a while. A quarter of it more is not counted: what a consumer holds has
// to settle first.
func measure(ctx context.Context, q *queue, c config, concurrency, prefetch int, work messaging.Handler) (measured, error) {
	rate := min(fastest, float64(c.capacity)/max(c.answer.Seconds(), 1e-9))
	each, early := c.each, c.each/4
	if err := q.fill(ctx, int((each+early).Seconds()*rate)+2*prefetch); err != nil {
		return measured{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var (
		mu    sync.Mutex
		begin time.Time
		stays []time.Duration
		timer *time.Timer
	)
	consumer, err := q.consumer(concurrency, prefetch, func(ctx context.Context, d *messaging.Delivery) error {
		mu.Lock()
		if begin.IsZero() {
			begin = time.Now()
			timer = time.AfterFunc(early+each, stop)
		}
		mu.Unlock()
		if err := work(ctx, d); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		q.left--
		if now := time.Now(); now.Sub(begin) > early && now.Sub(begin) <= early+each {
			stays = append(stays, now.Sub(d.FirstSeen))
		}
		return nil
	})
	if err != nil {
		return measured{}, err
	}
	if err := consumer.Run(running); err != nil {
		return measured{}, err
	}
	if timer != nil {
		timer.Stop()
	}
	if err := ctx.Err(); err != nil {
		return measured{}, err
	}
	if len(stays) == 0 {
		return measured{}, fmt.Errorf("nothing was handled in %v: give -each more than -answer", each)
	}
	slices.Sort(stays)
	at := func(q float64) time.Duration { return stays[int(math.Ceil(q*float64(len(stays))))-1] }
	return measured{handled: len(stays), perSecond: float64(len(stays)) / each.Seconds(), p50: at(.5), p99: at(.99)}, nil
}
