package messagingtest

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

func settlingTwice(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 3, 1); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 3)
	if err != nil {
		return err
	}
	for range 2 {
		if err := settle(ctx, r, driver.Ack, ds...); err != nil {
			return err
		}
	}
	return s.silence(ctx, r)
}

func requeue(ctx context.Context, s *scene) error {
	msgs, err := s.publish(ctx, 3, 1)
	if err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	first, err := collect(ctx, r, 3)
	if err != nil {
		return err
	}
	// The front gives back in the order of delivery.
	if err := settle(ctx, r, driver.Requeue, first...); err != nil {
		return err
	}
	again, err := collect(ctx, r, 3)
	if err != nil {
		return err
	}
	for i, d := range again {
		if s.Driver.Capabilities().KeyOrder && d.ID != first[i].ID {
			return fmt.Errorf("after requeueing they came as %s, before as %s", names(again), names(first))
		}
		if d.Attempt > 1 {
			return fmt.Errorf("requeued message %q has Attempt %d, want 1: it was given back unused", d.ID, d.Attempt)
		}
	}
	if err := asPublished(again, msgs); err != nil {
		return err
	}
	if err := settle(ctx, r, driver.Ack, again...); err != nil {
		return err
	}
	return s.silence(ctx, r)
}

func retryWaits(ctx context.Context, s *scene) error {
	s.unordered = !s.Driver.Capabilities().Delay
	msgs, err := s.publish(ctx, 1, 1)
	if err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 1)
	if err != nil {
		return err
	}
	for n := 1; n <= 2; n++ {
		d := ds[0]
		d.Headers.Set("mainstay-attempts", strconv.Itoa(n))
		start := time.Now()
		if err := r.Settle(ctx, []driver.Settlement{{Delivery: d, Action: driver.Retry, Delay: s.delay}}); err != nil {
			return fmt.Errorf("settle (retry): %w", err)
		}
		if ds, err = collect(ctx, r, 1); err != nil {
			return err
		}
		if took := time.Since(start); took < s.delay {
			return fmt.Errorf("came again after %v, the delay is %v", took, s.delay)
		}
		if got := ds[0].Headers.Get("mainstay-attempts"); got != strconv.Itoa(n) {
			return fmt.Errorf("came again with header mainstay-attempts %q, the settlement had \"%d\"", got, n)
		}
		if ds[0].Attempt > 1 {
			return fmt.Errorf("came again with Attempt %d, want 1: attempts before a Retry are in the headers", ds[0].Attempt)
		}
		msgs[0].Headers = d.Headers
		if err := asPublished(ds, msgs); err != nil {
			return err
		}
	}
	if err := settle(ctx, r, driver.Ack, ds...); err != nil {
		return err
	}
	return s.silence(ctx, r)
}

func retryHoldsKey(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 6, 2); err != nil { // key-0 has 0 2 4, key-1 has 1 3 5
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 6)
	if err != nil {
		return err
	}
	var mine, others []driver.Delivery
	for _, d := range ds {
		if d.Key == "key-0" {
			mine = append(mine, d)
		} else {
			others = append(others, d)
		}
	}
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: mine[0], Action: driver.Retry, Delay: s.delay}}); err != nil {
		return err
	}
	time.Sleep(s.delay + s.delay/5)
	if err := s.silence(ctx, r); err != nil {
		return fmt.Errorf("later messages of the key are still handed out, and the delay has passed: %w", err)
	}
	if err := settle(ctx, r, driver.Requeue, mine[1:]...); err != nil {
		return err
	}
	again, err := collect(ctx, r, 3)
	if err != nil {
		return err
	}
	if a, b := mine[0].Turn, again[0].Turn; a == 0 || a != mine[2].Turn || b <= a || b != again[2].Turn {
		return fmt.Errorf("before the retry the key's Turns are %d and %d, after it %d and %d: want the same twice, from 1, and rising",
			a, mine[2].Turn, b, again[2].Turn)
	}
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: again[0], Action: driver.Retry, Delay: s.delay}}); err != nil {
		return err
	}
	if err := settle(ctx, r, driver.Requeue, again[1:]...); err != nil {
		return err
	}
	if err := settle(ctx, r, driver.Ack, others...); err != nil {
		return err
	}
	late := []driver.Message{s.message(6, 2), s.message(7, 2)} // 6 is key-0's, 7 is key-1's
	if err := s.send(ctx, late); err != nil {
		return err
	}
	got, err := collect(ctx, r, 5)
	if err != nil {
		return err
	}
	if got[0].Key != "key-1" {
		return fmt.Errorf("while key-0 waited, the first to come was %s, want the new message of key-1", names(got[:1]))
	}
	var keys []string
	for _, d := range got[1:] {
		keys = append(keys, d.ID)
	}
	want := []string{mine[0].ID, mine[1].ID, mine[2].ID, late[0].ID}
	if !reflect.DeepEqual(keys, want) {
		return fmt.Errorf("after the delay key-0 came as %v, want %v", keys, want)
	}
	return settle(ctx, r, driver.Ack, got...)
}
