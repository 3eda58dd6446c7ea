package drift

import (
	"math"
	"math/rand/v2"
	"testing"
)

// source draws independent values, shifted by so many of their standard deviations.
type source struct {
	name string
	draw func(r *rand.Rand) float64
	sd   float64
}

var sources = []source{
	{"normal", (*rand.Rand).NormFloat64, 1},
	{"five-values", func(r *rand.Rand) float64 { return float64(r.IntN(5)) }, math.Sqrt2},
	{"zero-inflated", func(r *rand.Rand) float64 { return max(0, r.ExpFloat64()-0.7) }, 0.87},
	{"bits", func(r *rand.Rand) float64 { return number(r.IntN(10) == 0) }, 0.3},
	{"heavy", func(r *rand.Rand) float64 { return math.Pow(r.Float64(), -0.6) }, 1.5},
	{"constant", func(*rand.Rand) float64 { return 4 }, 1},
}

// firstAlarm returns how many values it took, or most+1.
func firstAlarm(d Detector, most int, next func() float64) int {
	for i := range most {
		if d.Observe(next()) == Drift {
			return i + 1
		}
	}
	return most + 1
}

// The chance of an alarm within T values is at most T/RunLength, whatever the
// distribution and however small the reference, while looking at every value. And it is not
// kept by being deaf: a tenth of the allowed alarms do come, where there are no ties.
func TestEProcessUnderContinuousLooking(t *testing.T) {
	reps := 150
	switch {
	case soak:
		reps = 20_000
	case brief():
		reps = 20
	}
	const runLength, horizon = 20_000, 4000 // a chance of at most 0.2
	for _, s := range sources {
		for _, n := range []int{20, 200, 2000} {
			alarms := 0
			for rep := range reps {
				r := rand.New(rand.NewPCG(uint64(rep), uint64(n)))
				ref := make([]float64, n)
				for i := range ref {
					ref[i] = s.draw(r)
				}
				d := &EProcess{Reference: ref, RunLength: runLength, Seed: uint64(rep)}
				if rep%2 == 1 { // learned from the stream
					d.Reference, d.Learn = nil, n
					for _, x := range ref {
						d.Observe(x)
					}
				}
				if firstAlarm(d, horizon, func() float64 { return s.draw(r) }) <= horizon {
					alarms++
				}
			}
			allowed := float64(reps) * horizon / runLength
			if alarms > atMost(allowed) {
				t.Errorf("%s, reference of %d: %d alarms in %d runs, %.0f allowed", s.name, n, alarms, reps, allowed)
			}
			if s.name == "normal" && n == 2000 && float64(alarms) < allowed/10 && !brief() {
				t.Errorf("%s, reference of %d: only %d alarms where %.0f are allowed", s.name, n, alarms, allowed)
			}
			if soak || testing.Verbose() {
				t.Logf("%-14s n=%-5d alarms %.4f of the runs, at most %.2f allowed", s.name, n, float64(alarms)/float64(reps), float64(horizon)/runLength)
			}
		}
	}
}

// A window of SlidingKS is beyond the limit no more often than alpha says, averaged over
// references, with ties too.
func TestSlidingKSLevel(t *testing.T) {
	reps := 60
	switch {
	case soak:
		reps = 20_000
	case brief():
		reps = 10
	}
	for _, s := range sources {
		for _, c := range []struct{ n, m int }{{1000, 100}, {500, 500}, {200, 50}} {
			hits := 0
			r := rand.New(rand.NewPCG(uint64(c.n), uint64(c.m)))
			ref := make([]float64, c.n)
			for range reps {
				for i := range ref {
					ref[i] = s.draw(r)
				}
				d, err := NewSlidingKS(ref, c.m, 0.05)
				if err != nil {
					t.Fatal(err)
				}
				for range c.m {
					d.Observe(s.draw(r))
				}
				if d.Verdict() == Drift {
					hits++
				}
			}
			if hits > atMost(0.05*float64(reps)) {
				t.Errorf("%s, %d against %d: %d of %d windows without drift are beyond the limit of 5 %%", s.name, c.m, c.n, hits, reps)
			}
			if soak || testing.Verbose() {
				t.Logf("%-14s %d against %d: %.4f beyond the limit of 0.05", s.name, c.m, c.n, float64(hits)/float64(reps))
			}
		}
	}
}

