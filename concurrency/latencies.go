package concurrency

import (
	"math/bits"
	"time"
)

const (
	generation = 1000 // runs until the older half is forgotten
	fineBits   = 3    // a bucket is an eighth of its octave: at most 12.5 % wide
	nBuckets   = (63-fineBits)<<fineBits + 1<<fineBits
)

// latencies knows the quantiles of the last 1000 to 2000 durations. It counts
// them in two generations of buckets, so that adding one is an increment, and
// forgetting is exact and free. Whoever has one guards it.
type latencies struct {
	counts [2][nBuckets]uint16
	now    int    // the generation that is counted in
	n      [2]int // how many each holds
}

func (l *latencies) add(d time.Duration) {
	if l.n[l.now] == generation {
		l.now = 1 - l.now
		l.counts[l.now] = [nBuckets]uint16{}
		l.n[l.now] = 0
	}
	l.counts[l.now][bucketOf(d)]++
	l.n[l.now]++
}

func (l *latencies) len() int { return l.n[0] + l.n[1] }

// quantiles returns the durations below which the shares p <= q of all lie,
// interpolated within their buckets. There must be some.
func (l *latencies) quantiles(p, q float64) (low, high time.Duration) {
	n := float64(l.len())
	below := 0.0
	for i := range l.counts[0] {
		here := float64(l.counts[0][i]) + float64(l.counts[1][i])
		if here == 0 {
			continue
		}
		begin, width := bounds(i)
		at := func(share float64) time.Duration {
			return begin + time.Duration(float64(width)*(share*n-below)/here)
		}
		if low == 0 && below+here >= p*n {
			low = max(at(p), 1)
		}
		if below+here >= q*n {
			return low, at(q)
		}
		below += here
	}
	return low, high // not reached: the last bucket that holds something reaches n
}

// bucketOf is where d is counted. Durations below 16 ns have each their own.
func bucketOf(d time.Duration) int {
	u := uint64(max(d, 0))
	coarse := max(bits.Len64(u)-fineBits-1, 0)
	return coarse<<fineBits + int(u>>coarse)
}

// bounds is the least duration of a bucket, and how many it takes.
func bounds(i int) (begin, width time.Duration) {
	coarse := max(i>>fineBits-1, 0)
	return time.Duration(i-coarse<<fineBits) << coarse, 1 << coarse
}
