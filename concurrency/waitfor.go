package concurrency

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// WaitFor calls f with a context that ends after d, and returns what f
// returns. f runs on the calling goroutine and is never left behind: a late f
// is cancelled through its context, and WaitFor returns when f does. For
// functions that cannot be cancelled there is [Abandon].
//
// The context costs one allocation, and a timer only if somebody waits for it:
// asks for Done, derives another from it, or asks for Err over and over. What
// reads the deadline, to send it on or to set it on a connection, needs none.
//
// If f fails after its time is up, the error matches
// [context.DeadlineExceeded] as well as f's own. A late success is a success:
// what f did has been done. If d is not positive or ctx is done, f is not
// called. An earlier deadline of ctx stands.
func WaitFor[R any](ctx context.Context, d time.Duration, f func(context.Context) (R, error)) (R, error) {
	mustCall("WaitFor", f != nil)
	var zero R
	if ctx.Err() != nil {
		return zero, endOf(ctx)
	}
	if d <= 0 {
		return zero, fmt.Errorf("%w: %w", context.DeadlineExceeded, &lateError{d})
	}
	inner := &attempt{Context: ctx}
	inner.within(d)
	defer inner.finish()
	v, err := f(inner)
	if err == nil {
		return v, nil
	}
	if inner.Err() != nil && !errors.Is(err, context.Cause(inner)) {
		return v, fmt.Errorf("%w: %w", context.Cause(inner), err)
	}
	return v, err
}

// lateError is the cause of a context whose time, not its caller's, is up.
type lateError struct{ after time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("concurrency: not done within %v", e.after) }

// Is makes the error match what users test for.
func (e *lateError) Is(target error) bool {
	return target == context.DeadlineExceeded
}

// Timeout makes the error look to net.Error the way context.DeadlineExceeded does.
func (e *lateError) Timeout() bool { return true }

// endOf is the error of a context that is done: its cause, which alone may not
// tell that the context ended, and ctx.Err().
func endOf(ctx context.Context) error {
	return withCause(ctx, ctx.Err())
}
