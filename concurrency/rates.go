package concurrency

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Rates is a rate limit per key, such as a tenant or a client's address, in
// bounded memory. Make one with [NewRates]. It is safe for concurrent use and
// starts no goroutine.
//
// A key whose bucket is full again is forgotten, which makes no difference to
// it. When there are as many others as there may be, new keys share a single
// bucket until one is forgotten: a flood of made-up keys neither takes the
// memory nor gives anybody's units back, and gets through at the rate of one
// key.
type Rates[K comparable] struct {
	burst int64
	keys  int

	mu     sync.Mutex
	clock  clock
	empty  bucket // of a key that has not been seen
	shared float64
	recent map[K]float64 // when its bucket will be full; bucket.full
	older  map[K]float64 // not used since turned
	turned time.Duration
	counts counts
}

// NewRates returns a limit for each key as [NewRate] makes one. It remembers at
// most keys of them. It
// panics if perSecond is not a positive, finite number, or burst or keys is not
// positive.
func NewRates[K comparable](perSecond float64, burst, keys int) *Rates[K] {
	if keys <= 0 {
		panic(fmt.Sprintf("concurrency: NewRates: %d keys, must be positive", keys))
	}
	return &Rates[K]{
		burst: int64(burst), keys: keys, empty: newBucket("NewRates", perSecond, burst),
		recent: make(map[K]float64), older: make(map[K]float64),
	}
}

// For returns the limiter of key. Unlike a [Rate] it never waits: what is not
// there is refused at once, with an error that matches [ErrRejected] and is
// marked [RetryAfter], as the caller who is to be slowed down is somebody
// else. It holds nothing; all limiters of a key are one.
func (r *Rates[K]) For(key K) Limiter { return keyed[K]{r, key} }

type keyed[K comparable] struct {
	rates *Rates[K]
	key   K
}

// Acquire implements [Limiter].
func (k keyed[K]) Acquire(ctx context.Context, n int64) (Permit, error) {
	return Permit{}, k.rates.take(ctx, k.key, n)
}

func (r *Rates[K]) take(ctx context.Context, key K, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= 0 || n > r.burst {
		r.counts.rejected++
		return refusal("rate of a key: cannot ever admit %d units, the burst is %d", n, r.burst)
	}
	if ctx.Err() != nil {
		r.counts.rejected++
		return fmt.Errorf("concurrency: rate of a key not asked: %w", endOf(ctx))
	}
	r.clock.begin()
	now := r.clock.now()
	if now-r.turned >= nanoseconds(r.empty.slack) {
		// What is in older has not been used for the time it takes to refill.
		clear(r.older)
		r.recent, r.older, r.turned = r.older, r.recent, now
	}
	b := r.empty
	own := true
	if full, ok := r.recent[key]; ok {
		b.full = full
	} else if full, ok = r.older[key]; ok {
		b.full = full
		delete(r.older, key)
		r.recent[key] = full
	} else if own = len(r.recent)+len(r.older) < r.keys; !own {
		b.full = r.shared
	}
	if wait := b.after(now, n); wait > 0 {
		r.counts.rejected++
		return tooLate("rate of a key", n, wait)
	}
	b.take(now, n)
	if own {
		r.recent[key] = b.full
	} else {
		r.shared = b.full
	}
	r.counts.admitted++
	return nil
}

// Stats returns the counts so far, of all keys together. Limit is the burst of
// a key.
func (r *Rates[K]) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Limit: r.burst, Admitted: r.counts.admitted, Rejected: r.counts.rejected}
}
