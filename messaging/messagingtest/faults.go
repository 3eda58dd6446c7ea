package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// Faults says how often TestFaults does what to a broker and its clients.
type Faults struct {
	// Restarts is the number of times the broker is killed and started again,
	// with Harness.Restart.
	Restarts int
	// Cuts is the number of times the connections of the publisher or of a
	// consumer break, for up to a second, with Harness.Cut.
	Cuts int
	// Kills is the number of consumers that join and then die without a word.
	Kills int
	// Stalls is the number of consumers whose connections carry nothing for so
	// long that the broker takes them for dead, with Harness.Stall: they come
	// back when others have their partitions.
	Stalls int
	// Pause is how long a stalled consumer hears nothing: more than the broker's
	// lease or session. Default: 6 s.
	Pause time.Duration
}

// TestFaults publishes and consumes, in order of keys, while faults happen one
// after the other in random order, and counts with a Ledger. Some handlers are
// slow and some fail. Each call of open makes a client with connections of its
// own, as another process has them. Nothing may be lost, inverted,
// overlapping or rekeyed at the end, and no message handled twice that was settled: there
// may be as many duplicates as deliveries that were not, or came after such a
// one in their partition, and as publishings whose outcome was unknown, which are
// tried again. The counts are logged. Without Harness.Restart, Cut
// or Stall, the faults that need it are left out, visibly.
//
// A stalled consumer cannot know that others have its messages before it hears
// so or its lease ends. Brokers that give it no lease overlap then; leave out
// Stalls for them.
func TestFaults(t *testing.T, open func(*testing.T) Harness, f Faults) {
	if f.Pause == 0 {
		f.Pause = 6 * time.Second
	}
	s := &siege{T: t, open: open, ledger: NewLedger(), topic: newScene(open(t)).topic, begin: time.Now()}
	publisher := s.join()
	restart := publisher.Restart
	if restart == nil && f.Restarts > 0 {
		t.Log("the broker is not killed: Harness.Restart is nil")
		f.Restarts = 0
	}
	if publisher.Cut == nil && f.Cuts+f.Kills > 0 {
		t.Log("no connection is cut and no consumer killed: Harness.Cut is nil")
		f.Cuts, f.Kills = 0, 0
	}
	if publisher.Stall == nil && f.Stalls > 0 {
		t.Log("no consumer is stalled: Harness.Stall is nil")
		f.Stalls = 0
	}
	consuming, stop := context.WithCancel(t.Context())
	defer stop()
	residents := []*client{publisher, s.consume(consuming), s.consume(consuming)}
	writing, enough := context.WithCancel(t.Context())
	defer enough()
	writers := s.write(writing, publisher.broker)

	var faults []func()
	add := func(n int, name string, fault func()) {
		for range n {
			faults = append(faults, func() {
				from := time.Since(s.begin).Round(time.Millisecond)
				fault()
				s.events = append(s.events, fmt.Sprintf("%s from %v to %v", name, from, time.Since(s.begin).Round(time.Millisecond)))
			})
		}
	}
	add(f.Restarts, "broker killed", func() {
		if err := restart(t.Context()); err != nil {
			t.Errorf("restarting the broker: %v", err)
		}
	})
	add(f.Cuts, "cut", func() { residents[rand.IntN(len(residents))].Cut(time.Duration(rand.IntN(1000)) * time.Millisecond) })
	add(f.Kills, "consumer killed", func() {
		ctx, leave := context.WithCancel(consuming)
		c := s.consume(ctx)
		rest()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			c.Cut(f.Pause)
		}()
		leave() // what it has to say does not arrive
		<-gone
	})
	add(f.Stalls, "consumer stalled", func() {
		ctx, leave := context.WithCancel(consuming)
		c := s.consume(ctx)
		rest()
		c.Stall(f.Pause)
		rest()
		leave()
	})
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	rest()
	for _, fault := range faults {
		fault()
		rest()
	}
	enough()
	writers.Wait()
	s.drain()
	stop()
	s.members.Wait()
	s.close(publisher)
	s.judge(f)
}

// siege is one run of TestFaults.
type siege struct {
	*testing.T
	open   func(*testing.T) Harness
	ledger *Ledger
	topic  string
	begin  time.Time
	events []string // what was done, and when

	members sync.WaitGroup
	clients []*client
	unknown atomic.Int64 // publishings that may have put a message there once too often
}

type client struct {
	Harness
	broker  *messaging.Broker
	counted *counted
}

func (s *siege) join() *client {
	h := s.open(s.T)
	c := &client{Harness: h, counted: count(h.Driver)}
	c.broker = messaging.NewBroker(c.counted, &messaging.Options{Topology: messaging.Declare})
	s.clients = append(s.clients, c)
	return c
}

