package idempotency

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// begin asks the store for the key. The outcome is Acquired or Done; or, where
// the store fails and the guard fails open, the zero Outcome, which says that
// the work is to run unguarded. Errors carry the marks of package concurrency,
// so that whatever retries knows whether and when.
func (g *Guard) begin(ctx context.Context, k Key) (Outcome, error) {
	if err := k.Validate(); err != nil {
		return Outcome{}, &Error{Op: "begin", Key: k, Err: concurrency.Permanent(err)}
	}
	out, err := g.store.Begin(ctx, Claim{Key: k, Lease: g.lease, TTL: g.ttl})
	switch {
	case err != nil && g.failOpen && ctx.Err() == nil:
		g.telemetry.warn(ctx, "running unguarded, as the store failed", k, err)
		return Outcome{}, nil
	case err != nil:
		return Outcome{}, wrap("begin", k, err)
	case out.State == Acquired || out.State == Done:
		return out, nil
	case out.State == InProgress:
		later := concurrency.RetryAfter(ErrInProgress, time.Until(out.Until))
		return Outcome{}, &Error{Op: "begin", Key: k, Until: out.Until, Err: later}
	case out.State == Mismatch:
		return Outcome{}, &Error{Op: "begin", Key: k, Err: concurrency.Permanent(ErrMismatch)}
	}
	return Outcome{}, &Error{Op: "begin", Key: k, Err: fmt.Errorf("the store answered %v", out.State)}
}

// hold runs work while t holds its key. Then it completes the key with the
// result, or gives it back if keep is false or work panics. An error says that
// the work was done and its result is not kept: ErrTooLarge, which is recorded,
// or that nothing could be recorded.
func (g *Guard) hold(ctx context.Context, t Token, work func(context.Context) (result []byte, keep bool)) error {
	result, keep := g.renewWhile(ctx, t, work)
	if !keep {
		return nil
	}
	switch err := g.complete(ctx, t, result); {
	case err == nil:
		return nil
	case errors.Is(err, ErrTooLarge):
		return wrap("complete", t.Key, err)
	default:
		return wrap("complete", t.Key, fmt.Errorf("the work was done, but is not recorded and may run again: %w", err))
	}
}

// renewWhile runs work and renews the lease until it has returned. The context
// of work ends when the lease is lost. A key whose work is not to be kept is
// given back.
func (g *Guard) renewWhile(ctx context.Context, t Token, work func(context.Context) ([]byte, bool)) (result []byte, keep bool) {
	working, cancel := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx)) // the work may outlive ctx
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := g.renew(renewing, t); err != nil {
			g.telemetry.warn(ctx, "the lease was lost while the work runs", t.Key, err)
			cancel(err)
		}
	}()
	defer func() { // also when work panics or ends its goroutine: keep is false then
		stop()
		<-stopped
		cancel(nil)
		if !keep {
			g.abort(ctx, t)
		}
	}()
	return work(working)
}

// renew keeps the lease of t until ctx ends, and returns an error if it lost
// the lease before: somebody took over, or, unless the guard fails open, the
// lease ended before the store could be reached.
func (g *Guard) renew(ctx context.Context, t Token) error {
	end, wait := time.Now().Add(g.lease), g.lease/3
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		asked := time.Now()
		deadline := asked.Add(g.lease / 3)
		if !g.failOpen && end.Before(deadline) {
			deadline = end
		}
		err := g.renewOnce(ctx, t, deadline)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the work is done: what became of the renewal does not matter
		}
		switch {
		case err == nil:
			end, wait = asked.Add(g.lease), g.lease/3
		case errors.Is(err, ErrStale):
			return wrap("renew", t.Key, err)
		case g.failOpen:
			wait = g.lease / 10
		case !time.Now().Before(end):
			return wrap("renew", t.Key, fmt.Errorf("%w: the lease ended while the store failed: %w", ErrStale, err))
		default:
			wait = min(g.lease/10, time.Until(end))
		}
	}
}

func (g *Guard) renewOnce(ctx context.Context, t Token, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return g.store.Renew(ctx, t, g.lease)
}

// complete records the result, although ctx may have ended: the work is done.
// A store that fails is asked again for a while, as giving up means that the
// work may be done twice.
func (g *Guard) complete(ctx context.Context, t Token, result []byte) error {
	ctx, cancel := g.settling(ctx)
	defer cancel()
	var tooLarge error
	if len(result) > g.maxResult {
		tooLarge = fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(result), g.maxResult)
	}
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		if tooLarge != nil { // done all the same, so that it does not run again
			result = seal(kindTooLarge, nil)
		}
		err := g.store.Complete(ctx, t, result, g.ttl)
		switch {
		case err == nil:
			return tooLarge
		case errors.Is(err, ErrStale):
			return err
		case errors.Is(err, ErrTooLarge) && tooLarge == nil: // the store has a lower limit
			tooLarge = err
			continue
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// abort gives the key back. If that fails, the lease ends by itself.
func (g *Guard) abort(ctx context.Context, t Token) {
	ctx, cancel := g.settling(ctx)
	defer cancel()
	if err := g.store.Abort(ctx, t); err != nil {
		g.telemetry.warn(ctx, "the key could not be given back and stays held until its lease ends", t.Key, err)
	}
}

// settling is a context for the end of a call, within the lease and whether or
// not the call was cancelled.
func (g *Guard) settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), min(g.lease/2, 5*time.Second))
}
