package concurrency

import (
	"math/rand/v2"
	"time"
)

// Backoff spreads repetitions with full jitter: the delay before repetition n
// is uniform in [0, min(Max, Min·2ⁿ⁻¹)], so that clients which failed together
// do not return together. The scheme is "full jitter" of Marc Brooker,
// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
//
// The zero Backoff is ready to use. A Backoff is a plain value, safe for
// concurrent use as long as its fields are not written.
type Backoff struct {
	// Min bounds the first delay. 0 or less means 50 ms.
	Min time.Duration
	// Max bounds every delay. 0 or less means 5 s, or Min if that is larger;
	// a Max below Min counts as Min.
	Max time.Duration
}

// Delay returns how long to wait before repetition n; the first repetition,
// after one failure, is 1. An n below 1 counts as 1.
func (b Backoff) Delay(n int) time.Duration {
	return rand.N(b.bound(n) + 1)
}

// bound is the largest value Delay(n) may take.
func (b Backoff) bound(n int) time.Duration {
	low, high := b.Min, b.Max
	if low <= 0 {
		low = 50 * time.Millisecond
	}
	if high <= 0 {
		high = 5 * time.Second
	}
	high = min(max(high, low), 1<<62) // less than that can be doubled, and Delay can add 1
	for ; n > 1 && low < high; n-- {
		low *= 2
	}
	return min(low, high)
}
