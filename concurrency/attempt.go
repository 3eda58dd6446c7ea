package concurrency

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// attempt is the context of one run, which ends when the run does, or earlier:
// by its own time limit, or because the run is not needed any more. It costs
// nothing until somebody asks for Done: many callees only read the deadline.
// From then on it is an ordinary one, so that contexts derived from it are
// linked as always.
//
// It must not be used again for another run: a callee may have kept it.
type attempt struct {
	context.Context //nolint:containedctx // it is one; the caller's

	deadline time.Time // its own; zero if the caller's is earlier, or it has none
	late     lateError // the cause of its own end

	mu    sync.Mutex
	inner ordinary    // written under mu, before asked is set
	asked atomic.Bool // there is an inner one
	over  atomic.Bool // the run has returned, and before the caller's context had ended
	polls atomic.Uint32
}

// ordinary is a context that can be cancelled in one of two ways.
type ordinary struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelCauseFunc
	stop            context.CancelFunc
}

// manyPolls is how often Err may be asked before it is cheaper to have a timer.
const manyPolls = 16

// within gives a, which nobody knows yet, d from now.
func (a *attempt) within(d time.Duration) {
	deadline := time.Now().Add(d)
	if earlier, ok := a.Context.Deadline(); ok && earlier.Before(deadline) {
		return
	}
	a.deadline, a.late = deadline, lateError{d}
}

func (a *attempt) ordinary() *ordinary {
	if a.asked.Load() {
		return &a.inner
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.asked.Load():
		return &a.inner
	case a.over.Load(): // nobody is left to do it
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(a.Context))
		cancel(errReturned)
		a.inner = ordinary{Context: ctx, cancel: cancel}
	case a.deadline.IsZero():
		ctx, cancel := context.WithCancelCause(a.Context)
		a.inner = ordinary{Context: ctx, cancel: cancel}
	default:
		ctx, stop := context.WithDeadlineCause(a.Context, a.deadline, &a.late)
		a.inner = ordinary{Context: ctx, stop: stop}
	}
	a.asked.Store(true)
	return &a.inner
}

// Deadline implements [context.Context].
func (a *attempt) Deadline() (time.Time, bool) {
	if a.deadline.IsZero() {
		return a.Context.Deadline()
	}
	return a.deadline, true
}

// Done implements [context.Context].
func (a *attempt) Done() <-chan struct{} { return a.ordinary().Done() }

// Err implements [context.Context].
func (a *attempt) Err() error {
	switch {
	case a.asked.Load():
		return a.inner.Err()
	case a.over.Load():
		return context.Canceled
	case a.deadline.IsZero():
		return a.Context.Err()
	case a.polls.Add(1) > manyPolls || time.Until(a.deadline) <= 0:
		return a.ordinary().Err()
	}
	return a.Context.Err()
}

// Value implements [context.Context]. Through it package context finds the
// ordinary context, and with it the cause.
func (a *attempt) Value(key any) any {
	if a.asked.Load() {
		return a.inner.Value(key)
	}
	return a.Context.Value(key)
}

// cancel ends the context while its run goes on. It must not have a time limit
// of its own.
func (a *attempt) cancel(cause error) { a.ordinary().cancel(cause) }

// finish ends the context of a run that has returned.
func (a *attempt) finish() {
	a.mu.Lock()
	asked := a.asked.Load()
	a.over.Store(!asked && a.Context.Err() == nil)
	a.mu.Unlock()
	switch {
	case !asked:
	case a.inner.stop != nil:
		a.inner.stop()
	default:
		a.inner.cancel(errReturned)
	}
}
