package drift

import (
	"math"
	"math/rand/v2"
	"testing"
)

// HDDMA by its description: all values are kept, and at each the cut is sought anew.
func TestHDDMAAgainstAllValuesKept(t *testing.T) {
	alarms, warnings := 0, 0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		d := &HDDMA{Alarm: 0.01, Warn: 0.05, TwoSided: seed%3 != 0}
		var means []float64
		sum, rate := 0.0, 0.5
		for i := range 600 {
			if i%200 == 0 {
				rate = r.Float64()
			}
			x := number(r.Float64() < rate)
			if seed%2 == 1 {
				x = rate / 2 * (1 + r.Float64())
			}
			sum += x
			n := float64(len(means) + 1)
			mean := sum / n
			means = append(means, mean)
			low, high := 0, 0
			bound := func(i int) float64 { return math.Sqrt(math.Log(1/0.01) / 2 / float64(i+1)) }
			for i, m := range means {
				if m+bound(i) <= means[low]+bound(low) {
					low = i
				}
				if m-bound(i) >= means[high]-bound(high) {
					high = i
				}
			}
			want := Stable
			differ := func(cut int, way float64) {
				n0 := float64(cut + 1)
				if n0 == n {
					return
				}
				off := way * (mean - means[cut])
				at := func(level float64) bool { return off >= math.Sqrt((n-n0)/(n*n0)/2*math.Log(2/level)) }
				switch {
				case at(0.01):
					want = Drift
				case at(0.05):
					want = max(want, Warning)
				}
			}
			differ(low, 1)
			if d.TwoSided {
				differ(high, -1)
			}
			if got := d.Observe(x); got != want {
				t.Fatalf("seed %d, value %d: %v, want %v", seed, i, got, want)
			}
			switch want {
			case Drift:
				alarms++
				means, sum = nil, 0
			case Warning:
				warnings++
			}
		}
	}
	if alarms < 30 || warnings < 30 {
		t.Errorf("%d alarms and %d warnings: the streams test little", alarms, warnings)
	}
}

// After long without an error the mean and its bound stay where they are. The cut stays too, at the first of the equal ones:
// the mean since then is weighed with all those zeros, and does not begin with the first error.
func TestHDDMWAfterLongQuiet(t *testing.T) {
	const lambda, quiet = 0.05, 3000
	d := &HDDMW{}
	for range quiet {
		if v := d.Observe(0); v != Stable {
			t.Fatalf("%v without an error", v)
		}
	}
	// In the limit v is lambda/(2-lambda) on both sides, and after k errors the mean since the cut is 1-(1-lambda)^k.
	bound := math.Sqrt(2 * lambda / (2 - lambda) * math.Log(1000) / 2)
	want := int(math.Ceil(math.Log(1-bound) / math.Log(1-lambda)))
	for k := 1; k <= want; k++ {
		if v := d.Observe(1); (v == Drift) != (k == want) {
			t.Fatalf("%v after %d errors, drift is due at %d", v, k, want)
		}
	}
}

// The gaps between errors, worked out by hand, of three errors to warm up.
func TestEDDMByHand(t *testing.T) {
	d := &EDDM{Warm: 3}
	errorAfter := func(gap int) Verdict {
		for range gap - 1 {
			d.Observe(0.5) // is no error
		}
		return d.Observe(0.51)
	}
	for i, c := range []struct {
		gap  int
		want Verdict
	}{
		{4, Insufficient}, // t = 4
		{6, Insufficient}, // mean 5, sd 1.41: 7.83
		{8, Insufficient}, // 6 + 2*2
		{6, Warning},      // 6 + 2*1.63 = 9.27 of 10: between 0.9 and 0.95
	} {
		if got := errorAfter(c.gap); got != c.want {
			t.Fatalf("error %d, gap %d: %v, want %v", i+1, c.gap, got, c.want)
		}
	}
	// Greater than ever: the verdict stays, but is one.
	d = &EDDM{Warm: 3}
	for i, gap := range []int{4, 6, 8, 10, 12} {
		want := Insufficient
		if i >= 3 {
			want = Stable
		}
		if got := errorAfter(gap); got != want || d.Verdict() != want {
			t.Fatalf("error %d, gap %d: %v, want %v", i+1, gap, got, want)
		}
	}
	d.Reset()
	for range 100 {
		if v := d.Observe(0.5); v != Insufficient || d.errors != 0 {
			t.Fatalf("%v, %v errors, and there was none", v, d.errors)
		}
	}
}