// The table in the comment of SlidingKS, and what the comments of PageHinkley and KSWIN say: the mean
// number of values to an alarm without drift, within a factor of two.
func TestRunLengths(t *testing.T) {
	if brief() {
		t.Skip("arithmetic in one goroutine")
	}
	sliding := func(alpha float64) func(r *rand.Rand) Detector {
		return func(r *rand.Rand) Detector {
			d, err := NewSlidingKS(draws(r, 5000), 500, alpha)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	for _, c := range []struct {
		name  string
		make  func(r *rand.Rand) Detector
		says  float64 // values
		short bool    // within a second or so
	}{
		{"SlidingKS 0.01", sliding(0.01), 13 * 500, true},
		{"SlidingKS 0.001", sliding(0.001), 110 * 500, true},
		{"SlidingKS 0.0001", sliding(0.0001), 900 * 500, false},
		{"SlidingKS 0.00001", sliding(0.00001), 6000 * 500, false},
		{"PageHinkley", func(*rand.Rand) Detector { return &PageHinkley{} }, 110_000, true},
		{"KSWIN", func(*rand.Rand) Detector { return &KSWIN{} }, 100_000, false},
	} {
		if !c.short && !soak {
			continue
		}
		reps := 25
		if soak {
			reps = 200
		}
		sum, alarms := 0.0, 0
		for rep := range reps {
			r := rand.New(rand.NewPCG(uint64(rep), 77))
			most := int(4 * c.says)
			n := firstAlarm(c.make(r), most, r.NormFloat64)
			sum += float64(min(n, most))
			if n <= most {
				alarms++
			}
		}
		mean := sum / float64(max(alarms, 1)) // the estimate for a waiting time that is cut off
		t.Logf("%s: an alarm in %.0f values, %d alarms seen; the comment says %.0f", c.name, mean, alarms, c.says)
		if mean < c.says/2 || mean > c.says*2 {
			t.Errorf("%s: an alarm in %.0f values, the comment says %.0f", c.name, mean, c.says)
		}
	}
}

func draws(r *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64()
	}
	return v
}

// How long it takes to find a shift after a stretch without one. The table is printed; the
// bounds are twice what was measured when the defaults were chosen.
func TestDetectionDelay(t *testing.T) {
	reps := 10
	switch {
	case soak:
		reps = 500
	case brief():
		reps = 2
	}
	makes := map[string]func(r *rand.Rand) Detector{
		"PageHinkley": func(*rand.Rand) Detector { return &PageHinkley{} },
		"ADWIN":       func(*rand.Rand) Detector { return &ADWIN{} },
		"KSWIN":       func(*rand.Rand) Detector { return &KSWIN{} },
		"EProcess":    func(r *rand.Rand) Detector { return &EProcess{Reference: draws(r, 10_000)} },
		"SlidingKS 500": func(r *rand.Rand) Detector {
			d, err := NewSlidingKS(draws(r, 10_000), 500, 1e-5)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	}
	most := map[string]map[float64]float64{
		"PageHinkley": {1: 80, 0.5: 190}, "ADWIN": {1: 100, 0.5: 240}, "EProcess": {1: 60, 0.5: 200, 0.3: 480}, "SlidingKS 500": {1: 250, 0.5: 480, 0.3: 820},
	}
	for name, build := range makes {
		for _, shift := range []float64{0.3, 0.5, 1} {
			sum, missed, early := 0.0, 0, 0
			for rep := range reps {
				r := rand.New(rand.NewPCG(uint64(rep), 5))
				d := build(r)
				if firstAlarm(d, 2000, r.NormFloat64) <= 2000 {
					early++
					continue
				}
				n := firstAlarm(d, 5000, func() float64 { return r.NormFloat64() + shift })
				if n > 5000 {
					missed++
				}
				sum += float64(n)
			}
			mean := sum / float64(max(1, reps-early))
			t.Logf("%-14s shift %.1f: found after %.0f values, %d of %d not within 5,000, %d alarms before it", name, shift, mean, missed, reps, early)
			if limit := most[name][shift]; limit > 0 && mean > limit {
				t.Errorf("%s, shift %.1f: found after %.0f values, at most %.0f expected", name, shift, mean, limit)
			}
		}
	}
}
