package concurrency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Every duration lies in its bucket, buckets touch, and none is wider than an
// eighth of what it holds.
func TestBuckets(t *testing.T) {
	if last := bucketOf(math.MaxInt64); last != nBuckets-1 {
		t.Errorf("the longest duration is in bucket %d of %d", last, nBuckets)
	}
	end := time.Duration(0)
	for i := range nBuckets {
		begin, width := bounds(i)
		if begin != end || begin >= 16 && width > begin/8 {
			t.Fatalf("bucket %d begins at %d, is %d wide, and the one before ends at %d", i, begin, width, end)
		}
		end = begin + width
		for _, d := range []time.Duration{begin, begin + width - 1} {
			if bucketOf(d) != i {
				t.Fatalf("%d is in bucket %d, not %d", d, bucketOf(d), i)
			}
		}
	}
	if bucketOf(-1) != 0 {
		t.Error("a clock that steps back")
	}
}

// Against the sorted values themselves, for distributions of all shapes.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"uniform":     func() float64 { return 1e6 + 1e6*r.Float64() },
		"exponential": func() float64 { return 2e7 * r.ExpFloat64() },
		"heavy":       func() float64 { return 1e5 / math.Pow(1-r.Float64(), 0.7) },
		"constant":    func() float64 { return 12345 },
		"tiny":        func() float64 { return 3 },
		"mostly zero": func() float64 { return max(0, 1e6*(r.Float64()-0.6)) },
		"two modes": func() float64 {
			if r.Float64() < 0.9 {
				return 1e6
			}
			return 1e9
		},
	} {
		var l latencies
		var all []time.Duration
		for range 1700 {
			d := time.Duration(draw())
			l.add(d)
			all = append(all, d)
		}
		slices.Sort(all)
		for _, q := range []float64{0.5, 0.8, 0.95, 0.99} {
			low, high := l.quantiles(0.3, q)
			for q, got := range map[float64]time.Duration{0.3: low, q: high} {
				want := all[int(math.Ceil(q*float64(len(all))))-1]
				if e := math.Abs(float64(got - want)); e > 0.13*float64(want) && e > 1 {
					t.Errorf("%s: quantile %v is %v, want %v", name, q, got, want)
				}
			}
		}
	}
}

// What is 2000 runs ago counts no more, to the last one of them.
func TestOldLatenciesAreForgotten(t *testing.T) {
	var l latencies
	for range 5000 {
		l.add(time.Hour)
	}
	if n := l.len(); n < generation || n > 2*generation {
		t.Fatalf("%d are remembered", n)
	}
	for range 2 * generation {
		l.add(time.Millisecond)
	}
	if low, high := l.quantiles(0.5, 1); low > 1150*time.Microsecond || high > 1150*time.Microsecond || low < time.Millisecond {
		t.Errorf("median %v, maximum %v", low, high)
	}
}

// Half of two are the lesser: what lies between them is nobody's.
func TestQuantileOfAGap(t *testing.T) {
	var l latencies
	l.add(100)
	l.add(1_000_000)
	if low, high := l.quantiles(0.5, 0.5); low < 96 || low > 112 || high > 112 {
		t.Errorf("the medians of 100 and 1 000 000 are %d and %d", low, high)
	}
}
