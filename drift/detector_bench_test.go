package drift

import (
	"testing"
	"time"
)

// BenchmarkDetectors prints ns per observation, and as "x sum" how many times that is of a
// plain loop that sums the same values, timed beside it in the same run.
func BenchmarkDetectors(b *testing.B) {
	values := normals(9, 1<<16)
	bits := make([]float64, len(values))
	for i, x := range values {
		if x > 1.3 {
			bits[i] = 1
		}
	}
	sliding := func(n, m int) *SlidingKS {
		d, err := NewSlidingKS(normals(1, n), m, 1e-6)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name   string
		d      Detector
		values []float64
	}{
		{"SlidingKS/reference=1e3/window=1e3", sliding(1000, 1000), values},
		{"SlidingKS/reference=1e4/window=1e3", sliding(10_000, 1000), values},
		{"SlidingKS/reference=1e5/window=1e4", sliding(100_000, 10_000), values},
		{"ADWIN/clock=32", &ADWIN{}, values},
		{"ADWIN/clock=1", &ADWIN{Clock: 1}, values},
		{"EProcess", &EProcess{Reference: normals(1, 10_000), RunLength: 1e12}, values},
		{"PageHinkley", &PageHinkley{}, values},
		{"KSWIN/window=200", &KSWIN{}, values},
		{"DDM", &DDM{}, bits},
		{"EDDM", &EDDM{}, bits},
		{"HDDMA", &HDDMA{}, bits},
		{"HDDMW", &HDDMW{}, bits},
	} {
		b.Run(c.name, func(b *testing.B) {
			for _, x := range c.values[:20_000] {
				c.d.Observe(x)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.d.Observe(c.values[i&(1<<16-1)])
				i++
			}
			each := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(each/perSummed(c.values), "x-sum")
		})
	}
}

var summed float64 // keeps the loop from being optimised away

// perSummed is the least time of a few, in ns per value.
func perSummed(values []float64) float64 {
	least := time.Duration(1 << 62)
	for range 20 {
		start := time.Now()
		sum := 0.0
		for _, x := range values {
			sum += x
		}
		least = min(least, time.Since(start))
		summed += sum
	}
	return float64(least.Nanoseconds()) / float64(len(values))
}
