package drift

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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
		"three apart": many(func() float64 { return float64(3*r.IntN(30)) * 5e-324 }), "one apart": many(func() float64 { return float64(r.IntN(90)) * 5e-324 }),
		"unknown is the largest": many(func() float64 {
			if r.IntN(20) == 0 {
				return math.MaxFloat64
			}
			return 1 + float64(r.IntN(100))
		}),
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

// By hand: categories, what is not among them and what is missing.
func TestCategoryBarsByHand(t *testing.T) {
	bars := func(ref, cur []string) []Bar {
		w := newWindow(fitted(t, Categories("c", ref)))
		for _, s := range cur {
			observeCategory(w, s)
		}
		return w.columns[0].bars(w.columns[0].observed())
	}
	for _, c := range []struct {
		ref, cur string
		want     []Bar
	}{
		{"a,a,a,b", "a,b", []Bar{{"a", 0.75, 0.5}, {"b", 0.25, 0.5}}},
		{"a,b,b,b", "a,a", []Bar{{"b", 0.75, 0}, {"a", 0.25, 1}}},
		{"a,a,a,", "a,a", []Bar{{"a", 0.75, 1}, {"missing", 0.25, 0}}},
		{"a,b", "a,,b,", []Bar{{"a", 0.5, 0.25}, {"b", 0.5, 0.25}, {"missing", 0, 0.5}}},
		{"a,b", "a,x,y,b", []Bar{{"a", 0.5, 0.25}, {"b", 0.5, 0.25}, {"unseen", 0, 0.5}}},
	} {
		if got := bars(strings.Split(c.ref, ","), strings.Split(c.cur, ",")); !slices.Equal(got, c.want) {
			t.Errorf("%q beside %q: %v, want %v", c.cur, c.ref, got, c.want)
		}
	}
	// Of more than 24 the most frequent ones on either side are kept, as shares of their side.
	of := func(n, each int) (out []string) {
		for i := range n * each {
			out = append(out, fmt.Sprint("c", i%n))
		}
		return out
	}
	last := func(b []Bar) Bar { return b[len(b)-1] }
	if b := bars(of(24, 1), of(24, 1)); len(b) != 24 || last(b).Label == "other" {
		t.Errorf("24 categories: %v", b)
	}
	if b := bars(of(25, 1), of(25, 1)); len(b) != 24 || last(b) != (Bar{"other", 2.0 / 25, 2.0 / 25}) {
		t.Errorf("25 categories: %v", b)
	}
	few, many := append(of(30, 1), "z", "z", "z"), of(31, 50)
	if b := bars(few, append(many, "c30")); b[0] != (Bar{"z", 3.0 / 33, 0}) {
		t.Errorf("a tenth of the few of the reference: %v", b)
	}
	if b := bars(append(many, "z"), few); last(b).Label != "other" || b[22] != (Bar{"z", 1.0 / 1551, 3.0 / 33}) {
		t.Errorf("a tenth of the few of the window: %v", b)
	}
}

