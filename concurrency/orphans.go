package concurrency

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Orphans books the functions that [Abandon] left behind, and bounds them. Use
// one per dependency or per service, and watch List: what is in there is a
// leak that has not ended yet. The zero Orphans is ready to use. It is safe for
// concurrent use and must not be copied after first use.
type Orphans struct {
	// Max is the most functions that may be running through [Abandon] at one
	// time, on time or late, since any of those on time may be late next. It is
	// therefore a bound on the goroutines that can be leaked. 0 or less means
	// 1000. Set it before first use.
	Max int

	mu    sync.Mutex
	alive int
	late  map[*orphan]Orphan
	empty chan struct{} // closed when alive is 0; nil if nobody waits
}

// Orphan is a function that still runs though its caller has left.
type Orphan struct {
	// Since is when the caller left.
	Since time.Time
	// Stack is where the caller was then, as [debug.Stack] formats it: its
	// frames name who called [Abandon].
	Stack []byte
}

// orphan is one run of Abandon. Its fields are guarded by the mutex of its
// Orphans until done is closed.
type orphan struct {
	done     chan struct{}
	finished bool
	panicked *PanicError
	goexit   bool
}

// List returns the functions that were abandoned and still run, in no order.
// The slice is the caller's; the stacks are not to be modified.
func (o *Orphans) List() []Orphan {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]Orphan, 0, len(o.late))
	for _, e := range o.late {
		list = append(list, e)
	}
	return list
}

// Wait returns nil as soon as no function runs through o, abandoned or not,
// and an error that matches ctx.Err() if ctx ends first. It belongs into a
// shutdown, and at the end of a test.
func (o *Orphans) Wait(ctx context.Context) error {
	o.mu.Lock()
	if o.alive == 0 {
		o.mu.Unlock()
		return nil
	}
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	empty := o.empty
	o.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Errorf("concurrency: %d functions still run, %d of them abandoned: %w", o.alive, len(o.late), endOf(ctx))
}

// Abandon is [WaitFor] for functions that cannot be relied on to notice a
// cancellation: f runs on a goroutine of its own, and if it has not returned
// after d, or when ctx ends, Abandon returns all the same. f's context is
// cancelled then, f goes on until it notices, and o keeps book of it. The
// outcome of an abandoned f is unknown, its value and error are dropped.
//
// The error then matches [context.DeadlineExceeded] if the time was up, and
// ctx.Err() and its cause if ctx ended. If o.Max functions are running through
// o already, f is not called and the error matches [ErrRejected]. If d is not
// positive or ctx is done, f is not called either.
//
// A panic of f panics in the caller as in [Map]; once f is abandoned nobody is
// left to panic in, and it ends the program as in any other goroutine. Abandon
// panics if o or f is nil. f must not touch what its caller goes on using: pass
// it what it needs by value, and take its result from the return value only.
func Abandon[R any](ctx context.Context, o *Orphans, d time.Duration, f func(context.Context) (R, error)) (R, error) {
	mustCall("Abandon", f != nil)
	if o == nil {
		panic("concurrency: Abandon: nil Orphans: nothing to book the function with")
	}
	var zero R
	inner, cancel := context.WithTimeoutCause(ctx, d, &lateError{d})
	defer cancel()
	if inner.Err() != nil { // it takes over the end of ctx
		return zero, endOf(inner)
	}
	run, err := o.enter()
	if err != nil {
		return zero, err
	}
	// The result lives in a variable that only a finished run lets us read.
	out := new(Result[R])
	go func() {
		run.goexit = true
		defer func() { o.leave(run, recover()) }()
		out.Value, out.Err = f(inner)
		run.goexit = false
	}()
	select {
	case <-run.done:
	case <-inner.Done():
		if o.book(run) {
			return zero, endOf(inner)
		}
		// It finished at the same moment, under the lock just held: on time.
	}
	if run.panicked != nil {
		panic(run.panicked)
	}
	if run.goexit {
		runtime.Goexit()
	}
	return out.Value, withCause(inner, out.Err)
}

func (o *Orphans) enter() (*orphan, error) {
	limit := o.Max
	if limit <= 0 {
		limit = 1000
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.alive >= limit {
		return nil, fmt.Errorf("%w: %d functions run already, %d of them abandoned", ErrRejected, o.alive, len(o.late))
	}
	o.alive++
	return &orphan{done: make(chan struct{})}, nil
}

// book makes run an orphan, unless it has finished.
func (o *Orphans) book(run *orphan) bool {
	stack := debug.Stack() // not under the lock: it takes microseconds
	o.mu.Lock()
	defer o.mu.Unlock()
	if run.finished {
		return false
	}
	if o.late == nil {
		o.late = make(map[*orphan]Orphan)
	}
	o.late[run] = Orphan{Since: time.Now(), Stack: stack}
	return true
}

// leave ends run. It is called on the goroutine of f, whose panic v is.
func (o *Orphans) leave(run *orphan, v any) {
	var p *PanicError
	if v != nil {
		p = newPanicError(v)
		run.goexit = false
	}
	o.mu.Lock()
	_, late := o.late[run]
	delete(o.late, run)
	o.alive--
	if o.alive == 0 && o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
	run.finished, run.panicked = true, p
	close(run.done)
	o.mu.Unlock()
	if late && p != nil {
		panic(p)
	}
}
