package concurrency

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Op is an operation that has been declared repeatable, by [Idempotent] or
// [Keyed]. The zero Op cannot be run.
type Op[R any] struct {
	run func(context.Context) (R, error)
	err error
}

var (
	errNoKey = errors.New("concurrency: Keyed: empty key: runs could not be told to be the same")
	errNoOp  = errors.New("concurrency: zero Op: make one with Idempotent or Keyed")
)

// Idempotent declares that running f again has no further effect: a read, or a
// write that sets rather than adds. It panics if f is nil.
func Idempotent[R any](f func(context.Context) (R, error)) Op[R] {
	mustCall("Idempotent", f != nil)
	return Op[R]{run: f}
}

// Keyed declares that the far side recognises repeated runs by key, which f
// sends along. Every run gets the same key. The key must not be empty; if it
// is, f is never called and [Retry] and [Hedge] return an error marked [Permanent]. Keyed
// panics if f is nil.
func Keyed[R any](key string, f func(ctx context.Context, key string) (R, error)) Op[R] {
	mustCall("Keyed", f != nil)
	if key == "" {
		return Op[R]{err: Permanent(errNoKey)}
	}
	return Op[R]{run: func(ctx context.Context) (R, error) { return f(ctx, key) }}
}

// refusal is why op cannot be run, nil if it can.
func (op Op[R]) refusal() error {
	if op.err == nil && op.run == nil {
		return Permanent(errNoOp)
	}
	return op.err
}

// RetryPolicy says how [Retry] repeats. The zero RetryPolicy is ready to use.
// It is a plain value, safe for concurrent use as long as it is not written.
type RetryPolicy struct {
	// Attempts is the most runs, the first included. 0 or less means 3; 1 never
	// repeats.
	Attempts int
	// Backoff spreads the repetitions; its zero value is ready to use.
	Backoff Backoff
	// Retryable tells whether a repetition may help. Nil means for every
	// error. It is not asked about errors marked [Permanent].
	Retryable func(error) bool
}

// Retry runs op until it succeeds, at most p.Attempts times, waiting in between
// as p.Backoff says, or longer where the error asks for it ([RetryAfter]). A
// nil p is the zero [RetryPolicy]. Value and error are those of the last run.
//
// It gives up early when repeating cannot help: the error is [Permanent] or
// not p.Retryable, ctx is done, the [Budget] of ctx, see [WithBudget], is used up,
// or the next run would only start at or after ctx's deadline; then it does not
// wait for the deadline either. The error always matches that of the last run, and also the end of ctx if that came
// during a wait, and says how many runs there were if more than one. If ctx is
// done before the first run, op is not run.
func Retry[R any](ctx context.Context, p *RetryPolicy, op Op[R]) (R, error) {
	var zero R
	if err := op.refusal(); err != nil {
		return zero, err
	}
	if ctx.Err() != nil {
		return zero, endOf(ctx)
	}
	if p == nil {
		p = new(RetryPolicy)
	}
	attempts := p.Attempts
	if attempts <= 0 {
		attempts = 3
	}
	budget, run := firstRun(ctx), ctx
	for n := 1; ; n++ {
		v, err := op.run(run)
		if err == nil {
			return v, nil
		}
		permanent, after := Advice(err)
		if ctx.Err() != nil {
			return v, counted(n, withCause(ctx, err))
		}
		if n >= attempts || permanent || p.Retryable != nil && !p.Retryable(err) {
			return v, counted(n, err)
		}
		delay := max(after, p.Backoff.Delay(n))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
			return v, counted(n, fmt.Errorf("no time for another run after %v: %w", delay, err))
		}
		if !budget.extraRun() {
			return v, counted(n, fmt.Errorf("the budget has no other run left: %w", err))
		}
		if n == 1 {
			run = budget.mark(ctx) //nolint:fatcontext // once, not in every round
		}
		if end := sleep(ctx, delay); end != nil {
			return v, counted(n, fmt.Errorf("%w: %w", err, end))
		}
	}
}

func counted(n int, err error) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("concurrency: run %d: %w", n, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return endOf(ctx)
	}
}
