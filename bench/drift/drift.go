// Package drift holds the contenders of package drift: what people use today, where
// it is there, and a plain loop that sums the same values, the least that
// looking at each of them can cost.
//
// Two-sample tests compare a million values with a million. Detectors and monitors
// take one value at a time; what they need before the first, a reference or a full
// window, is made before the time begins.
package drift

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/drift"
)

const floor = "ideal: plain sum"

// Groups returns all comparisons of the area. python is the interpreter that may have
// SciPy; if it has not, missing says so, and SciPy is left out. What it runs ends with ctx.
func Groups(ctx context.Context, python string) (groups []measure.Group, missing string) {
	groups = []measure.Group{ks(ctx, python, million), psi(million)}
	if !hasScipy(ctx, python) {
		missing = python + " with scipy"
	}
	groups = append(groups, detectors()...)
	return append(groups, monitors()...), missing
}

const million = 1_000_000

// normals are the same for the same seed. Hardly two are equal, which is what takes KS
// longest: NormFloat64 alone has 32 bits.
func normals(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 0))
	v := make([]float64, n)
	for i := range v {
		v[i] = r.NormFloat64() + 1e-6*r.Float64()
	}
	return v
}

// kept keeps what is computed from being left out.
var kept float64

func sum(values []float64) float64 {
	s := 0.0
	for _, x := range values {
		s += x
	}
	return s
}

func must(ok bool, what ...any) {
	if !ok {
		panic("bench: a contender did not do its work: " + fmt.Sprint(what...)) // its figures are worth nothing
	}
}

// ks compares size values, as they come, with as many that were sorted beforehand. All
// contenders find the same distance; gonum has no p-value.
func ks(ctx context.Context, python string, size int) measure.Group {
	var ref, cur, spare []float64
	var distance float64
	var theirs *scipy
	each := func(name string, f func() float64) measure.Case {
		return measure.Case{Name: name, Run: func(n int) {
			for range n {
				d := f()
				must(d-distance < 1e-12 && distance-d < 1e-12, name, " finds ", d, ", not ", distance)
			}
		}}
	}
	g := measure.Group{
		Name: fmt.Sprintf("drift: KS, %d values against as many sorted", size), Base: floor,
		Open: func() (func(), error) {
			ref, cur, spare = normals(1, size), normals(2, size), make([]float64, size)
			slices.Sort(ref)
			sorted := slices.Clone(cur)
			slices.Sort(sorted)
			distance = stat.KolmogorovSmirnov(ref, nil, sorted, nil)
			var err error
			if theirs, err = openScipy(ctx, python, ref, cur); err != nil {
				return nil, err
			}
			return func() { theirs.close(); ref, cur, spare = nil, nil, nil }, nil
		},
		Cases: []measure.Case{
			{Name: floor, Run: func(n int) {
				for range n {
					kept = sum(ref) + sum(cur)
				}
			}},
			each("KS", func() float64 { return drift.KS(ref, cur).Stat }),
			each("gonum KolmogorovSmirnov, slices.Sort", func() float64 {
				copy(spare, cur)
				slices.Sort(spare)
				return stat.KolmogorovSmirnov(ref, nil, spare, nil)
			}),
		},
		Goals: []measure.Goal{{Case: "KS", AtMostNs: float64(30*time.Millisecond) * float64(size) / million}},
	}
	if hasScipy(ctx, python) {
		g.Cases = append(g.Cases, each("scipy ks_2samp", func() float64 { return theirs.ks() }))
		g.Goals[0].Against, g.Goals[0].AtMost = "scipy ks_2samp", 1.0/8
	}
	return g
}

// psi counts size values into the bins of a reference of a hundredth of that; the
// time includes finding the bins.
func psi(size int) measure.Group {
	var ref, cur []float64
	return measure.Group{
		Name: fmt.Sprintf("drift: PSI of %d values", size), Units: size, Base: floor,
		Open: func() (func(), error) {
			ref, cur = normals(1, size/100), normals(2, size)
			return func() { ref, cur = nil, nil }, nil
		},
		Cases: []measure.Case{
			{Name: floor, Run: func(n int) {
				for range n {
					kept = sum(cur)
				}
			}},
			{Name: "PSI", Run: func(n int) {
				for range n {
					s := drift.PSI(ref, cur, nil)
					must(s.M == size && s.HasP, "PSI: ", s)
				}
			}},
		},
		Goals: []measure.Goal{{Case: "PSI", AtMostNs: 6}},
	}
}

// stream is values that are taken again and again.
const stream = 1 << 16

