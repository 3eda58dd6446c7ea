package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
)

func normals(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 0))
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64()
	}
	return v
}

// The goals of this file, on a quiet machine (compare with BenchmarkSum of the same run):
//
//	go test ./drift -run '^$' -bench 'Sum|KSReference|KSPresorted|Sort|PSICount' -count 8 | benchstat -
//
// KSReference at most 30 ms, PSICount at most 6 ns/value.

// A plain loop over as many values: the floor to compare with.
func BenchmarkSum(b *testing.B) {
	v := normals(2, 1_000_000)
	sum := 0.0
	for b.Loop() {
		for _, x := range v {
			sum += x
		}
	}
	if sum == 1 {
		b.Log(sum)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(v)), "ns/value")
}

// The reference is sorted once, the current values are as they come.
func BenchmarkKSReference(b *testing.B) {
	ref, cur := normals(1, 1_000_000), normals(2, 1_000_000)
	slices.Sort(ref)
	each := func(name string) {
		slices.Sort(ref)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				KS(ref, cur)
			}
		})
	}
	each("few ties") // NormFloat64 has 32 bits
	r := rand.New(rand.NewPCG(3, 0))
	for i := range ref {
		ref[i] += 1e-6 * r.Float64()
		cur[i] += 1e-6 * r.Float64()
	}
	each("no ties")
	for i := range ref {
		ref[i], cur[i] = math.Round(100*ref[i]), math.Round(100*cur[i])
	}
	each("integers")
}

func BenchmarkKSPresorted(b *testing.B) {
	ref, cur := normals(1, 1_000_000), normals(2, 1_000_000)
	slices.Sort(ref)
	slices.Sort(cur)
	for b.Loop() {
		KS(ref, cur)
	}
}

func BenchmarkPSICount(b *testing.B) {
	ref, cur := normals(1, 100_000), normals(2, 1_000_000)
	bins := newBinner(sortedFinite(ref), 10)
	for b.Loop() {
		bins.counts(cur)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(cur)), "ns/value")
}

func BenchmarkObserve(b *testing.B) {
	ref, err := Fit(Numbers("x", normals(1, 50_000)), Categories("c", []string{"a", "b", "c", "d"}))
	if err != nil {
		b.Fatal(err)
	}
	for name, w := range map[string]Window{"tumbling": Tumbling(5000), "every": Every(3600e9)} {
		m, err := NewMonitor(ref, &MonitorOptions{Window: w})
		if err != nil {
			b.Fatal(err)
		}
		x, _ := m.Numeric("x")
		c, _ := m.Categorical("c")
		values := normals(2, 1<<12)
		b.Run(name+"/numeric", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				x.Observe(values[i&(1<<12-1)])
				i++
			}
		})
		b.Run(name+"/numeric-parallel", func(b *testing.B) {
			b.ReportAllocs()
			var start atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				i := int(start.Add(1000))
				for pb.Next() {
					x.Observe(values[i&(1<<12-1)])
					i++
				}
			})
		})
		b.Run(name+"/categorical", func(b *testing.B) {
			for b.Loop() {
				c.Observe("c")
			}
		})
	}
}

// What one closed window costs, per feature.
func BenchmarkJudge(b *testing.B) {
	count := make([]float64, 20_000)
	r := rand.New(rand.NewPCG(3, 0))
	for i := range count {
		count[i] = float64(r.IntN(20))
	}
	ref, err := Fit(Numbers("ties", count), Numbers("x", normals(1, 20_000)))
	if err != nil {
		b.Fatal(err)
	}
	m, err := NewMonitor(ref, nil)
	if err != nil {
		b.Fatal(err)
	}
	w := m.live.Load()
	for i := range 2000 {
		w.columns[0].add(atCells+cellOf(w.columns[0].edges, count[i*7%len(count)]), 0, m.lanes)
		w.columns[1].add(atCells+cellOf(w.columns[1].edges, r.NormFloat64()+0.1), 0, m.lanes)
	}
	for b.Loop() {
		m.opt.assess(m.opt.Window.look(ref, []*pane{w.until(m.opt.Now())}))
	}
}
