package drift

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"
)

// What is fuzzed here is what comes from outside: values. The bytes are read as numbers, of which every
// awkward kind is a byte away: the first says how the rest is to be read.

// odd are values that a byte names.
var odd = []float64{
	0, math.Copysign(0, -1), 1, -1, 2, 0.1, 1e300, -1e300, math.MaxFloat64, -math.MaxFloat64,
	math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, 1e-300, 1e15, 1e15 + 1,
}

// values reads one number a byte, or, after an odd first byte, eight bytes a number.
func values(b []byte) []float64 {
	if len(b) == 0 {
		return nil
	}
	how, b := b[0], b[1:]
	var out []float64
	if how%2 == 1 {
		for ; len(b) >= 8; b = b[8:] {
			out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
		return out
	}
	for _, x := range b {
		if int(x) < len(odd) {
			out = append(out, odd[x])
		} else {
			out = append(out, float64(x)/8)
		}
	}
	return out
}

func seedValues(f *testing.F) {
	all := make([]byte, 2+len(odd))
	for i := range odd {
		all[i+1] = byte(i)
	}
	many := make([]byte, 400)
	for i := range many {
		many[i] = byte(i * 37)
	}
	for _, ref := range [][]byte{nil, {0}, {0, 1}, {0, 12, 12}, {0, 2, 2, 2, 2}, all, many, {1, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f}} {
		for _, cur := range [][]byte{nil, {0, 7}, {0, 12}, all, many[5:]} {
			f.Add(ref, cur)
		}
	}
}

// Every statistic of any two samples is finite, has a P only where one is defined, leaves its input alone, and
// says nothing of equal samples.
func FuzzStatistics(f *testing.F) {
	seedValues(f)
	f.Fuzz(func(t *testing.T, r, c []byte) {
		ref, cur := values(r[:min(len(r), 300)]), values(c[:min(len(c), 300)])
		keptRef, keptCur := slices.Clone(ref), slices.Clone(cur)
		for name, s := range map[string]Score{
			"KS": KS(ref, cur), "KSGreater": KSGreater(ref, cur), "PSI": PSI(ref, cur, nil),
			"PSI epsilon":    PSI(ref, cur, &PSIOptions{Bins: 3, Zero: Epsilon, IgnoreMissing: true}),
			"PSI floor":      PSI(ref, cur, &PSIOptions{Bins: 1000, Zero: Floor}),
			"CramerVonMises": CramerVonMises(ref, cur), "AndersonDarling": AndersonDarling(ref, cur, 1),
			"Wasserstein": Wasserstein(ref, cur), "Energy": Energy(ref, cur), "CliffDelta": CliffDelta(ref, cur),
		} {
			soundScore(t, s)
			if s.Effect < 0 || s.Null < 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if len(ref) < 60 && len(cur) < 60 {
			soundScore(t, MMD(oddPairs(ref), oddPairs(cur), 1))
		}
		for name, s := range map[string]Score{"KS": KS(ref, ref), "CliffDelta": CliffDelta(ref, ref)} {
			if s.HasP && s.P < 0.9 {
				t.Errorf("%s of equal samples: %+v", name, s)
			}
		}
		if d := Wasserstein(ref, ref); d.Stat != 0 || d.Effect != 0 {
			t.Errorf("the distance of equal samples: %+v", d)
		}
		same := func(a, b []float64) bool {
			return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
		}
		if !same(ref, keptRef) || !same(cur, keptCur) {
			t.Error("a statistic changed its input")
		}
	})
}

func oddPairs(v []float64) [][]float64 {
	return slices.Collect(slices.Chunk(v[:len(v)/2*2], 2))
}

// Tables of counts, down to none at all.
func FuzzCounts(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0})
	f.Add([]byte{9, 0, 0, 9})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ref, cur []int
		for ; len(b) > 1; b = b[2:] {
			scale := 1
			if b[0] > 250 {
				scale = math.MaxInt >> 23 // as many as there may ever be, 2^40
			}
			ref, cur = append(ref, int(b[0])*scale), append(cur, int(b[1]))
		}
		for _, s := range []Score{
			PSICounts(ref, cur, AddHalf), PSICounts(ref, cur, Epsilon), PSICounts(ref, cur, Floor), ChiSquare(ref, cur), GTest(ref, cur),
			JensenShannon(ref, cur), Hellinger(ref, cur), KullbackLeibler(ref, cur), TotalVariation(ref, cur),
			homogeneity(joinCategories(ref, cur, sparse)), homogeneity(joinNeighbours(ref, cur)),
		} {
			soundScore(t, s)
			if s.Effect < 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// spelled is a category that no report is to be confused by.
func spelled(x float64) string { return fmt.Sprintf("%x", math.Float64bits(x)) }

// A monitor of any reference that sees any values says what can be written down.
func FuzzMonitor(f *testing.F) {
	seedValues(f)
	f.Fuzz(func(t *testing.T, r, c []byte) {
		ref, cur := values(r[:min(len(r), 1000)]), values(c[:min(len(c), 1000)])
		if len(ref) == 0 || len(cur) == 0 {
			return
		}
		texts, labels := make([]string, len(ref)), make([]bool, len(ref))
		for i, x := range ref {
			texts[i], labels[i] = spelled(x), i%3 == 0
		}
		fit, err := Fit(Numbers("x", ref), Categories("c", texts), Predictions("p", ref, labels, 0.5))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := fit.Fit(Numbers("x", cur), Categories("c", texts[:1]), Predictions("p", ref, labels, 0.5)); err != nil {
			t.Error(err)
		} else if sum, err := fit.Merge(again); err != nil || sum.find("x").present+sum.find("x").missing != int64(len(ref)+len(cur)) {
			t.Errorf("the sum of two references: %v", err)
		}
		for _, w := range []Window{Tumbling(100), Decaying(4 * time.Second)} {
			clk := newClock()
			m := monitor(t, fit, &MonitorOptions{Window: w, Confirm: 1, Now: clk.Now})
			p, err := m.Performance()
			if err != nil {
				t.Fatal(err)
			}
			x := handle(t, m, "x")
			c, err := m.Categorical("c")
			if err != nil {
				t.Fatal(err)
			}
			for i := range max(250, len(cur)) {
				v := cur[i%len(cur)]
				x.Observe(v)
				c.Observe(spelled(v))
				id := strconv.Itoa(i)
				p.Predicted(id, v)
				p.Actual(id, i%2 == 0)
				clk.now = clk.now.Add(20 * time.Millisecond)
			}
			soundReport(t, m.Report())
			for _, a := range taken(m) {
				if a.ID == "" || !(a.P <= a.Level) {
					t.Errorf("%+v", a)
				}
			}
		}
	})
}

// Any values in any detector: a verdict, and finite numbers.
func FuzzDetectors(f *testing.F) {
	seedValues(f)
	f.Fuzz(func(t *testing.T, r, c []byte) {
		ref, cur := values(r[:min(len(r), 1000)]), values(c[:min(len(c), 1000)])
		all := detectors(t)
		all["e-process, fuzzed"] = &EProcess{Reference: ref}
		if s, err := NewSlidingKS(ref, 2+len(r)%50, 0.1); err == nil {
			all["sliding-ks, fuzzed"] = s
		}
		for name, d := range all {
			for i := range max(150, len(cur)) {
				if len(cur) == 0 {
					break
				}
				if v := d.Observe(cur[i%len(cur)]); v < Insufficient || v > Drift || v != d.Verdict() {
					t.Fatalf("%s: %v", name, v)
				}
			}
			finiteDetector(t, d)
			if s, ok := d.(*SlidingKS); ok {
				soundScore(t, s.Score())
			}
			if d.Reset(); d.Verdict() != Insufficient {
				t.Errorf("%s: %v after Reset", name, d.Verdict())
			}
		}
	})
}
