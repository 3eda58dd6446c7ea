package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrRejected is matched by the error of every [Limiter] that refused instead
// of waiting, and of [Abandon] when its [Orphans] are full: nothing was run.
var ErrRejected = errors.New("concurrency: rejected")

// Limiter admits work or refuses it, and learns from the result. [Semaphore],
// [Rate], [Breaker] and [Admission] are limiters; [NewPermit] helps to write
// another.
//
// Acquire asks for n units. It returns a [Permit] whose Done is to be called
// once, or an error that matches [ErrRejected] if the limiter refused, or
// ctx.Err() if ctx ended first; then there is nothing to return. It must not
// wait once ctx is done, must refuse at once what it can never admit, and must
// be safe for concurrent use.
type Limiter interface {
	Acquire(ctx context.Context, n int64) (Permit, error)
}

// Permit is the right to run what a [Limiter] admitted. It is a small value:
// copies are the same permit, and handing one on hands on the duty to call
// [Permit.Done]. The zero Permit does nothing.
//
// A permit whose Done is never called is lost to its limiter.
type Permit struct {
	slot  *slot
	gen   uint64
	units int64
}

// slot is the state behind a permit. Its owner may reuse it: the generation
// moves on with the first Done, so older copies of the permit fall dead. All
// fields but gen belong to whoever holds the current generation.
type slot struct {
	gen     atomic.Uint64
	ctx     context.Context             //nolint:containedctx // lives as long as the permit: its cancellation decides what Done reports
	owner   owner                       // either owner
	release func(known bool, err error) // or release
	next    *slot                       // in the owner's free list
	note    note                        // the owner's, about this permit
}

// owner is a limiter of this package: it reuses the slots of its permits.
type owner interface {
	// settle takes a permit back. The slot is its own again, and holds nothing
	// of the request but the note.
	settle(s *slot, units int64, known bool, err error)
	// mark is the key of the owner's permits in a context, nil if there is
	// nothing to borrow.
	mark() any
}

// note is what a limiter wants to know again when the permit comes back.
type note struct {
	generation uint64        // [Breaker]: of the state that admitted
	admitted   time.Duration // [Admission]: when, on its clock
	until      time.Duration // [Admission]: the deadline, on its clock
}

// slots is a list of free slots, guarded by the mutex of its owner.
type slots struct{ free *slot }

// issue makes a permit of n units.
func (l *slots) issue(ctx context.Context, o owner, n int64) Permit {
	s := l.free
	if s == nil {
		s = &slot{owner: o}
	} else {
		l.free = s.next
	}
	s.ctx, s.next = ctx, nil
	return Permit{slot: s, gen: s.gen.Load(), units: n}
}

func (l *slots) put(s *slot) { s.next, l.free = l.free, s }

// NewPermit makes the permit of a [Limiter] of one's own. ctx is that of
// Acquire. done runs once, on the goroutine of the first [Permit.Done], with
// what that call found out; known is false if the result says nothing about
// the work, so there are units to release but nothing to learn. A nil done
// gives a permit that does nothing.
func NewPermit(ctx context.Context, done func(known bool, err error)) Permit {
	if done == nil {
		return Permit{}
	}
	return Permit{slot: &slot{ctx: ctx, release: done}}
}

// Done returns the permit to its limiter and reports the result of the work.
// It is made to be deferred with the address of a named result:
//
//	func (c *client) call(ctx context.Context) (err error) {
//		p, err := c.limiter.Acquire(ctx, 1)
//		if err != nil {
//			return err
//		}
//		defer p.Done(&err)
//		...
//
// If err is not the named result, Done sees nil where the work failed; [Do]
// has no such trap. Only the first call on any copy of a permit counts, and
// Done is safe for concurrent use.
//
// A nil pointer is neutral: the units are released and nothing is learned. So
// is an error that matches [context.Canceled], or the cause of the
// cancellation, once the context of Acquire has been cancelled: that the caller
// left says nothing about the work. An expired deadline is a failure. A panic
// is a failure, too, and passes on, provided that Done itself is the deferred
// function and not called by one.
func (p Permit) Done(err *error) {
	v := recover() // must be called here: it works in the deferred function only
	if v != nil {
		p.done(true, newPanicError(v))
		panic(v)
	}
	if err == nil {
		p.done(false, nil)
		return
	}
	p.done(true, *err)
}

