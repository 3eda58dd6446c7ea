package loop

import (
	"math"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 2, 15, 16, 17, 18, 31, 32, 33, 35, 36, 1000, 1 << 20, 1<<20 + 1, 1<<40 - 1, 1 << 40, 1 << 62, math.MaxInt64} {
		b := bucket(v)
		if b < last {
			t.Errorf("%d is in bucket %d, after %d", v, b, last)
		}
		last = b
		u := uint64(upper(b))
		if u < v || float64(u) > float64(v)*1.125 {
			t.Errorf("%d counts as %d", v, u)
		}
		if b > 0 && uint64(upper(b-1)) >= v {
			t.Errorf("%d is in bucket %d, but %d belongs to the one before", v, b, upper(b-1))
		}
	}
}

func TestQuantile(t *testing.T) {
	var h histogram
	if q := h.quantile(0.5); q != 0 {
		t.Errorf("of nothing: %v", q)
	}
	h.add(-1) // a clock that went back
	for v := time.Duration(1); v < 10; v++ {
		h.add(v)
	}
	for q, want := range map[float64]time.Duration{0.1: 0, 0.5: 4, 0.51: 5, 0.9: 8, 0.99: 9, 1: 9} {
		if got := h.quantile(q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
}
