package messagingtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
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
// own, as another process has them. When everything has been handled, all
// consumers leave, another one joins and gets a last message of every key, so
// that what comes again late is seen too. Nothing may be lost, inverted,
// overlapping or rekeyed at the end, and nothing handled again that was settled:
//
//   - A message is settled once, and once more for each publishing of it whose
//     outcome was unknown, since that was tried again. Settled means that Settle
//     has taken its Ack and the broker has it for certain: see
//     Harness.Unconfirmed and Harness.ByPosition.
//   - It is handled as often as that, and once more for each delivery of it that
//     was not settled.
//
// The counts are logged. Without Harness.Restart, Cut or Stall, the faults that
// need it are left out, visibly.
//
// A stalled consumer cannot know that others have its messages before it hears
// so or its lease ends. Brokers that give it no lease overlap then; leave out
// Stalls for them.
func TestFaults(t *testing.T, open func(*testing.T) Harness, f Faults) {
	besiege(t, func() Harness { return open(t) }, f)
}

func besiege(t testing.TB, open func() Harness, f Faults) {
	if f.Pause == 0 {
		f.Pause = 6 * time.Second
	}
	s := &siege{TB: t, open: open, ledger: NewLedger(), topic: newScene(open()).topic, begin: time.Now(), unknown: make(map[string]int)}
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
		begin := time.Now()
		if err := restart(t.Context()); err != nil {
			t.Errorf("restarting the broker: %v", err)
		}
		for _, c := range s.clients {
			c.counted.broke(begin, time.Now())
		}
	})
	add(f.Cuts, "cut", func() { residents[rand.IntN(len(residents))].cut(time.Duration(rand.IntN(1000)) * time.Millisecond) })
	add(f.Kills, "consumer killed", func() {
		ctx, leave := context.WithCancel(consuming)
		c := s.consume(ctx)
		rest()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			c.cut(f.Pause)
		}()
		leave() // what it has to say does not arrive
		<-gone
	})
	add(f.Stalls, "consumer stalled", func() {
		ctx, leave := context.WithCancel(consuming)
		c := s.consume(ctx)
		rest()
		c.counted.during(func() { c.Stall(f.Pause) })
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
	s.afterwards(publisher.broker)
	s.close(publisher)
	s.judge(f)
}
