package concurrency

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// Rate is a [Limiter] of units per second, a token bucket. Make one with
// [NewRate]. It is safe for concurrent use and starts no goroutine.
//
// Those who must wait are served first come, first served. Who could only be
// served after the deadline of its context is refused at once and takes
// nothing, so it does not delay those behind. Who leaves while waiting gives
// its place to those behind.
type Rate struct {
	burst int64

	mu      sync.Mutex
	clock   clock
	bucket  bucket
	head    *turn // waits for units; the others wait for it
	tail    *turn
	waiting int64
	queued  int64 // units the waiting ask for
	counts  counts
}

var _ Limiter = (*Rate)(nil)

// bucket is a token bucket as the generic cell rate algorithm of ITU-T I.371
// keeps it: the time at which it will be full again. Times are nanoseconds.
type bucket struct {
	each  float64 // until one unit is back
	slack float64 // until all are
	full  float64
}

// after returns how long it takes until n units are there; for the whole burst
// that is exactly 0 when the bucket is full, or one would wait for ever.
func (b *bucket) after(now time.Duration, n int64) float64 {
	return max(b.full-float64(now), 0) + (float64(n)*b.each - b.slack)
}

func (b *bucket) take(now time.Duration, n int64) {
	b.full = max(b.full, float64(now)) + float64(n)*b.each
}

// turn is one blocked Acquire. mine is sent to once, when it is the head.
type turn struct {
	n          int64
	mine       chan struct{}
	prev, next *turn
}

// NewRate returns a limiter that admits perSecond units per second on average,
// and up to burst at once after a pause; it starts with all of them. It panics
// if perSecond is not a positive, finite number or burst is not positive.
func NewRate(perSecond float64, burst int) *Rate {
	return &Rate{burst: int64(burst), bucket: newBucket("NewRate", perSecond, burst)}
}

func newBucket(name string, perSecond float64, burst int) bucket {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) || burst <= 0 {
		panic(fmt.Sprintf("concurrency: %s: %v per second with a burst of %d: both must be positive and finite", name, perSecond, burst))
	}
	each := float64(time.Second) / perSecond
	return bucket{each: each, slack: each * float64(burst)}
}

// Acquire implements [Limiter]: it takes n units, waiting for them if it must.
// The permit is the zero one: units come back by themselves, and Done need not
// be called.
//
// It fails at once if n is not between 1 and the burst, with an error that
// matches [ErrRejected] and is marked [Permanent]; if ctx is done; and if the
// units would be there only after the deadline of ctx, with an error that
// matches ErrRejected and is marked [RetryAfter].
func (r *Rate) Acquire(ctx context.Context, n int64) (Permit, error) {
	r.mu.Lock()
	if n <= 0 || n > r.burst {
		r.counts.rejected++
		r.mu.Unlock()
		return Permit{}, refusal("rate: cannot ever admit %d units, the burst is %d", n, r.burst)
	}
	if ctx.Err() != nil {
		r.counts.rejected++
		r.mu.Unlock()
		return Permit{}, fmt.Errorf("concurrency: rate not asked: %w", endOf(ctx))
	}
	r.clock.begin()
	now := r.clock.now()
	wait := r.bucket.after(now, r.queued+n)
	if wait <= 0 && r.head == nil {
		r.bucket.take(now, n)
		r.counts.admitted++
		r.mu.Unlock()
		return Permit{}, nil
	}
	if deadline, ok := ctx.Deadline(); ok && wait >= float64(time.Until(deadline)) {
		r.counts.rejected++
		r.mu.Unlock()
		return Permit{}, tooLate("rate", n, wait)
	}
	t := r.push(n)
	r.mu.Unlock()
	return Permit{}, r.wait(ctx, t)
}

func tooLate(name string, n int64, wait float64) error {
	d := nanoseconds(wait)
	return RetryAfter(fmt.Errorf("%w: %s: %d units in %v", ErrRejected, name, n, d.Round(time.Microsecond)), d)
}

// nanoseconds rounds up, so that what is waited for is there.
func nanoseconds(f float64) time.Duration {
	return time.Duration(min(math.Ceil(f), 1<<62))
}

func (r *Rate) wait(ctx context.Context, t *turn) error {
	select {
	case <-t.mine:
	case <-ctx.Done():
		return r.leave(ctx, t)
	}
	for ctx.Err() == nil {
		r.mu.Lock()
		now := r.clock.now()
		wait := r.bucket.after(now, t.n)
		if wait <= 0 {
			r.bucket.take(now, t.n)
			r.counts.admitted++
			r.unlink(t)
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		_ = sleep(ctx, nanoseconds(wait))
	}
	return r.leave(ctx, t)
}

func (r *Rate) leave(ctx context.Context, t *turn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlink(t)
	r.counts.rejected++
	return fmt.Errorf("concurrency: rate: waited for %d units: %w", t.n, endOf(ctx))
}

func (r *Rate) push(n int64) *turn {
	t := &turn{n: n, mine: make(chan struct{}, 1), prev: r.tail}
	if r.tail == nil {
		r.head = t
		t.mine <- struct{}{}
	} else {
		r.tail.next = t
	}
	r.tail = t
	r.waiting++
	r.queued += n
	return t
}

func (r *Rate) unlink(t *turn) {
	if t.next == nil {
		r.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else if r.head = t.next; r.head != nil {
		r.head.mine <- struct{}{} // it was never the head before: the channel is empty
	}
	r.waiting--
	r.queued -= t.n
}

// Stats returns the present state and the counts so far. Limit is the burst.
func (r *Rate) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Limit: r.burst, Waiting: r.waiting, Admitted: r.counts.admitted, Rejected: r.counts.rejected}
}
