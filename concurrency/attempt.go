package concurrency

import (
	"context"
	"sync"
	"sync/atomic"
)

// attempt is a context that can be cancelled, and costs nothing until somebody
// asks for Done: many callees only read the deadline. From then on it is an
// ordinary one, so that contexts derived from it are linked as always.
//
// It must not be used again for another run: a callee may have kept it.
type attempt struct {
	context.Context //nolint:containedctx // it is one; the caller's

	mu    sync.Mutex
	inner atomic.Pointer[cancellable]
	over  atomic.Bool // written under mu
}

type cancellable struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelCauseFunc
}

func (a *attempt) ordinary() *cancellable {
	if c := a.inner.Load(); c != nil {
		return c
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.inner.Load(); c != nil {
		return c
	}
	ctx, cancel := context.WithCancelCause(a.Context)
	if a.over.Load() {
		cancel(errReturned) // nobody is left to do it
	}
	c := &cancellable{ctx, cancel}
	a.inner.Store(c)
	return c
}

// Done implements [context.Context].
func (a *attempt) Done() <-chan struct{} { return a.ordinary().Done() }

// Err implements [context.Context].
func (a *attempt) Err() error {
	if c := a.inner.Load(); c != nil {
		return c.Err()
	}
	if err := a.Context.Err(); err != nil || !a.over.Load() {
		return err
	}
	return context.Canceled
}

// Value implements [context.Context]. Through it package context finds the
// ordinary context, and with it the cause.
func (a *attempt) Value(key any) any {
	if c := a.inner.Load(); c != nil {
		return c.Value(key)
	}
	return a.Context.Value(key)
}

// cancel ends the context while its run goes on.
func (a *attempt) cancel(cause error) { a.ordinary().cancel(cause) }

// finish ends the context of a run that has returned.
func (a *attempt) finish() {
	a.mu.Lock()
	a.over.Store(true)
	c := a.inner.Load()
	a.mu.Unlock()
	if c != nil {
		c.cancel(errReturned)
	}
}