func (s *siege) close(c *client) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.broker.Close(ctx) // its connections may be cut, its broker away
}

// consume starts a consumer that ends with ctx.
func (s *siege) consume(ctx context.Context) *client {
	c := s.join()
	consumer, err := c.broker.Consumer(s.topic+"-group", &messaging.ConsumerOptions{
		Drain: 2 * time.Second,
		Retry: messaging.RetryPolicy{MaxAttempts: -1, Delays: []time.Duration{50 * time.Millisecond, time.Second}},
	}, messaging.On(s.topic, handle).With(s.ledger.Middleware))
	// Before anything is published, since not every broker keeps what no group
	// waits for; and the broker may be on its way back.
	for end := time.Now().Add(time.Minute); err == nil; time.Sleep(200 * time.Millisecond) {
		declared := consumer.Declare(ctx)
		if declared == nil {
			break
		}
		if time.Now().After(end) {
			err = declared
		}
	}
	if err != nil {
		s.Fatal(err)
	}
	s.members.Go(func() {
		defer s.close(c)
		for ctx.Err() == nil { // who starts during an outage is told so
			if err := consumer.Run(ctx); err != nil {
				s.Logf("a consumer ended: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return c
}

func handle(ctx context.Context, d *messaging.Delivery) error {
	work := time.Duration(rand.IntN(3)) * time.Millisecond // long enough to overlap, if two had one key
	if rand.IntN(200) == 0 {
		work = 100 * time.Millisecond
	}
	select {
	case <-time.After(work):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if d.Attempt == 1 && rand.IntN(50) == 0 {
		return errOneInFifty
	}
	return nil
}

var errOneInFifty = errors.New("one in fifty fails")

// write publishes from several goroutines, each with keys of its own, and
// tries again what was not confirmed.
func (s *siege) write(ctx context.Context, b *messaging.Broker) *sync.WaitGroup {
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				m := &messaging.Message{ID: fmt.Sprintf("%d-%d", w, n), Topic: s.topic, Key: fmt.Sprintf("%d-%d", w, n%5), Body: []byte("x")}
				for s.Context().Err() == nil {
					once, cancel := context.WithTimeout(s.Context(), 5*time.Second)
					err := s.ledger.Publish(once, b.Publisher(), m)
					cancel()
					if err == nil {
						break
					}
					if errors.Is(err, messaging.ErrUnknown) {
						s.unknown.Add(1)
					}
				}
				time.Sleep(2 * time.Millisecond) // pace, so that consumers keep up
			}
		})
	}
	return &writers
}

// drain waits until nothing is missing, for as long as there is progress.
func (s *siege) drain() {
	missing, since := s.ledger.Counts().Lost, time.Now()
	for missing > 0 {
		time.Sleep(100 * time.Millisecond)
		switch now := s.ledger.Counts().Lost; {
		case now < missing:
			missing, since = now, time.Now()
		case time.Since(since) > 90*time.Second:
			s.stuck()
			return
		}
	}
}

func rest() { time.Sleep(time.Duration(500+rand.IntN(1500)) * time.Millisecond) }

// stuck shows where everybody stands while messages are missing.
func (s *siege) stuck() {
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		s.Log(err)
	}
	s.Logf("%s: who stands where:\n%s", s.ledger, &stacks)
}

func (s *siege) judge(f Faults) {
	got, open := s.ledger.Counts(), 0
	for _, c := range s.clients {
		open += c.counted.unsettled()
	}
	twice := int(s.unknown.Load())
	s.Logf("%d kills of the broker, %d cuts, %d consumers killed, %d stalled: %s; %d deliveries not settled, %d publishings tried again that were unknown",
		f.Restarts, f.Cuts, f.Kills, f.Stalls, s.ledger, open, twice)
	if got.Published == 0 {
		s.Error("nothing was published")
	}
	if got.Lost+got.Inverted+got.Overlapping+got.Rekeyed > 0 {
		s.Errorf("broken: %s", s.ledger)
	}
	if got.Duplicate > open+twice {
		s.Errorf("%d messages were handled again, and only %d deliveries were not settled, %d messages published twice: %s", got.Duplicate, open, twice, s.ledger)
	}
	if s.Failed() {
		s.history()
	}
}

// history shows the deliveries of what was handled twice, beside what happened
// meanwhile.
func (s *siege) history() {
	lines := s.events
	for _, id := range s.ledger.twice() {
		lines = append(lines, "message "+id)
		for i, c := range s.clients {
			for _, h := range c.counted.handings(id, s.begin) {
				lines = append(lines, fmt.Sprintf("  client %d: %s", i, h))
			}
		}
	}
	s.Log("what happened:\n" + strings.Join(lines, "\n"))
}
