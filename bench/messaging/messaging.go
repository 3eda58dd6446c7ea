// Package messaging holds the contenders of package messaging on real servers:
// the raw client of each broker, which is the least that the work can cost, and
// Watermill.
//
// All contenders of a group send to, or read from, queues and topics of the same
// kind on the same server, and are confirmed at the same durability: Kafka with
// acks=all and an idempotent producer, RabbitMQ with quorum queues, persistent
// messages, confirms and mandatory, Redis as the server is set
// (appendfsync always under scripts/services). Bodies have 1 KiB.
//
// The raw client sends and reads the very same messages as Mainstay: ID, key and
// time beside the body; on RabbitMQ to the exchange and queue that Mainstay
// declares. What is called bare sends a body and an ID and nothing else, on
// RabbitMQ straight to a queue.
package messaging

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mainstay "github.com/mainstay-go/mainstay/messaging"

	"github.com/mainstay-go/mainstay/bench/measure"
)

// Groups returns the comparisons that need no server and those for which getenv
// names one, and says which variables are not set.
func Groups(getenv func(string) string) (groups []measure.Group, missing []string) {
	groups = append(groups, memoryGroup())
	for _, s := range []struct {
		variable string
		groups   func(addr string) []measure.Group
	}{
		{"MAINSTAY_AMQP_URL", rabbitmqGroups},
		{"MAINSTAY_KAFKA_ADDRS", kafkaGroups},
		{"MAINSTAY_REDIS_ADDR", redisGroups},
	} {
		if addr := getenv(s.variable); addr != "" {
			groups = append(groups, s.groups(addr)...)
		} else {
			missing = append(missing, s.variable)
		}
	}
	return groups, missing
}

// Names of contenders.
const (
	ours      = "Mainstay"
	unadorned = ", bare"
	defaults  = "Mainstay, default options"
	theirs    = "Watermill"
)

const (
	batch   = 100  // messages of one call
	callers = 100  // at the same time
	keys    = 64   // that messages have in turn
	backlog = 1000 // messages that are consumed in one operation
)

// A goal says how many times the throughput of another is promised.
func goal(against string, times float64) measure.Goal {
	return measure.Goal{Case: ours, Against: against, AtMost: 1 / times}
}

func must(err error) {
	if err != nil {
		panic(fmt.Errorf("bench: a contender failed: %w", err)) // figures of work that was not done are worth nothing
	}
}

var body = func() []byte {
	b := make([]byte, 1<<10)
	_, _ = rand.Read(b)
	return b
}()

var named atomic.Int64

// unique returns a name that no earlier run has used.
func unique(what string) string {
	return fmt.Sprintf("bench-%s-%d-%d", what, time.Now().UnixNano(), named.Add(1))
}

// publisher publishes one call of so many messages and returns when all are
// durable.
type publisher func(messages int) error

// publishing is a group of publishers. They exist while it is measured; clean
// empties their queues, outside of the time.
type publishing struct {
	name    string
	names   []string // of contenders
	at      int      // messages of a call
	callers int
	goals   []measure.Goal
	open    func(ctx context.Context, s *stage) ([]publisher, error) // in the order of names
}

func (p publishing) group() measure.Group {
	var all []publisher
	var stage *stage
	g := measure.Group{
		Name: p.name, Units: p.at * p.callers, Base: p.names[0], Goals: p.goals, Each: 50 * time.Millisecond,
		Open: func() (func(), error) {
			var ctx context.Context
			ctx, stage = newStage()
			var err error
			all, err = p.open(ctx, stage)
			if err != nil {
				stage.end()
			}
			return stage.end, err
		},
	}
	for i, name := range p.names {
		g.Cases = append(g.Cases, measure.Case{
			Name: name,
			Prepare: func(int) {
				for _, clean := range stage.cleaning {
					must(clean())
				}
			},
			Run: func(n int) {
				if p.callers == 1 {
					for range n {
						must(all[i](p.at))
					}
					return
				}
				var wg sync.WaitGroup
				for range p.callers {
					wg.Go(func() {
						for range n {
							must(all[i](p.at))
						}
					})
				}
				wg.Wait()
			},
		})
	}
	return g
}

// consumer consumes through a gate until its context ends; fill gives it n
// messages more.
type consumer struct {
	run  func(ctx context.Context, g *gate) error
	fill func(n int) error
}

// consuming is a group of consumers.
type consuming struct {
	name  string
	names []string
	each  int // messages of one operation; 0: backlog
	goals []measure.Goal
	open  func(ctx context.Context, s *stage) ([]consumer, error)
}

