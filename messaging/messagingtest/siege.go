package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// siege is one run of TestFaults.
type siege struct {
	testing.TB
	open   func() Harness
	ledger *Ledger
	topic  string
	begin  time.Time
	events []string // what was done, and when

	members sync.WaitGroup
	clients []*client

	mu      sync.Mutex
	unknown map[string]int // publishings that may have put a message there once too often, by ID
}

type client struct {
	Harness
	broker  *messaging.Broker
	counted *counted
}

func (c *client) cut(d time.Duration) { c.counted.during(func() { c.Cut(d) }) }

func (s *siege) join() *client {
	h := s.open()
	c := &client{Harness: h, counted: count(&h)}
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
	work := time.Duration(1+rand.IntN(3)) * time.Millisecond // long enough to overlap, if two had one key
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

const writers, keys = 4, 5 // keys of each writer

// write publishes from several goroutines, each with keys of its own.
func (s *siege) write(ctx context.Context, b *messaging.Broker) *sync.WaitGroup {
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				s.publish(b, fmt.Sprintf("%d-%d", w, n), fmt.Sprintf("%d-%d", w, n%keys))
				time.Sleep(2 * time.Millisecond) // pace, so that consumers keep up
			}
		})
	}
	return &all
}

// publish tries again what was not confirmed.
func (s *siege) publish(b *messaging.Broker, id, key string) {
	m := &messaging.Message{ID: id, Topic: s.topic, Key: key, Body: []byte("x")}
	for s.Context().Err() == nil {
		once, cancel := context.WithTimeout(s.Context(), 5*time.Second)
		err := s.ledger.Publish(once, b.Publisher(), m)
		cancel()
		if err == nil {
			return
		}
		if errors.Is(err, messaging.ErrUnknown) {
			s.mu.Lock()
			s.unknown[id]++
			s.mu.Unlock()
		}
	}
}

// afterwards has a consumer that is alone get everything that somebody should
// have settled and has not: it comes before the last message of its key, or soon.
func (s *siege) afterwards(b *messaging.Broker) {
	ctx, leave := context.WithCancel(s.Context())
	defer s.members.Wait()
	defer leave()
	s.consume(ctx)
	for w := range writers {
		for n := range keys {
			s.publish(b, fmt.Sprintf("%d-last-%d", w, n), fmt.Sprintf("%d-%d", w, n))
		}
	}
	s.drain()
}

const lull = 1500 * time.Millisecond // longer than a retry waits

// drain waits until nothing is missing and nothing comes any more, for as long
// as there is progress.
func (s *siege) drain() {
	missing, since := s.ledger.lost(), time.Now()
	for missing > 0 {
		time.Sleep(100 * time.Millisecond)
		switch now := s.ledger.lost(); {
		case now < missing:
			missing, since = now, time.Now()
		case time.Since(since) > patience*3/2:
			s.stuck()
			return
		}
	}
	begin, last := time.Now(), s.ledger.delivered()
	for since = begin; time.Since(since) < lull; {
		time.Sleep(100 * time.Millisecond)
		if now := s.ledger.delivered(); now > last {
			last, since = now, time.Now()
		}
		if time.Since(begin) > patience*3/2 {
			s.Errorf("all messages were handled %v ago, and deliveries go on: %s", time.Since(begin), s.ledger)
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
	got, all, unknown := s.ledger.Counts(), s.tallies(), 0
	for _, n := range s.unknown {
		unknown += n
	}
	open := 0
	for _, t := range all {
		open += t.open
	}
	s.Logf("%d kills of the broker, %d cuts, %d consumers killed, %d stalled: %s; %d deliveries not settled for certain, %d publishings tried again that were unknown",
		f.Restarts, f.Cuts, f.Kills, f.Stalls, s.ledger, open, unknown)
	if got.Published == 0 {
		s.Error("nothing was published")
	}
	if got.Lost+got.Inverted+got.Overlapping+got.Rekeyed > 0 {
		s.Errorf("broken: %s", s.ledger)
	}
	wrong := settledAgain(all, s.ledger.successes(), s.unknown)
	if len(wrong) > 0 {
		s.Errorf("%d messages were handled again after they had been settled", len(wrong))
	}
	if s.Failed() {
		if len(wrong) == 0 {
			wrong = s.ledger.twice()
		}
		s.history(wrong)
	}
}

func (s *siege) tallies() map[string]tally {
	all := make(map[string]tally)
	for _, c := range s.clients {
		c.counted.tally(all)
	}
	return all
}

// history shows the deliveries of these messages, beside what happened
// meanwhile.
func (s *siege) history(ids []string) {
	lines := s.events
	for _, id := range ids[:min(len(ids), 50)] {
		lines = append(lines, fmt.Sprintf("message %s, published %d times without an answer", id, s.unknown[id]))
		for i, c := range s.clients {
			for _, h := range c.counted.handings(id, s.begin) {
				lines = append(lines, fmt.Sprintf("  client %d: %s", i, h))
			}
		}
	}
	s.Log("what happened:\n" + strings.Join(lines, "\n"))
}
