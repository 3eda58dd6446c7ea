package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

func notesOutlive(ctx context.Context, s *scene) error {
	msgs, err := s.publish(ctx, 4, 1)
	if err != nil {
		return err
	}
	begin := time.Now()
	due := begin.Add(time.Hour)
	for attempts := 1; attempts <= 2; attempts++ {
		r, err := s.join(ctx, s.group)
		if err != nil {
			return err
		}
		n, ok := r.(driver.Noter)
		if !ok {
			return errors.New("Capabilities.Notes is set, and a receiver is no driver.Noter")
		}
		ds, err := collect(ctx, r, 4)
		if err != nil {
			return err
		}
		for i, d := range ds {
			if d.ID != msgs[i].ID {
				return fmt.Errorf("they came as %s, want the order of publishing", names(ds))
			}
			if err := noted(d.Note, i == 1 && attempts == 2, begin, due); err != nil {
				return fmt.Errorf("receiver %d, message %q: %w", attempts, d.ID, err)
			}
		}
		// The last note is the one that counts.
		for _, tries := range []int{40, attempts} {
			if err := n.Note(ctx, []driver.Noted{{Delivery: ds[1], Note: driver.Note{
				Attempts: tries, FirstSeen: begin, NotBefore: due, LastError: "not yet",
			}}}); err != nil {
				return fmt.Errorf("note: %w", err)
			}
		}
		if err := r.Close(ctx); err != nil {
			return err
		}
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 4)
	if err != nil {
		return err
	}
	if ds[1].Note == nil || ds[1].Note.Attempts != 2 {
		return fmt.Errorf("the second receiver noted 2 attempts, the third got %+v", ds[1].Note)
	}
	if err := settle(ctx, r, driver.Ack, ds...); err != nil {
		return err
	}
	if err := r.(driver.Noter).Note(ctx, []driver.Noted{{Delivery: ds[1], Note: *ds[1].Note}}); err != nil {
		return fmt.Errorf("a note about a settled delivery: %w", err)
	}
	return s.silence(ctx, r)
}

func noted(n *driver.Note, want bool, begin, due time.Time) error {
	if n == nil || !want {
		if n != nil || want {
			return fmt.Errorf("its note is %+v; one was expected: %v", n, want)
		}
		return nil
	}
	if n.Attempts != 1 || n.LastError != "not yet" || n.NotBefore.Before(due) || n.NotBefore.Sub(due) > time.Second ||
		begin.Sub(n.FirstSeen).Abs() > time.Second {
		return fmt.Errorf("its note is %+v, want 1 attempt, first seen %v, not before %v, \"not yet\"", *n, begin, due)
	}
	return nil
}

// witness sees when the broker knows about a retry.
type witness struct {
	driver.Broker
	known chan string // IDs
}

// Subscribe implements driver.Broker.
func (w *witness) Subscribe(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := w.Broker.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	return &witnessReceiver{r, w.known}, nil
}

// Declare implements driver.Declarer.
func (w *witness) Declare(ctx context.Context, s driver.Subscription) error {
	if d, ok := w.Broker.(driver.Declarer); ok {
		return d.Declare(ctx, s)
	}
	return nil
}

// Verify implements driver.Declarer.
func (w *witness) Verify(ctx context.Context, s driver.Subscription) error {
	if d, ok := w.Broker.(driver.Declarer); ok {
		return d.Verify(ctx, s)
	}
	return nil
}

type witnessReceiver struct {
	driver.Receiver
	known chan string
}

// Settle implements driver.Receiver.
func (r *witnessReceiver) Settle(ctx context.Context, s []driver.Settlement) error {
	err := r.Receiver.Settle(ctx, s)
	for i := range s {
		if s[i].Action == driver.Retry && err == nil {
			r.known <- s[i].Delivery.ID
		}
	}
	return err
}

// Note implements driver.Noter.
func (r *witnessReceiver) Note(ctx context.Context, notes []driver.Noted) error {
	err := r.Receiver.(driver.Noter).Note(ctx, notes)
	for i := range notes {
		if err == nil {
			r.known <- notes[i].Delivery.ID
		}
	}
	return err
}

func unorderedRetriesOutlive(ctx context.Context, s *scene) error {
	s.unordered = true
	return retriesOutlive(ctx, s)
}

