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

func groupsIndependent(ctx context.Context, s *scene) error {
	other := s.group + "-2"
	if err := s.declare(ctx, other); err != nil {
		return err
	}
	if _, err := s.publish(ctx, 10, 2); err != nil {
		return err
	}
	for _, g := range []string{s.group, other} {
		r, err := s.join(ctx, g)
		if err != nil {
			return err
		}
		ds, err := collect(ctx, r, 10)
		if err != nil {
			return fmt.Errorf("group %q: %w", g, err)
		}
		if err := settle(ctx, r, driver.Ack, ds...); err != nil {
			return err
		}
	}
	return nil
}

func beginAtOldest(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 10, 2); err != nil {
		return err
	}
	late := s.group + "-late"
	if err := s.declare(ctx, late); err != nil {
		return err
	}
	r, err := s.join(ctx, late)
	if err != nil {
		return err
	}
	_, err = collect(ctx, r, 10)
	return err
}

func revoked(ctx context.Context, s *scene) error {
	const total = 64
	if _, err := s.publish(ctx, total, total); err != nil {
		return err
	}
	first, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	held, err := collect(ctx, first, total)
	if err != nil {
		return err
	}
	if slices.IndexFunc(held, func(d driver.Delivery) bool { return d.Lane != held[0].Lane }) < 0 {
		return fmt.Errorf("%d keys all fell into lane %q: the rule needs a topic with several partitions", total, held[0].Lane)
	}
	left := make(map[string]int) // unsettled, by lane
	acked := make(map[string]bool)
	for i, d := range held {
		if acked[d.ID] = i%2 == 1; !acked[d.ID] {
			left[d.Lane]++
		} else if err := settle(ctx, first, driver.Ack, d); err != nil {
			return err
		}
	}
	second, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { // a member must go on receiving to take part in a rebalance
		for {
			ds, err := first.Receive(ctx, total)
			if err != nil {
				return
			}
			_ = first.Settle(ctx, requeueAll(ds)) // its former messages, should it get them again
		}
	})
	var moved []driver.Delivery
	for lane := ""; lane == "" || left[lane] > 0; lane = moved[0].Lane { // all of one
		ds, err := collect(ctx, second, 1)
		if err != nil {
			return fmt.Errorf("the second member got %d messages of what the first one held, and no more: %w", len(moved), err)
		}
		if acked[ds[0].ID] {
			return fmt.Errorf("the first member acked %s, and the second one got it", names(ds))
		}
		moved = append(moved, ds...)
		left[ds[0].Lane]--
	}
	at := slices.IndexFunc(held, func(d driver.Delivery) bool { return d.ID == moved[0].ID })
	if at < 0 {
		return fmt.Errorf("the second member got %s, which was never published", names(moved))
	}
	was := held[at]
	if was.Lost == nil {
		return fmt.Errorf("delivery %s moved to another member, and its Lost is nil", names(held[at:at+1]))
	}
	select {
	case <-was.Lost:
	case <-ctx.Done():
		return fmt.Errorf("delivery %s moved to another member, and its Lost was not closed", names(held[at:at+1]))
	}
	stop()
	wg.Wait()
	ctx, stop = context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer stop()
	if err := settle(ctx, first, driver.Ack, was); !errors.Is(err, driver.ErrRevoked) {
		return fmt.Errorf("the former owner acked %s and got %s, want ErrRevoked", was.ID, says(err))
	}
	if err := settle(ctx, second, driver.Ack, moved...); err != nil {
		return fmt.Errorf("the new owner: %w", err)
	}
	return nil
}

func requeueAll(ds []driver.Delivery) []driver.Settlement {
	s := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		s[i] = driver.Settlement{Delivery: d, Action: driver.Requeue}
	}
	return s
}

func closeEnds(ctx context.Context, s *scene) error {
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Receive(ctx, 1)
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond) // let it wait; if it does not yet, the rule holds all the same
	for range 2 {
		if err := r.Close(ctx); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, driver.ErrClosed) {
			return fmt.Errorf("a waiting Receive ended with %s, want ErrClosed", says(err))
		}
	case <-ctx.Done():
		return errors.New("Receive goes on waiting")
	}
	if _, err := r.Receive(ctx, 1); !errors.Is(err, driver.ErrClosed) {
		return fmt.Errorf("Receive after Close gave %s, want ErrClosed", says(err))
	}
	return nil
}

