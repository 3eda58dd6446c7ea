package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// crowd runs consumers until it is left.
type crowd struct {
	wg     sync.WaitGroup
	failed chan error
}

func newCrowd() *crowd { return &crowd{failed: make(chan error, 10)} }

func (c *crowd) join(ctx context.Context, m *messaging.Consumer) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			c.failed <- err
		}
	})
	return cancel
}

func (c *crowd) leave(stops ...func()) error {
	for _, stop := range stops {
		stop()
	}
	c.wg.Wait()
	select {
	case err := <-c.failed:
		return err
	default:
		return nil
	}
}

func (s *scene) order() messaging.Order {
	if s.Driver.Capabilities().KeyOrder {
		return messaging.ByKey
	}
	return messaging.Unordered
}

func consumersKeep(ctx context.Context, s *scene) error {
	const total, keys = 300, 7
	books, ledger := count(&s.Harness), NewLedger()
	front := messaging.NewBroker(books, &messaging.Options{Topology: messaging.Declare})
	route := messaging.On(s.topic, func(ctx context.Context, d *messaging.Delivery) error {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if d.Attempt == 1 && strings.HasSuffix(d.ID, "7") {
			return errors.New("the first attempt of one in ten fails")
		}
		return nil
	}).With(ledger.Middleware)
	member := func() (*messaging.Consumer, error) {
		return front.Consumer(s.group, &messaging.ConsumerOptions{
			Order: s.order(), Drain: 5 * time.Second,
			Retry: messaging.RetryPolicy{MaxAttempts: -1, Delays: []time.Duration{s.delay}},
		}, route)
	}
	first, err := member()
	if err != nil {
		return err
	}
	second, err := member()
	if err != nil {
		return err
	}
	if err := first.Declare(ctx); err != nil {
		return err
	}
	all := newCrowd()
	leaveFirst := all.join(ctx, first)
	leaveSecond := func() {}
	for n := range total {
		m := messaging.Message(s.message(n, keys))
		if err := ledger.Publish(ctx, front.Publisher(), &m); err != nil {
			return errors.Join(err, all.leave(leaveFirst, leaveSecond))
		}
		switch n {
		case total / 3:
			leaveSecond = all.join(ctx, second)
		case 2 * total / 3:
			leaveFirst()
		}
		time.Sleep(2 * time.Millisecond) // pace, so that who comes and goes has something to do
	}
	for ledger.lost() > 0 && ctx.Err() == nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err := all.leave(leaveFirst, leaveSecond); err != nil {
		return err
	}
	return s.unbroken(ledger, books)
}

func (s *scene) unbroken(l *Ledger, books *counted) error {
	all := make(map[string]tally)
	books.tally(all)
	if ids := settledAgain(all, l.successes(), nil); len(ids) > 0 {
		return fmt.Errorf("%d messages were handled again after they had been settled, the first is %q: %s", len(ids), ids[0], l)
	}
	if c := l.Counts(); c.Lost+c.Rekeyed > 0 || s.order() == messaging.ByKey && c.Inverted+c.Overlapping > 0 {
		return errors.New(l.String())
	}
	return nil
}

func deadLetters(ctx context.Context, s *scene) error {
	front := messaging.NewBroker(s.Driver, &messaging.Options{Topology: messaging.Declare})
	handled, dead := make(chan string, 10), make(chan *messaging.Delivery, 10)
	work, err := front.Consumer(s.group, &messaging.ConsumerOptions{Order: s.order()},
		messaging.On(s.topic, func(_ context.Context, d *messaging.Delivery) error {
			if strings.HasSuffix(d.ID, "0") {
				return messaging.Permanent(errors.New("not for us"))
			}
			handled <- d.ID
			return nil
		}))
	if err != nil {
		return err
	}
	clerk, err := front.Consumer(s.group+"-clerk", &messaging.ConsumerOptions{Order: s.order()},
		messaging.On(s.topic+".dead", func(_ context.Context, d *messaging.Delivery) error {
			dead <- d
			return nil
		}))
	if err != nil {
		return err
	}
	if err := errors.Join(work.Declare(ctx), clerk.Declare(ctx)); err != nil {
		return err
	}
	msgs := []*messaging.Message{new(messaging.Message), new(messaging.Message)}
	for n := range msgs {
		*msgs[n] = messaging.Message(s.message(n, 1))
		msgs[n].Headers.Add("kept", "as it was")
	}
	if err := front.Publisher().Publish(ctx, msgs...); err != nil {
		return err
	}
	all := newCrowd()
	stops := []func(){all.join(ctx, work), all.join(ctx, clerk)}
	var next string
	var d *messaging.Delivery
	for next == "" || d == nil {
		select {
		case next = <-handled:
		case d = <-dead:
		case err := <-all.failed:
			return errors.Join(err, all.leave(stops...))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the next of the key was handled: %v, the dead letter came: %v", next != "", d != nil), all.leave(stops...))
		}
	}
	if err := all.leave(stops...); err != nil {
		return err
	}
	if next != msgs[1].ID {
		return fmt.Errorf("handled %q, want %q", next, msgs[1].ID)
	}
	if d.ID != msgs[0].ID || d.Key != msgs[0].Key || string(d.Body) != string(msgs[0].Body) || d.Headers.Get("kept") != "as it was" ||
		d.Origin != s.topic || d.LastError != "not for us" {
		return fmt.Errorf("the dead letter of %q is %q, key %q, body %q, headers %v, origin %q, error %q",
			msgs[0].ID, d.ID, d.Key, d.Body, d.Headers, d.Origin, d.LastError)
	}
	return nil
}
