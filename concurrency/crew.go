package concurrency

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

var (
	errGoexit   = errors.New("concurrency: a task called runtime.Goexit")
	errReturned = errors.New("concurrency: the call that made this context has returned")
)

// fan calls task(ctx, i) for i in [0, n), at most limit at a time, the caller
// included, and returns how many were started and the first error. Indexes are
// started in order, so those not started are [started, n). It returns only when
// no task runs any more.
func fan(ctx context.Context, name string, limit, n int, task func(context.Context, int) error) (started int, err error) {
	mustLimit(name, limit)
	if n == 0 {
		return 0, nil
	}
	inner, cancel := context.WithCancelCause(ctx)
	c := &crew{n: int64(n), task: task, cancel: cancel}
	c.free.Store(int64(min(limit, n)) - 1)

	// Deferred, because Goexit in a task on this goroutine must not leave the
	// siblings behind either.
	defer func() {
		c.wg.Wait()
		cancel(errReturned)
		c.share()
	}()
	c.work(inner)
	c.wg.Wait()

	started = int(min(c.next.Load(), c.n))
	switch {
	case c.err != nil:
		return started, withCause(ctx, c.err)
	case started < n:
		return started, context.Cause(ctx)
	}
	return started, nil
}

// crew is the workers of one fan-out. Each pulls the next index until there is
// none or the context is done.
type crew struct {
	next atomic.Int64 // the next index to start
	free atomic.Int64 // workers that may still be started

	n      int64
	task   func(context.Context, int) error
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error
	fate
}

func (c *crew) work(ctx context.Context) {
	finished := false
	defer func() {
		if finished {
			return
		}
		v := recover()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cancel(c.meet(v))
	}()
	grown := false
	// ctx derives from the caller's, so a cancellation there is visible here
	// before cancel returns; Err is one atomic load.
	for ctx.Err() == nil {
		i := c.next.Add(1) - 1
		if i >= c.n {
			break
		}
		// Each worker starts the next one when it has found work itself. A
		// fan-out of tiny tasks is over before it has paid for limit goroutines.
		if !grown && i+1 < c.n && c.free.Add(-1) >= 0 {
			c.wg.Go(func() { c.work(ctx) })
		}
		grown = true
		if err := c.task(ctx, int(i)); err != nil {
			c.fail(err)
			break
		}
	}
	finished = true
}

// fail records the first error and cancels the fan-out.
func (c *crew) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.cancel(err) // only the first cause counts
}

// fate is how functions ended that did not return.
type fate struct {
	panicked *PanicError // the first
	goexit   bool
}

// meet records what recover returned in the deferred function that calls it:
// the value of a panic, or nil where the goroutine exits. It returns the cause
// with which to cancel the others.
func (f *fate) meet(v any) error {
	if v == nil {
		f.goexit = true
		return errGoexit
	}
	p := newPanicError(v)
	if f.panicked == nil {
		f.panicked = p
	}
	return p
}

// share lets the calling goroutine end as the functions did.
func (f *fate) share() {
	if f.panicked != nil {
		panic(f.panicked)
	}
	if f.goexit {
		runtime.Goexit()
	}
}

func mustLimit(name string, limit int) {
	if limit <= 0 {
		panic(fmt.Sprintf("concurrency: %s: limit is %d, must be positive", name, limit))
	}
}
