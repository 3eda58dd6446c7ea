package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// undecodable: what one producer got wrong stops nobody.
func undecodable(ctx context.Context, s *scene) error {
	front := messaging.NewBroker(s.Driver, &messaging.Options{Topology: messaging.Declare})
	topic := messaging.NewTopic(s.topic, messaging.JSON[int]())
	handled, dead := make(chan int, 10), make(chan *messaging.Delivery, 10)
	work, err := front.Consumer(s.group, &messaging.ConsumerOptions{Order: s.order()},
		topic.On(func(_ context.Context, n int, _ *messaging.Delivery) error {
			handled <- n
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
	bodies := []string{"1", "\x00\xff{not JSON", "2", ""} // of one key
	var msgs []*messaging.Message
	for n, body := range bodies {
		m := messaging.Message(s.message(n, 1))
		m.Body, m.ContentType = []byte(body), "application/json"
		msgs = append(msgs, &m)
	}
	msgs = append(msgs, &messaging.Message{Topic: s.topic, ID: msgs[0].ID + "-type", Key: msgs[0].Key, Body: []byte("3"), ContentType: "text/csv"})
	last, err := topic.Message(msgs[0].Key, 4)
	if err != nil {
		return err
	}
	msgs = append(msgs, last)
	if err := front.Publisher().Publish(ctx, msgs...); err != nil {
		return err
	}
	all := newCrowd()
	stops := []func(){all.join(ctx, work), all.join(ctx, clerk)}
	var got []int
	gone := make(map[string]*messaging.Delivery)
	for len(got) < 3 || len(gone) < 3 {
		select {
		case n := <-handled:
			got = append(got, n)
		case d := <-dead:
			gone[d.ID] = d
		case err := <-all.failed:
			return errors.Join(err, all.leave(stops...))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("handled %v of 1, 2, 4; %d of 3 dead letters came", got, len(gone)), all.leave(stops...))
		}
	}
	if err := all.leave(stops...); err != nil {
		return err
	}
	if s.order() == messaging.ByKey && fmt.Sprint(got) != "[1 2 4]" {
		return fmt.Errorf("handled %v, want 1, 2, 4: they are of one key", got)
	}
	for _, m := range []*messaging.Message{msgs[1], msgs[3], msgs[4]} {
		d := gone[m.ID]
		if d == nil {
			return fmt.Errorf("message %q is not in the dead-letter topic", m.ID)
		}
		if string(d.Body) != string(m.Body) || d.ContentType != m.ContentType || !strings.HasPrefix(d.LastError, "decode: ") {
			return fmt.Errorf("the dead letter of %q has body %q, content type %q, error %q; want its bytes %q, %q, and why it cannot be decoded",
				m.ID, d.Body, d.ContentType, d.LastError, m.Body, m.ContentType)
		}
	}
	return nil
}

// twoBuilds: while a service is rolled out, its old and its new build are
// members of one group. The new one writes and reads a header that the old one
// does not know, and so does the library it was built with; retries of either
// may go to the other.
func twoBuilds(ctx context.Context, s *scene) error {
	const total, keys, header, reserved = 160, 40, "added-in-v2", "mainstay-added-in-v2"
	books, ledger := count(&s.Harness), NewLedger()
	front := messaging.NewBroker(books, &messaging.Options{Topology: messaging.Declare})
	var (
		mu      sync.Mutex
		misread []string
		by      = make(map[string]int)
	)
	newer := func(id string) bool { return strings.ContainsRune("147", rune(id[len(id)-1])) }
	handler := func(build string) messaging.Handler {
		return func(ctx context.Context, d *messaging.Delivery) error {
			select {
			case <-time.After(3 * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			by[build]++
			want := ""
			if newer(d.ID) {
				want = "of " + d.ID
			}
			if got := d.Headers.Get(header); build == "v2" && got != want || string(d.Body) != "body of "+d.ID ||
				d.Headers.Get("old") != "known" || d.Headers.Get(reserved) != "" {
				misread = append(misread, fmt.Sprintf("%s read %q, attempt %d: header %q, want %q; headers %v, body %q",
					build, d.ID, d.Attempt, got, want, d.Headers, d.Body))
			}
			if d.Attempt == 1 && strings.ContainsRune("27", rune(d.ID[len(d.ID)-1])) {
				return errors.New("the first attempt of two in ten fails, whatever build wrote it")
			}
			return nil
		}
	}
	all := newCrowd()
	var stops []func()
	member := func(build string) (stop func(), err error) {
		c, err := front.Consumer(s.group, &messaging.ConsumerOptions{
			Order: s.order(), Drain: 5 * time.Second,
			Retry: messaging.RetryPolicy{MaxAttempts: -1, Delays: []time.Duration{s.delay}},
		}, messaging.On(s.topic, handler(build)).With(ledger.Middleware))
		if err == nil {
			err = c.Declare(ctx)
		}
		if err != nil {
			return nil, err
		}
		stop = all.join(ctx, c)
		stops = append(stops, stop)
		return stop, nil
	}
	n := 0
	publish := func() error {
		m := messaging.Message(s.message(n, keys))
		n++
		m.Body = []byte("body of " + m.ID)
		m.Headers = messaging.Headers{{Key: "old", Value: []byte("known")}}
		if !newer(m.ID) {
			return ledger.Publish(ctx, front.Publisher(), &m)
		}
		m.Headers.Add(header, "of "+m.ID)
		m.Headers.Add(reserved, "by the library of v2") // which only a driver publishes
		err := s.send(ctx, []driver.Message{driver.Message(m)})
		ledger.Sent(m.ID, m.Key, err)
		return err
	}
	// share publishes a few, and then more, slowly, until both builds have
	// had something since it was called.
	share := func() error {
		mu.Lock()
		clear(by)
		mu.Unlock()
		both := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return by["v1"] > 0 && by["v2"] > 0
		}
		for i := 0; i < total/2 || !both(); i++ {
			if i >= total/2 {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					mu.Lock()
					defer mu.Unlock()
					return fmt.Errorf("v1 had %d deliveries and v2 %d: one of them was given none", by["v1"], by["v2"])
				}
			}
			if err := publish(); err != nil {
				return err
			}
		}
		return nil
	}
	old, err := member("v1")
	if err != nil {
		return err
	}
	if _, err := member("v2"); err != nil {
		return errors.Join(err, all.leave(stops...))
	}
	if err := share(); err != nil {
		return errors.Join(err, all.leave(stops...))
	}
	old() // it goes, and another of it comes, as when a rollout is taken back
	if _, err := member("v1"); err != nil {
		return errors.Join(err, all.leave(stops...))
	}
	if err := share(); err != nil {
		return errors.Join(err, all.leave(stops...))
	}
	for ledger.lost() > 0 && ctx.Err() == nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err := all.leave(stops...); err != nil {
		return err
	}
	if len(misread) > 0 {
		return fmt.Errorf("%d deliveries were misread; the first: %s", len(misread), misread[0])
	}
	return s.unbroken(ledger, books)
}