func closedBroker(ctx context.Context, s *scene) error {
	if err := s.declare(ctx); err != nil {
		return err
	}
	if err := s.Driver.Health(ctx); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	for range 2 {
		if err := s.Driver.Close(ctx); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	errs := s.Driver.Publish(ctx, []driver.Message{s.message(0, 1)})
	if len(errs) != 1 || errs[0] == nil {
		return fmt.Errorf("publishing on a closed broker gave %v, want an error", errs)
	}
	if s.Driver.Health(ctx) == nil {
		return errors.New("a closed broker is healthy")
	}
	return nil
}

func lag(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 10, 3); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 10)
	if err != nil {
		return err
	}
	of := s.Driver.(driver.Lagger)
	if n, oldest, err := of.Lag(ctx, s.topic, s.group); err != nil || n != 10 || oldest <= 0 && time.Since(ds[0].Time) > time.Second {
		return fmt.Errorf("with 10 messages handed out, Lag gave %d, %v, %w", n, oldest, err)
	}
	if err := settle(ctx, r, driver.Ack, ds...); err != nil {
		return err
	}
	for {
		n, oldest, err := of.Lag(ctx, s.topic, s.group)
		if err != nil {
			return err
		}
		if n == 0 && oldest == 0 {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("with everything acked, Lag still gives %d, %v", n, oldest)
		}
	}
}

func restart(ctx context.Context, s *scene) error {
	const total = 50
	if _, err := s.publish(ctx, total, 5); err != nil {
		return err
	}
	if err := s.Restart(ctx); err != nil {
		return fmt.Errorf("the harness could not restart the broker: %w", err)
	}
	return s.drainAll(ctx, total)
}

func cut(ctx context.Context, s *scene) error {
	const total, keys = 200, 8
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Cut(2 * time.Second)
	}()
	defer func() { <-done }()
	for n := range total {
		m := []driver.Message{s.message(n, keys)}
		for { // what is refused or unknown is published again, as a program would
			err := s.send(ctx, m)
			if err == nil {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("message %d of %d could not be published: %w", n+1, total, err)
			}
		}
	}
	return s.drainAll(ctx, total)
}

func waitingBounded(ctx context.Context, s *scene) error {
	const patient, most = 300 * time.Millisecond, 5 * time.Second
	if _, err := s.publish(ctx, 1, 1); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	within := func(what string, f func(context.Context) error) error {
		short, cancel := context.WithTimeout(ctx, patient)
		defer cancel()
		begin := time.Now()
		err := f(short)
		if took := time.Since(begin); took > most {
			return fmt.Errorf("%s took %v, its context ended after %v", what, took, patient)
		}
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.Cut(2 * time.Second)
	}()
	defer func() { <-over }()
	sent := 1
	for reachable := false; !reachable; {
		select {
		case <-over:
			reachable = true
		default:
		}
		m := []driver.Message{s.message(sent, 1)}
		err := within("publishing", func(ctx context.Context) error {
			err := s.send(ctx, m)
			if err != nil && ctx.Err() == nil {
				<-ctx.Done() // it knew sooner; do not ask all the time
			}
			if err == nil {
				sent++
			}
			return nil
		})
		if err == nil {
			err = within("receiving", func(ctx context.Context) error {
				_, _ = r.Receive(ctx, 1) // what came, and an error, are other rules' matter
				return nil
			})
		}
		if err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := r.Close(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	for { // what was refused, or became unknown, is published again
		err := s.send(ctx, []driver.Message{s.message(sent, 1)})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("publishing does not come back: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return s.drainAll(ctx, sent+1)
}

// drainAll receives until total messages have come, as the front does:
// subscribing anew after an error.
func (s *scene) drainAll(ctx context.Context, total int) error {
	seen, last := make(map[string]bool), make(map[string]string)
	var r driver.Receiver
	for len(seen) < total {
		err := func() (err error) {
			if r == nil {
				if r, err = s.join(ctx, s.group); err != nil {
					return err
				}
			}
			ds, err := r.Receive(ctx, total)
			if err != nil {
				return err
			}
			for _, d := range ds {
				if !seen[d.ID] && d.ID < last[d.Key] && s.Driver.Capabilities().KeyOrder {
					return fmt.Errorf("%w: message %q of key %q came after %q", errOrder, d.ID, d.Key, last[d.Key])
				}
				seen[d.ID], last[d.Key] = true, max(d.ID, last[d.Key])
			}
			return settle(ctx, r, driver.Ack, ds...)
		}()
		if errors.Is(err, errOrder) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d messages are lost: %w", total-len(seen), total, errors.Join(err, context.Cause(ctx)))
		}
		if err != nil && r != nil {
			_ = r.Close(ctx)
			r = nil
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}

var errOrder = errors.New("out of order")