func (c consuming) group() measure.Group {
	if c.each == 0 {
		c.each = backlog
	}
	all, gates := make([]consumer, 0), make([]*gate, len(c.names))
	g := measure.Group{
		Name: c.name, Units: c.each, Base: c.names[0], Goals: c.goals, Each: 150 * time.Millisecond,
		Open: func() (func(), error) {
			ctx, s := newStage()
			var err error
			if all, err = c.open(ctx, s); err != nil {
				s.end()
				return nil, err
			}
			for i := range all {
				gates[i] = newGate()
				s.wg.Go(func() { must(all[i].run(ctx, gates[i])) })
			}
			return func() {
				for _, g := range gates {
					g.shut.Unlock()
				}
				s.end()
			}, nil
		},
	}
	for i, name := range c.names {
		g.Cases = append(g.Cases, measure.Case{
			Name:    name,
			Prepare: func(n int) { must(all[i].fill(n * c.each)) },
			Run:     func(n int) { gates[i].let(n * c.each) },
		})
	}
	return g
}

// gate lets a consumer's messages pass while it is measured, and counts them.
type gate struct {
	shut sync.RWMutex // held for writing while nothing is measured
	left atomic.Int64
	done chan struct{}
}

func newGate() *gate {
	g := &gate{done: make(chan struct{}, 1)}
	g.shut.Lock()
	return g
}

// enter waits until messages may pass; leave counts one that was handled.
func (g *gate) enter() {
	g.shut.RLock()
	g.shut.RUnlock() //nolint:staticcheck // it is a gate
}

func (g *gate) leave() {
	if g.left.Add(-1) == 0 {
		g.done <- struct{}{}
	}
}

// let waits until n messages, which are all there are, have passed.
func (g *gate) let(n int) {
	g.left.Store(int64(n))
	g.shut.Unlock()
	select {
	case <-g.done:
	case <-time.After(time.Minute):
		must(fmt.Errorf("%d of %d messages were not delivered within a minute", g.left.Load(), n))
	}
	g.shut.Lock()
}

// stage is what exists while a group is measured.
type stage struct {
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	endings  []func()
	cleaning []func() error
}

// newStage returns a stage and the context that ends with it.
func newStage() (context.Context, *stage) {
	ctx, cancel := context.WithCancel(context.Background())
	return ctx, &stage{cancel: cancel}
}

func (s *stage) atEnd(f func()) { s.endings = append(s.endings, f) }

func (s *stage) end() {
	s.cancel()
	s.wg.Wait()
	for _, f := range slices.Backward(s.endings) {
		f()
	}
}

// broker takes what an Open of Mainstay returned.
func (s *stage) broker(b *mainstay.Broker, err error) (*mainstay.Broker, error) {
	if err == nil {
		s.atEnd(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = b.Close(ctx)
		})
	}
	return b, err
}

// mainstayPublisher publishes to topic, keys in turn.
func mainstayPublisher(ctx context.Context, b *mainstay.Broker, topic string) publisher {
	var turn atomic.Int64
	return func(messages int) error {
		msgs := make([]*mainstay.Message, messages)
		for i := range msgs {
			msgs[i] = &mainstay.Message{Topic: topic, Key: keyNames[turn.Add(1)%keys], Body: body}
		}
		return b.Publisher().Publish(ctx, msgs...)
	}
}

var keyNames = func() (k [keys]string) {
	for i := range k {
		k[i] = fmt.Sprintf("customer-%02d", i)
	}
	return k
}()

// fillWith fills by calls of p.
func fillWith(p publisher) func(int) error {
	return func(n int) error {
		for n > 0 {
			m := min(n, 500)
			if err := p(m); err != nil {
				return err
			}
			n -= m
		}
		return nil
	}
}

// fillBy fills by many callers that publish one message each.
func fillBy(p publisher) func(int) error {
	return func(n int) error {
		var wg sync.WaitGroup
		var next atomic.Int64
		errs := make(chan error, callers)
		for range callers {
			wg.Go(func() {
				for next.Add(1) <= int64(n) {
					if err := p(1); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
			return nil
		}
	}
}

// mainstayConsumer handles topic as group.
func mainstayConsumer(b *mainstay.Broker, topic, group string, o *mainstay.ConsumerOptions, h func(*mainstay.Delivery)) func(context.Context, *gate) error {
	return func(ctx context.Context, g *gate) error {
		c, err := b.Consumer(group, o, mainstay.On(topic, func(_ context.Context, d *mainstay.Delivery) error {
			g.enter()
			if h != nil {
				h(d)
			}
			g.leave()
			return nil
		}))
		if err != nil {
			return err
		}
		return c.Run(ctx)
	}
}
