package messaging

import (
	"context"
	"sync"
	"time"
)

// running is the context of one run of a handler: context.WithTimeoutCause,
// made when somebody first waits for its end or asks whether it has come. Many
// handlers do neither, and a timer for each message costs more than all else.
//
// Package concurrency has its like for WaitFor and Hedge, which can be cancelled
// with a cause and forgets whether a run was late. One for both would have the
// abilities of both, in a package of its own below them: more to read than this.
type running struct {
	context.Context //nolint:containedctx // of the assignment
	until           time.Time

	mu     sync.Mutex
	proper context.Context //nolint:containedctx // what this stands for, once it is made
	cancel context.CancelFunc
	over   bool // ended in time, before proper was made
}

func (r *running) made() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.proper != nil:
	case r.over:
		r.proper, r.cancel = context.WithCancel(r.Context)
		r.cancel()
	default:
		r.proper, r.cancel = context.WithDeadlineCause(r.Context, r.until, errTimeout)
	}
	return r.proper
}

// end is the cancel function.
func (r *running) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
	} else {
		r.over = time.Until(r.until) > 0
	}
}

// Deadline implements context.Context.
func (r *running) Deadline() (time.Time, bool) {
	if d, ok := r.Context.Deadline(); ok && d.Before(r.until) {
		return d, true
	}
	return r.until, true
}

// Done implements context.Context.
func (r *running) Done() <-chan struct{} { return r.made().Done() }

// Err implements context.Context.
func (r *running) Err() error { return r.made().Err() }

// Value implements context.Context. Package context asks for its own cancel
// function and for the cause of the end by values.
func (r *running) Value(key any) any {
	r.mu.Lock()
	proper := r.proper
	r.mu.Unlock()
	if proper == nil {
		if time.Until(r.until) > 0 {
			return r.Context.Value(key)
		}
		proper = r.made() // it has a cause
	}
	return proper.Value(key)
}