// detectors look at one value at a time.
func detectors() []measure.Group {
	return []measure.Group{
		detector("sliding KS, reference 10000, window 1000", 250, func() (drift.Detector, error) {
			return drift.NewSlidingKS(normals(1, 10_000), 1000, 1e-9)
		}, measure.Case{Name: "KS of the window, each time", Run: resort()}),
		detector("ADWIN, clock 32", 40, func() (drift.Detector, error) { return &drift.ADWIN{Clock: 32}, nil }),
		detector("e-process, reference 10000", 25, func() (drift.Detector, error) {
			return &drift.EProcess{Reference: normals(1, 10_000), RunLength: 1e12}, nil
		}),
	}
}

func detector(name string, ns float64, open func() (drift.Detector, error), others ...measure.Case) measure.Group {
	var d drift.Detector
	var values []float64
	var at int
	ours := "Observe"
	return measure.Group{
		Name: "drift: " + name, Base: floor,
		Open: func() (func(), error) {
			var err error
			if d, err = open(); err != nil {
				return nil, err
			}
			values, at = normals(3, stream), 0
			for _, x := range values {
				d.Observe(x)
			}
			must(d.Verdict() != drift.Insufficient, name, " has not begun")
			return func() { d, values = nil, nil }, nil
		},
		Cases: append([]measure.Case{
			{Name: floor, Run: func(n int) {
				s := 0.0
				for i := range n {
					s += values[i&(stream-1)]
				}
				kept = s
			}},
			{Name: ours, Run: func(n int) {
				for range n {
					d.Observe(values[at&(stream-1)])
					at++
				}
				must(d.Verdict() != drift.Insufficient, name, " forgot")
			}},
		}, others...),
		Goals: []measure.Goal{{Case: ours, AtMostNs: ns, NoAllocs: true}},
	}
}

// resort is what one does without a sliding test.
func resort() func(n int) {
	var ref, values []float64
	at := 0
	return func(n int) {
		if ref == nil {
			ref, values = normals(1, 10_000), normals(3, stream+1000)
			slices.Sort(ref)
		}
		for range n {
			kept = drift.KS(ref, values[at:at+1000]).Stat
			at = (at + 1) & (stream - 1)
		}
	}
}

// monitors are written to by two goroutines, each of which counts a value of its own per
// operation, so the time is what one of them takes for one value.
func monitors() []measure.Group {
	return []measure.Group{
		monitor("numeric, windows of an hour", drift.Every(time.Hour), true),
		monitor("numeric, windows of 5000 rows, judged meanwhile", drift.Tumbling(5000), false),
	}
}

func monitor(name string, cut drift.Window, goal bool) measure.Group {
	const writers = 2
	var handle *drift.Numeric
	var values []float64
	g := measure.Group{
		Name: "drift: monitor, two writers, " + name, Base: floor,
		Open: func() (func(), error) {
			ref, err := drift.Fit(drift.Numbers("x", normals(1, 50_000)))
			if err != nil {
				return nil, err
			}
			m, err := drift.NewMonitor(ref, &drift.MonitorOptions{Window: cut})
			if err != nil {
				return nil, err
			}
			if handle, err = m.Numeric("x"); err != nil {
				return nil, err
			}
			values = normals(2, stream)
			handle.Observe(0)
			must(m.Report().Rows > 0, "nothing is counted")
			return func() { handle, values = nil, nil }, nil
		},
		Cases: []measure.Case{
			{Name: floor, Run: func(n int) {
				sums := make([]float64, 16*writers) // a cache line apart
				together(writers, func(w int) {
					s := 0.0
					for i := range n {
						s += values[i&(stream-1)]
					}
					sums[16*w] = s
				})
				kept = sums[0]
			}},
			{Name: "one atomic counter for both", Run: func(n int) {
				var count atomic.Uint64
				together(writers, func(int) {
					for range n {
						count.Add(1)
					}
				})
			}},
			{Name: "Observe", Run: func(n int) {
				together(writers, func(w int) {
					for i := range n {
						handle.Observe(values[(i+w*stream/writers)&(stream-1)])
					}
				})
			}},
		},
	}
	if goal {
		g.Cases = append(g.Cases, measure.Case{Name: "the clock alone", Run: func(n int) {
			start := time.Now()
			together(writers, func(int) {
				for range n {
					if time.Since(start) > 24*time.Hour {
						panic("bench: a day has passed")
					}
				}
			})
		}})
		g.Goals = []measure.Goal{{Case: "Observe", AtMostNs: 80, NoAllocs: true}}
	}
	return g
}

func together(writers int, f func(w int)) {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

// temp is a file with values as they are in memory.
func temp(values []byte) (string, error) {
	f, err := os.CreateTemp("", "bench-drift-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(values)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return f.Name(), err
}
