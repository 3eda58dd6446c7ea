package loop

import (
	"math"
	"math/bits"
	"time"
)

// Stats is what a [Loop] says about itself. Counts start when it is made and
// never go down.
type Stats struct {
	// Waiting is the posted functions that wait now.
	Waiting int
	// Timers is the timers that have not fired yet.
	Timers int
	// Posted counts the posted functions that were run.
	Posted uint64
	// Fired counts the timers that fired.
	Fired uint64
	// Late50, Late99 and LateMax are how late timers fired: the median and the
	// 99th percentile of all so far, rounded up by at most an eighth, and the
	// largest. They are 0 before the first.
	Late50, Late99, LateMax time.Duration
	// Longest is how long the longest function took.
	Longest time.Duration
}

// histogram counts durations in buckets, eight per power of two; below 16 ns
// each nanosecond has its own.
type histogram struct {
	n       uint64
	buckets [64 * 8]uint64
}

func (h *histogram) add(d time.Duration) {
	h.n++
	h.buckets[bucket(uint64(max(d, 0)))]++
}

func bucket(v uint64) int {
	shift := max(bits.Len64(v)-4, 0) // four digits decide, the first of which is 1
	return shift*8 + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(b int) time.Duration {
	if b < 16 {
		return time.Duration(b)
	}
	shift := b/8 - 1
	v := (uint64(b%8+8)+1)<<shift - 1
	return time.Duration(min(v, math.MaxInt64))
}

// quantile is an upper bound of the value that the share q does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.n)))
	var seen uint64
	for b, n := range h.buckets {
		seen += n
		if n > 0 && seen >= rank {
			return upper(b)
		}
	}
	return 0
}
