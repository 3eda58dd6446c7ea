package messaging

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	mainstay "github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"

	"github.com/mainstay-go/mainstay/bench/measure"
)

// alone is the driver in memory without the front.
const alone = "driver alone"

// room is what the broker holds, of both: what is settled stays until it is
// full, and the publisher may be ahead.
var room = &memory.Options{MaxBytes: 256 << 20}

// memoryGroup is what the front costs: checks, IDs, order by key, contexts with
// deadlines, telemetry without an SDK, settling.
func memoryGroup() measure.Group {
	var (
		cases  = []string{alone, ours, theirs}
		runs   []func(int)
		finish func()
	)
	g := measure.Group{
		Name: "messaging: in memory, publish calls of 100 and handle", Units: batch, Base: alone, Each: 50 * time.Millisecond,
		Goals: []measure.Goal{{Case: ours, Against: alone, BeyondNs: 1500, BeyondAllocs: 5}},
		Open: func() (func(), error) {
			ctx, s := newStage()
			finish = s.end
			runs = runs[:0]
			for _, open := range []func(context.Context, *stage) (func(int), error){driverAlone, frontInMemory, watermillInMemory} {
				run, err := open(ctx, s)
				if err != nil {
					s.end()
					return nil, err
				}
				runs = append(runs, run)
			}
			return finish, nil
		},
	}
	for i, name := range cases {
		g.Cases = append(g.Cases, measure.Case{Name: name, Run: func(n int) { runs[i](n) }})
	}
	return g
}

func driverAlone(ctx context.Context, s *stage) (func(int), error) {
	b := memory.New(room).Driver()
	s.atEnd(func() { _ = b.Close(context.Background()) })
	sub := driver.Subscription{Topics: []string{"t"}, Group: "all", Prefetch: 512}
	if err := b.(driver.Declarer).Declare(ctx, sub); err != nil {
		return nil, err
	}
	r, err := b.Subscribe(ctx, sub)
	if err != nil {
		return nil, err
	}
	id, now, turn := watermill.NewUUID(), time.Now(), 0
	var out []driver.Settlement
	return func(n int) {
		for range n {
			msgs := make([]driver.Message, batch)
			for i := range msgs {
				turn++
				msgs[i] = driver.Message{ID: id, Topic: "t", Key: keyNames[turn%keys], Body: body, Time: now}
			}
			for _, err := range b.Publish(ctx, msgs) {
				must(err)
			}
			for left := batch; left > 0; {
				ds, err := r.Receive(ctx, left)
				must(err)
				left -= len(ds)
				out = out[:0]
				for i := range ds {
					out = append(out, driver.Settlement{Delivery: ds[i], Action: driver.Ack})
				}
				must(r.Settle(ctx, out))
			}
		}
	}, nil
}

// through has run's publisher and consumer work at the same time.
func through(p publisher, g *gate) func(int) {
	g.shut.Unlock() // it only counts
	return func(n int) {
		g.left.Store(int64(n * batch))
		for range n {
			must(p(batch))
		}
		<-g.done
	}
}

func frontInMemory(ctx context.Context, s *stage) (func(int), error) {
	b, err := s.broker(memory.New(room), nil)
	if err != nil {
		return nil, err
	}
	g := newGate()
	c, err := b.Consumer("all", &mainstay.ConsumerOptions{Prefetch: 512}, mainstay.On("t", func(context.Context, *mainstay.Delivery) error {
		g.leave()
		return nil
	}))
	if err != nil {
		return nil, err
	}
	if err := c.Declare(ctx); err != nil {
		return nil, err
	}
	s.wg.Go(func() { must(c.Run(ctx)) })
	turn := 0
	return through(func(messages int) error {
		msgs, all := make([]mainstay.Message, messages), make([]*mainstay.Message, messages)
		for i := range msgs {
			turn++
			msgs[i] = mainstay.Message{Topic: "t", Key: keyNames[turn%keys], Body: body}
			all[i] = &msgs[i]
		}
		return b.Publisher().Publish(ctx, all...)
	}, g), nil
}

func watermillInMemory(ctx context.Context, s *stage) (func(int), error) {
	c := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 512}, watermill.NopLogger{})
	s.atEnd(func() { _ = c.Close() })
	g := newGate()
	in, err := c.Subscribe(ctx, "t")
	if err != nil {
		return nil, err
	}
	s.wg.Go(func() {
		for m := range in {
			m.Ack()
			g.leave()
		}
	})
	return through(watermillPublisher(c, "t"), g), nil
}
