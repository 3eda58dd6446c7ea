package drift

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// The bars cover all rows of either side, whatever the values.
func TestBarsCoverAllRows(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	r := rand.New(rand.NewPCG(4, 4))
	many := func(f func() float64) []float64 {
		v := make([]float64, 500)
		for i := range v {
			v[i] = f()
		}
		return v
	}
	columns := map[string][]float64{
		"normal": many(r.NormFloat64), "constant": {7, 7, 7}, "two": {0, 1}, "one": {3}, "missing": {nan, nan},
		"inf": {inf, -inf, nan, 1}, "only inf": {inf}, "huge": many(func() float64 { return (r.Float64() - 0.5) * math.MaxFloat64 * 2 }),
		"tiny": many(func() float64 { return r.Float64() * 5e-320 }), "close": many(func() float64 { return 1e16 + float64(r.IntN(100)) }),
		"skew": many(func() float64 { return math.Exp(3 * r.NormFloat64()) }), "counts": many(func() float64 { return float64(r.IntN(30)) }),
	}
	for name, ref := range columns {
		for with, cur := range columns {
			f := fitted(t, Numbers("x", ref))
			w := newWindow(f)
			m := &Monitor{}
			m.live.Store(w)
			w.rows = math.MaxUint64
			for _, x := range cur {
				(&Numeric{m: m}).Observe(x)
			}
			checkBars(t, name+" with "+with, w.columns[0].bars(w.columns[0].observed()))
		}
	}
	var words []string
	for i := range 1000 {
		words = append(words, fmt.Sprint("c", i*i%97))
	}
	f := fitted(t, Categories("c", words))
	w := newWindow(f)
	for _, s := range []string{"c1", "c4", "new", "", "c96", "c2"} {
		observeCategory(w, s)
	}
	bars := w.columns[0].bars(w.columns[0].observed())
	checkBars(t, "categories", bars)
	if len(bars) != maxBars+2 { // other among the 24, then unseen and missing
		t.Errorf("%d bars", len(bars))
	}
}

func checkBars(t *testing.T, name string, bars []Bar) {
	t.Helper()
	ref, cur := 0.0, 0.0
	seen := map[string]bool{}
	for _, b := range bars {
		if !(b.Reference >= 0 && b.Reference <= 1 && b.Current >= 0 && b.Current <= 1) {
			t.Fatalf("%s: %+v", name, b)
		}
		ref, cur = ref+b.Reference, cur+b.Current
		if seen[b.Label] {
			t.Errorf("%s: two bars are labelled %q", name, b.Label)
		}
		seen[b.Label] = true
	}
	if math.Abs(ref-1) > 1e-9 || math.Abs(cur-1) > 1e-9 || len(bars) > 44 {
		t.Errorf("%s: %d bars cover %v of the reference and %v of the window: %+v", name, len(bars), ref, cur, bars)
	}
}

// A histogram drawn from the cells is near that of the values.
func TestBarsAreTheHistogram(t *testing.T) {
	v := normals(3, 20_000)
	f := fitted(t, Numbers("x", v)).features[0]
	bars := f.bars(observed{rows: 1, missing: 1, counts: make([]int, len(f.counts))})
	edges := f.drawnEdges()
	if len(edges) < 8 || len(edges) > 25 {
		t.Fatalf("edges %v", edges)
	}
	for k := range len(edges) + 1 {
		n := 0
		for _, x := range v {
			if cellOf(edges, x) == k {
				n++
			}
		}
		if off := bars[k].Reference - float64(n)/float64(len(v)); math.Abs(off) > 0.002 {
			t.Errorf("%s: %.4f, want %.4f", bars[k].Label, bars[k].Reference, float64(n)/float64(len(v)))
		}
	}
}

// History is one moment per window, the alarms marked, and survives JSON.
func TestHistory(t *testing.T) {
	clk := newClock()
	m, err := NewMonitor(fitted(t, Numbers("x", normals(1, 5000)), Numbers("y", normals(2, 5000))), &MonitorOptions{Window: Tumbling(500), Now: clk.Now})
	if err != nil {
		t.Fatal(err)
	}
	x, _ := m.Numeric("x")
	y, _ := m.Numeric("y")
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 500 * 10 {
		y.Observe(r.NormFloat64())
		x.Observe(r.NormFloat64() + float64(i/3000))
		clk.step(time.Minute)()
	}
	rep := m.Report()
	moments := rep.Features[0].History
	if len(moments) != 10 {
		t.Fatalf("%d moments of 10 windows", len(moments))
	}
	for i, mo := range moments {
		if i > 0 && !mo.To.After(moments[i-1].To) {
			t.Errorf("moment %d is at %v, after %v", i, mo.To, moments[i-1].To)
		}
		if drifted := i >= 6; drifted != (mo.Verdict == Drift) || mo.Rows < 500 || mo.Alarm != (i == 7) {
			t.Errorf("moment %d: %+v", i, mo)
		}
	}
	for _, mo := range rep.Features[1].History {
		if mo.Alarm {
			t.Error("an alarm of another feature is marked here")
		}
	}
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Features[0].History) != 10 || back.Features[0].Bars[3] != rep.Features[0].Bars[3] {
		t.Errorf("read back: %+v", back.Features[0])
	}
	for range 500 * (maxHistory + 10) {
		y.Observe(0)
	}
	if n := len(m.Report().Features[0].History); n != maxHistory {
		t.Errorf("%d moments are kept, at most %d are to be", n, maxHistory)
	}
}

// An alert stands from the window that raised it until the feature has recovered.
func TestAlertedLasts(t *testing.T) {
	clk := newClock()
	calm := newWorld(3)
	m := monitor(t, calm.reference(t, 10_000, traits[:2]), &MonitorOptions{Window: Tumbling(500), Now: clk.Now})
	steps := func(w *world) string {
		w.feeder(t, m, traits[:2]).rows(500, clk.step(time.Minute))
		said := ""
		for _, f := range m.Report().Features {
			if f.Alerted {
				said += f.Name
			}
		}
		return said
	}
	moved := newWorld(4, "normal")
	for i, want := range []string{"", "", "normal", "normal"} {
		w := calm
		if i > 0 {
			w = moved
		}
		if got := steps(w); got != want {
			t.Fatalf("after window %d: %q stands, want %q", i, got, want)
		}
	}
	for _, a := range taken(m) {
		if !a.Feature.Alerted {
			t.Error("an alert does not say that it is one")
		}
	}
	for i, want := range []string{"normal", "normal", ""} {
		if got := steps(calm); got != want {
			t.Fatalf("calm for %d windows: %q stands, want %q", i+1, got, want)
		}
	}
}