// By hand: a value each, where there are few.
func TestValueBarsByHand(t *testing.T) {
	bars := func(ref, cur []float64) []Bar {
		f := fitted(t, Numbers("x", ref)).features[0]
		o := observed{rows: len(cur), present: len(cur), counts: make([]int, len(f.counts))}
		for _, x := range cur {
			o.counts[cellOf(f.edges, x)]++
		}
		return f.bars(o)
	}
	if got, want := bars([]float64{0, 0, 1, 5}, []float64{5, 0, 5, 5}), []Bar{{"0", 0.5, 0.25}, {"1", 0.25, 0}, {"5", 0.25, 0.75}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := bars([]float64{0, 0, 1, 5}, []float64{5, 0.5, 7, -1}), []Bar{{"0", 0.5, 0}, {"1", 0.25, 0}, {"5", 0.25, 0.25}, {"other", 0, 0.75}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	values := make([]float64, 25)
	for i := range values {
		values[i] = float64(i)
	}
	if got := bars(values[:24], values[:1]); len(got) != 24 || got[23] != (Bar{"23", 1.0 / 24, 0}) {
		t.Errorf("24 values: %v", got)
	}
	if got := bars(values, values); got[0].Label != "up to 0" {
		t.Errorf("25 values: %v", got)
	}
}

// cut is a feature of so many rows up to each edge, and beyond the last.
func cut(edges []float64, counts ...int64) *feature {
	f := &feature{name: "x", kind: numeric, edges: edges, counts: counts}
	for _, c := range counts {
		f.present += c
	}
	return f
}

// By hand: ranges of a half from 4 to 10, over which those between 4 and 9.8 are spread evenly.
func TestRangeBarsByHand(t *testing.T) {
	f := cut([]float64{0, 4, 9.8}, 1, 49, 49, 1)
	got := f.bars(observed{rows: 20, present: 20, counts: []int{3, 1, 12, 4}})
	want := []Bar{{"up to 4", 0.5, 0.2}}
	for i := range 12 {
		wide := 0.5
		if i == 11 {
			wide = 0.3
		}
		label := fmt.Sprintf("%v to %v", 4+float64(i)/2, 4.5+float64(i)/2)
		want = append(want, Bar{label, 0.49 * wide / 5.8, 0.6 * wide / 5.8})
	}
	want = append(want, Bar{"above 10", 0.01, 0.2})
	if !slices.EqualFunc(got, want, func(a, b Bar) bool {
		return a.Label == b.Label && math.Abs(a.Reference-b.Reference) < 1e-12 && math.Abs(a.Current-b.Current) < 1e-12
	}) {
		t.Errorf("%v\nwant %v", got, want)
	}
}

// By hand: round numbers from where 2 % of the rows are to where 98 % are, or twenty steps of one ratio, which
// from 1 to 1000 are the preferred numbers.
func TestDrawnEdges(t *testing.T) {
	from := func(first, step float64, n int) (out []float64) {
		for i := range n {
			out = append(out, first+float64(i)*step)
		}
		return out
	}
	preferred := []float64{1, 1.41, 2, 2.82, 3.98, 5.62, 7.94, 11.2, 15.8, 22.4, 31.6, 44.7, 63.1, 89.1, 126, 178, 251, 355, 501, 708, 1000}
	for _, c := range []struct{ edges, want []float64 }{
		{[]float64{1, 10, 1000}, preferred},
		{[]float64{10, 20, 200}, from(10, 10, 20)},    // not more than 20 times as much
		{[]float64{1, 201, 1001}, from(100, 100, 10)}, // not more than 4 times as far above the middle as below
		{[]float64{0, 10, 1000}, from(0, 100, 11)},    // no ratio to 0
		{[]float64{-1000, -100, -1}, from(-1000, 100, 11)},
		{[]float64{0, 5, 10.5}, from(0, 1, 12)}, // half a step beyond
		{[]float64{1e-300, 1e-299, 1e-297}, from(1e-298, 1e-298, 10)},
	} {
		got := cut(c.edges, 2, 48, 48, 2).drawnEdges()
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(b) }) {
			t.Errorf("%v: %v, want %v", c.edges, got, c.want)
		}
	}
	for _, c := range []struct{ edges, want []float64 }{ // by ratio: the first two and the last
		{[]float64{1, 2, 21}, []float64{1, 1.16, 21}},
		{[]float64{1, 200, 1001}, []float64{1, 1.41, 1000}},
		{[]float64{3, 30, 3000}, []float64{3, 4.24, 3000}}, // the 20th root of 1000 is 1.4125
		{[]float64{1, 10, math.MaxFloat64}, []float64{1, 2.59e15, math.MaxFloat64}},
	} {
		if got := cut(c.edges, 2, 48, 48, 2).drawnEdges(); len(got) != 21 || got[0] != c.want[0] || got[1] != c.want[1] || got[20] != c.want[2] {
			t.Errorf("%v: %v, want %v", c.edges, got, c.want)
		}
	}
	for _, f := range []*feature{cut([]float64{7}, 5, 0), cut([]float64{7}, 0, 5), cut([]float64{6, 7}, 0, 5, 0)} {
		if got := f.drawnEdges(); !slices.Equal(got, []float64{7}) {
			t.Errorf("%v: %v, want 7", f.counts, got)
		}
	}
}

func TestRoundNumbers(t *testing.T) {
	for x, want := range map[float64]float64{0: 0, 1: 1, 1.01: 2, 2: 2, 2.1: 2.5, 2.5: 2.5, 2.6: 5, 5: 5, 5.1: 10, 10: 10, 300: 500} {
		if got := roundStep(x); got != want {
			t.Errorf("a step of %v for %v, want %v", got, x, want)
		}
	}
	for x, want := range map[float64]float64{1234: 1230, 0.0012345: 0.00123, 999.6: 1000, math.MaxFloat64: math.MaxFloat64} {
		if got := rounded(x); got != want {
			t.Errorf("%v is rounded to %v, want %v", x, got, want)
		}
	}
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{[]float64{-0.5, 0, 1, 9999999, 1e7, 12345678}, "-0.5 0 1 9999999 1e+07 1.23457e+07"},
		{[]float64{-1e7, -9999999, 1234567.5}, "-1e+07 -9999999 1.23457e+06"},
		{[]float64{1.0000001, 1.0000002}, "1.0000001 1.0000002"},
		{[]float64{0.1, 0.1000000001}, "0.1 0.1000000001"},
		{[]float64{1, 1.0000000000000002}, "1 1.0000000000000002"},
	} {
		if got := strings.Join(labels(c.values), " "); got != c.want {
			t.Errorf("%v are written %q, want %q", c.values, got, c.want)
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