func (p Permit) done(known bool, err error) {
	s := p.slot
	if s == nil || !s.gen.CompareAndSwap(p.gen, p.gen+1) {
		return
	}
	ctx := s.ctx
	s.ctx = nil // a slot in a free list must keep nothing of the request alive
	if err != nil && callerLeft(ctx, err) {
		known, err = false, nil
	}
	if s.owner != nil {
		s.owner.settle(s, p.units, known, err)
		return
	}
	s.release(known, err)
}

// callerLeft reports whether err is nothing but the caller's own cancellation.
func callerLeft(ctx context.Context, err error) bool {
	return ctx.Err() == context.Canceled &&
		(errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// held reports whether Done has not been called yet.
func (p Permit) held() bool { return p.slot != nil && p.slot.gen.Load() == p.gen }

// Context returns ctx marked so that a nested Acquire of the same limiter
// borrows p instead of waiting for it, which would never end: the nested permit
// is the zero one. It costs one allocation for a [Semaphore];
// for the zero Permit and for limiters that cannot deadlock it returns ctx
// itself.
//
// A borrower may ask for as many units as p holds; for more it is refused at
// once. Borrowers are not counted, so what runs concurrently below one permit
// needs a limit of its own, as every fan-out has.
func (p Permit) Context(ctx context.Context) context.Context {
	if p.slot == nil || p.slot.owner == nil {
		return ctx
	}
	mark := p.slot.owner.mark()
	if mark == nil {
		return ctx
	}
	return &permitContext{ctx, p, mark}
}

type permitContext struct {
	context.Context //nolint:containedctx // it is one
	permit          Permit
	mark            any
}

// Value implements [context.Context].
func (c *permitContext) Value(key any) any {
	if key == c.mark {
		return c
	}
	return c.Context.Value(key)
}

// lent returns the units of the permit that ctx carries under mark, 0 if there
// is none or it has been returned.
func lent(ctx context.Context, mark any) int64 {
	if c, ok := ctx.Value(mark).(*permitContext); ok && c.permit.held() {
		return c.permit.units
	}
	return 0
}

// refusal is the error for what will never be admitted.
func refusal(format string, args ...any) error {
	return Permanent(fmt.Errorf("%w: "+format, append([]any{ErrRejected}, args...)...))
}

// errExited is what the limiter learns if f leaves through runtime.Goexit.
var errExited = errors.New("concurrency: Do: the function called runtime.Goexit")

// Do acquires one unit of l, calls f, and returns the unit with f's result. If
// l does not admit it, f is not called and the error is that of Acquire.
// Otherwise value and error are those of f, unchanged. f's context is marked by
// [Permit.Context], so f may use l again. A panic of f counts as a failure and
// passes on. Do panics if l or f is nil.
func Do[R any](ctx context.Context, l Limiter, f func(context.Context) (R, error)) (R, error) {
	mustCall("Do", l != nil && f != nil)
	p, err := l.Acquire(ctx, 1)
	if err != nil {
		var zero R
		return zero, err
	}
	outcome := errExited
	defer p.Done(&outcome)
	v, err := f(p.Context(ctx))
	outcome = err
	return v, err
}

// Stats is what a [Limiter] of this package says about itself. The counts start
// at zero when the limiter is made and never go down.
type Stats struct {
	// Limit is the units there are: the size of a [Semaphore], the burst of a
	// [Rate], what an [Admission] would admit to now. 0 for a [Breaker].
	Limit int64
	// InFlight is the units that are out now. A [Rate] does not count them.
	InFlight int64
	// Waiting is the calls of Acquire that wait now.
	Waiting int64
	// Admitted counts permits given. Borrowed ones ([Permit.Context]) are not
	// among them.
	Admitted uint64
	// Rejected counts calls of Acquire that were not admitted: refused, dropped
	// from the queue, or their context ended.
	Rejected uint64
	// Failed counts permits whose Done reported a failure. A [Rate] does not
	// learn of any.
	Failed uint64
	// Open tells that a [Breaker] refuses; it admits single probes perhaps.
	Open bool
}