// retriesOutlive has three consumers, one after the other, each of which fails
// the first message. The first one dies, if the harness can cut its
// connection, without a word; the second one leaves.
func retriesOutlive(ctx context.Context, s *scene) error {
	w := &witness{s.Driver, make(chan string, 100)}
	front := messaging.NewBroker(w, &messaging.Options{Topology: messaging.Declare})
	order, first, then := messaging.ByKey, time.Second, time.Second
	if s.unordered {
		order = messaging.Unordered
	}
	if s.Driver.Capabilities().Durable {
		first = 15 * time.Second // others must have noticed the death by then
	}
	type run struct {
		id, last string
		attempt  int
		at       time.Time
	}
	runs := make(chan run, 100)
	failing := s.topic + "-000000"
	member := func() (*messaging.Consumer, error) {
		return front.Consumer(s.group, &messaging.ConsumerOptions{
			Order: order, Drain: time.Second,
			Retry: messaging.RetryPolicy{MaxAttempts: 3, Delays: []time.Duration{first, then}},
		}, messaging.On(s.topic, func(_ context.Context, d *messaging.Delivery) error {
			runs <- run{d.ID, d.LastError, d.Attempt, time.Now()}
			if d.ID == failing {
				return fmt.Errorf("attempt %d fails", d.Attempt)
			}
			return nil
		}))
	}
	dead := make(chan *messaging.Delivery, 10)
	clerk, err := front.Consumer(s.group+"-clerk", &messaging.ConsumerOptions{Order: order},
		messaging.On(s.topic+".dead", func(_ context.Context, d *messaging.Delivery) error {
			dead <- d
			return nil
		}))
	if err != nil {
		return err
	}
	all := newCrowd()
	var stops []func()
	join := func() (leave func(), err error) {
		c, err := member()
		if err != nil {
			return nil, err
		}
		if err := c.Declare(ctx); err != nil {
			return nil, err
		}
		leave = all.join(ctx, c)
		stops = append(stops, leave)
		return leave, nil
	}
	// next waits for a run of the failing message, and says what ran before it.
	next := func() (run, []run, error) {
		var before []run
		for {
			select {
			case x := <-runs:
				if x.id == failing {
					return x, before, nil
				}
				before = append(before, x)
			case err := <-all.failed:
				return run{}, before, err
			case <-ctx.Done():
				return run{}, before, fmt.Errorf("it did not come; others did: %v", before)
			}
		}
	}
	known := func() error {
		for {
			select {
			case id := <-w.known:
				if id == failing {
					return nil
				}
			case <-ctx.Done():
				return errors.New("nobody told the broker about the retry")
			}
		}
	}
	check := func() error {
		leave, err := join()
		if err != nil {
			return err
		}
		if err := s.send(ctx, []driver.Message{s.message(0, 2), s.message(1, 2), s.message(2, 2), s.message(4, 2)}); err != nil {
			return err
		}
		begin, early, err := next()
		if err != nil {
			return fmt.Errorf("the first run: %w", err)
		}
		if err := known(); err != nil {
			return err
		}
		if s.Cut != nil {
			time.Sleep(s.quiet) // not every broker confirms acks: what was acked just now may come again
			dying := make(chan struct{})
			go func() {
				defer close(dying)
				s.Cut(4 * time.Second)
			}()
			time.Sleep(50 * time.Millisecond) // let the cut begin: nothing that is said now arrives
			leave()
			<-dying
		} else {
			leave()
		}
		if leave, err = join(); err != nil {
			return err
		}
		second, before, err := next()
		if err != nil {
			return fmt.Errorf("the second run, by another consumer: %w", err)
		}
		if waited := second.at.Sub(begin.at); waited < first-time.Millisecond {
			return fmt.Errorf("the second run came after %v, the delay is %v", waited, first)
		}
		if second.attempt != 2 || second.last != "attempt 1 fails" {
			return fmt.Errorf("the second run has attempt %d and last error %q, want 2 and that of the first", second.attempt, second.last)
		}
		for _, x := range append(early, before...) {
			if order == messaging.ByKey && x.id != s.topic+"-000001" {
				return fmt.Errorf("message %q of its key overtook while it waited", x.id)
			}
		}
		if err := known(); err != nil {
			return err
		}
		leave()
		if _, err = join(); err != nil {
			return err
		}
		third, _, err := next()
		if err != nil {
			return fmt.Errorf("the third run: %w", err)
		}
		if third.attempt != 3 || third.last != "attempt 2 fails" || third.at.Sub(second.at) < then-time.Millisecond {
			return fmt.Errorf("the third run has attempt %d after %v and last error %q", third.attempt, third.at.Sub(second.at), third.last)
		}
		select {
		case d := <-dead:
			if d.ID != failing || d.LastError != "attempt 3 fails" {
				return fmt.Errorf("the dead letter is %q with error %q", d.ID, d.LastError)
			}
		case <-ctx.Done():
			return errors.New("after the last attempt no dead letter came")
		}
		return nil
	}
	if err := clerk.Declare(ctx); err != nil {
		return err
	}
	stops = append(stops, all.join(ctx, clerk))
	return errors.Join(check(), all.leave(stops...))
}
