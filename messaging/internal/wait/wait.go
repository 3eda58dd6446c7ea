// Package wait is what the drivers wait for: an answer of a client that does not
// know about contexts, goroutines that end, and messages to hand out.
package wait

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// ErrLate is in the error of [Answer] when the context ended first.
var ErrLate = errors.New("no answer in time")

// Answer runs f, which ends by the timeouts of its client, and waits no longer
// than ctx. A value that comes too late goes to drop, unless that is nil. start
// runs a function in a goroutine with an owner, or returns false if its broker
// is closed. An error may mean that f has not run.
func Answer[T any](ctx context.Context, start func(func()) bool, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := context.Cause(ctx); err != nil {
		return none, err
	}
	done, left := make(chan result), make(chan struct{})
	started := start(func() {
		value, err := f()
		select {
		case done <- result{value, err}:
		case <-left:
			if err == nil && drop != nil {
				drop(value)
			}
		}
	})
	if !started {
		return none, driver.ErrClosed
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		close(left)
		return none, fmt.Errorf("%w: %w", ErrLate, context.Cause(ctx))
	}
}

// Call is Answer for what has no value.
func Call(ctx context.Context, start func(func()) bool, f func() error) error {
	_, err := Answer(ctx, start, func() (struct{}, error) { return struct{}{}, f() }, nil)
	return err
}

// End waits until the goroutines of wg have ended, and no longer than ctx.
func End(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // ends with the last of them
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Deliveries is the Receive of a [driver.Receiver] that holds messages. It asks
// take until there are some, again whenever woken has something, when gone is
// closed, and at due, the time from which take may have more; zero: none waits
// for its time.
func Deliveries(
	ctx context.Context, limit int, woken, gone <-chan struct{},
	take func(limit int) (ds []driver.Delivery, due time.Time, err error),
) ([]driver.Delivery, error) {
	if limit < 1 {
		return nil, fmt.Errorf("a limit of %d messages", limit)
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		ds, due, err := take(limit)
		if len(ds) > 0 || err != nil {
			return ds, err
		}
		until(ctx, woken, gone, due)
	}
}

func until(ctx context.Context, woken, gone <-chan struct{}, due time.Time) {
	var alarm <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-woken:
	case <-alarm:
	case <-gone:
	case <-ctx.Done():
	}
}

// Ring puts a signal into a channel that holds one, unless one is there.
func Ring(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
