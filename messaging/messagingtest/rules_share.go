package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// member receives and acks until its context ends.
type member struct {
	name string
	r    driver.Receiver
	keys *holders
	got  chan<- handed
}

type handed struct {
	by string
	d  driver.Delivery
}

func (m *member) run(ctx context.Context) error {
	for {
		ds, err := m.r.Receive(ctx, 5)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // that is how a member is told to stop
		case err != nil:
			return fmt.Errorf("%s: receive: %w", m.name, err)
		}
		if err := m.keys.take(m.name, ds); err != nil {
			return err
		}
		for _, d := range ds {
			select {
			case m.got <- handed{m.name, d}:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-time.After(5 * time.Millisecond): // long enough for another to get the key too
		case <-ctx.Done():
			return nil
		}
		m.keys.give(m.name, ds)
		if err := settle(ctx, m.r, driver.Ack, ds...); err != nil && !errors.Is(err, driver.ErrRevoked) && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
}

// holders knows who holds which keys.
type holders struct {
	mu  sync.Mutex
	out map[string][]handed // not yet being settled, by key
}

// take fails if another member holds one of the keys and has not lost it.
func (h *holders) take(by string, ds []driver.Delivery) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range ds {
		for _, x := range h.out[d.Key] {
			if x.by != by && !lost(&x.d) && !lost(&d) {
				return fmt.Errorf("%s got message %q while %s held %q of the same key %q, neither settled nor Lost", by, d.ID, x.by, x.d.ID, d.Key)
			}
		}
		h.out[d.Key] = append(h.out[d.Key], handed{by, d})
	}
	return nil
}

// give is for the time before deliveries are settled: then others may get the key.
func (h *holders) give(by string, ds []driver.Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range ds {
		h.out[d.Key] = slices.DeleteFunc(h.out[d.Key], func(x handed) bool { return x.by == by })
	}
}

func membersShare(ctx context.Context, s *scene) error {
	const least, keys, members = 400, 40, 3
	books := count(&s.Harness)
	s.Driver = books
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	got, failed := make(chan handed), make(chan error, members+1)
	shared, published := make(chan struct{}), make(chan int, 1) // closed when two have got something; how many there are
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		total, err := s.publishUntil(ctx, least, keys, shared)
		if err != nil {
			failed <- err
		}
		published <- total
	})
	held := &holders{out: make(map[string][]handed)}
	for n := range members { // they join one after the other, while messages flow
		r, err := s.join(ctx, s.group)
		if err != nil {
			return err
		}
		m := &member{fmt.Sprintf("member %d", n+1), r, held, got}
		wg.Go(func() {
			if err := m.run(ctx); err != nil {
				failed <- err
			}
		})
	}
	seen, last, served := make(map[string]bool), make(map[string]string), make(map[string]bool)
	total := -1
	var settled <-chan time.Time // then see what else comes
	for ended := false; !ended; {
		if len(seen) == total && settled == nil {
			settled = time.After(s.quiet)
		}
		select {
		case <-settled:
			ended = true
		case total = <-published:
		case h := <-got:
			if served[h.by] = true; len(served) == 2 {
				select {
				case <-shared:
				default:
					close(shared)
				}
			}
			switch {
			case seen[h.d.ID]: // a rebalance repeats, from the first on that was not settled
			case h.d.ID < last[h.d.Key]:
				return fmt.Errorf("%s got message %q of key %q for the first time after %q", h.by, h.d.ID, h.d.Key, last[h.d.Key])
			default:
				seen[h.d.ID], last[h.d.Key] = true, h.d.ID
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			if len(served) < 2 {
				return fmt.Errorf("of %d members, %d got something: %w", members, len(served), context.Cause(ctx))
			}
			return fmt.Errorf("%d messages came, of %d (-1: more): %w", len(seen), total, context.Cause(ctx))
		}
	}
	stop()
	wg.Wait()
	all := make(map[string]tally)
	books.tally(all)
	if ids := settledAgain(all, nil, nil); len(ids) > 0 {
		return fmt.Errorf("%d messages were acked by two members, or twice by one, the first is %q", len(ids), ids[0])
	}
	return nil
}

// publishUntil publishes at least so many messages, and then more, slowly, until
// enough.
func (s *scene) publishUntil(ctx context.Context, least, keys int, enough <-chan struct{}) (n int, _ error) {
	for {
		if n >= least {
			select {
			case <-enough:
				return n, nil
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return n, nil
			}
		}
		if err := s.send(ctx, []driver.Message{s.message(n, keys)}); err != nil {
			return n, err
		}
		n++
	}
}
