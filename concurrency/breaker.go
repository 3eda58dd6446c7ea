package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrOpen is matched by the error of a [Breaker] that refuses because what it
// guards has failed too often. It matches [ErrRejected], too.
var ErrOpen = fmt.Errorf("%w: breaker open", ErrRejected)

// Breaker is a [Limiter] that stops asking what keeps failing. It counts the
// calls of a rolling window; once FailureRate of them have failed, and they are
// at least MinCalls, it opens: it refuses with [ErrOpen] for OpenFor, marked
// with [RetryAfter]. After that one call at a time is a probe. A probe that
// succeeds closes the breaker, with an empty window; one that fails opens it
// again; one without a verdict makes room for the next, as does one that has
// not come back within OpenFor.
//
// A caller who leaves says nothing about the callee: such calls are not
// counted (see [Permit.Done]). Nor are results of calls that were admitted
// before the breaker last opened or closed.
//
// The zero Breaker is ready to use. Use one per dependency. It is safe for
// concurrent use, starts no goroutine and allocates nothing per call while
// closed. Set the fields before first use; it must not be copied afterwards.
type Breaker struct {
	// FailureRate is the share of failed calls in the window that opens the
	// breaker, up to 1. 0 or less means 0.5; more than 1 never opens.
	FailureRate float64
	// MinCalls is how many calls the window must hold before the share means
	// anything. 0 or less means 20.
	MinCalls int
	// Window is how long a call counts, in steps of a tenth of it. 0 or less
	// means 10 s.
	Window time.Duration
	// OpenFor is the time from opening to the first probe. 0 or less means 5 s.
	OpenFor time.Duration
	// Failure tells whether a call with this error, which is not nil, has
	// failed, or has merely been answered unfavourably, which counts as a
	// success. It is called without a lock and must not panic. Nil means that
	// errors marked [Permanent] are answers, that those which match
	// [ErrRejected] are not counted, since nothing was run, and that all others
	// are failures.
	Failure func(error) bool

	mu         sync.Mutex
	generation uint64 // moves on when the breaker opens or closes
	open       bool
	reopen     time.Duration // while open: when the next probe may start
	clock      clock
	window     window
	slots      slots
	inFlight   int64
	counts     counts
}

var _ Limiter = (*Breaker)(nil)

// counts are those of [Stats].
type counts struct{ admitted, rejected, failed uint64 }

// clock reads the monotonic clock only, which takes half the time of time.Now.
// It starts with begin, which a mutex guards; now needs none if it happens after.
type clock struct{ start time.Time }

func (c *clock) begin() {
	if c.start.IsZero() {
		c.start = time.Now()
	}
}

func (c *clock) now() time.Duration { return time.Since(c.start) }

// Acquire implements [Limiter]. It never waits. n must be positive, or it is
// refused for good; beyond that it makes no difference.
func (b *Breaker) Acquire(ctx context.Context, n int64) (Permit, error) {
	ended := ctx.Err() != nil
	b.mu.Lock()
	if n <= 0 || ended || b.open {
		if err := b.refuse(ctx, n, ended); err != nil {
			b.counts.rejected++
			b.mu.Unlock()
			return Permit{}, err
		}
	}
	b.clock.begin()
	b.inFlight += n
	b.counts.admitted++
	p := b.slots.issue(ctx, b, n)
	p.slot.note.generation = b.generation
	b.mu.Unlock()
	return p, nil
}

// refuse tells why a call is not admitted; nil: it is a probe.
func (b *Breaker) refuse(ctx context.Context, n int64, ended bool) error {
	switch {
	case n <= 0:
		return refusal("breaker: cannot admit %d units", n)
	case ended:
		return fmt.Errorf("concurrency: breaker not asked: %w", endOf(ctx))
	}
	now := b.clock.now()
	if now < b.reopen {
		return RetryAfter(ErrOpen, b.reopen-now)
	}
	b.reopen = now + b.openFor() // a probe that is never returned must not keep it open for ever
	return nil
}

// settle implements owner.
func (b *Breaker) settle(s *slot, n int64, known bool, err error) {
	failed := false
	if known && err != nil {
		known, failed = b.judge(err)
	}
	var now time.Duration
	if known {
		now = b.clock.now() // before the lock, which others want
	}
	b.mu.Lock()
	b.inFlight -= n
	stale := s.note.generation != b.generation
	b.slots.put(s)
	if failed {
		b.counts.failed++
	}
	switch {
	case stale:
	case b.open && !known:
		b.reopen = 0 // the next one may try
	case b.open && failed:
		b.trip(now)
	case b.open:
		b.generation++
		b.open = false
		b.window = window{}
	case known:
		total, bad := b.window.add(now, b.width(), failed)
		if total >= b.minCalls() && float64(bad) >= b.failureRate()*float64(total) {
			b.trip(now)
		}
	}
	b.mu.Unlock()
}

func (b *Breaker) judge(err error) (known, failed bool) {
	if b.Failure != nil {
		return true, b.Failure(err)
	}
	if errors.Is(err, ErrRejected) {
		return false, false
	}
	permanent, _ := Advice(err)
	return true, !permanent
}

func (b *Breaker) trip(now time.Duration) {
	b.generation++
	b.open = true
	b.reopen = now + b.openFor()
}

// mark implements owner: a breaker does not wait, so nesting is safe.
func (b *Breaker) mark() any { return nil }

// Stats returns the present state and the counts so far. Open is true from
// opening until a probe has succeeded.
func (b *Breaker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{
		InFlight: b.inFlight, Admitted: b.counts.admitted, Rejected: b.counts.rejected, Failed: b.counts.failed, Open: b.open,
	}
}

func (b *Breaker) failureRate() float64 {
	if b.FailureRate > 0 {
		return b.FailureRate
	}
	return 0.5
}

func (b *Breaker) minCalls() int64 {
	if b.MinCalls > 0 {
		return int64(b.MinCalls)
	}
	return 20
}

func (b *Breaker) width() time.Duration {
	if b.Window > 0 {
		return max(b.Window/steps, 1)
	}
	return 10 * time.Second / steps
}

func (b *Breaker) openFor() time.Duration {
	if b.OpenFor > 0 {
		return b.OpenFor
	}
	return 5 * time.Second
}

// steps is how many parts a window has; a result counts for one step less than
// the window at least.
const steps = 10

// window counts results of the last steps.
type window struct {
	newest     int           // the part for now
	end        time.Duration // of the newest part, on the clock
	total, bad int64         // the sums
	parts      [steps]struct{ total, bad int64 }
}

// add counts a result and returns how many there are, and the bad among them.
func (w *window) add(now, width time.Duration, bad bool) (total, failed int64) {
	if now >= w.end {
		w.forget(now, width)
	}
	part := &w.parts[w.newest]
	part.total++
	w.total++
	if bad {
		part.bad++
		w.bad++
	}
	return w.total, w.bad
}

// forget makes room for now.
func (w *window) forget(now, width time.Duration) {
	for range min((now-w.end)/width+1, steps) {
		w.newest = (w.newest + 1) % steps
		old := &w.parts[w.newest]
		w.total -= old.total
		w.bad -= old.bad
		old.total, old.bad = 0, 0
	}
	w.end = now - now%width + width
}
