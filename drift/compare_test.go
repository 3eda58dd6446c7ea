package drift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// lookedAt is what a monitor says of a window of these values, the only column of the reference.
func lookedAt(t *testing.T, ref *Reference, values ...float64) FeatureReport {
	t.Helper()
	m := monitor(t, ref, &MonitorOptions{Now: newClock().Now})
	h := handle(t, m, ref.features[0].name)
	for _, x := range values {
		h.Observe(x)
	}
	return m.Report().Features[0]
}

// upFrom are n values in steps of 1.
func upFrom(x float64, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = x + float64(i)
	}
	return v
}

func scoreOf(f FeatureReport, method string) Score {
	for _, s := range f.Scores {
		if s.Method == method {
			return s
		}
	}
	return Score{}
}

func TestSharesByHand(t *testing.T) {
	nan := math.NaN()
	values := append(upFrom(1, 30), nan, nan, nan, nan, nan, nan, nan, nan, nan, nan)
	f := lookedAt(t, fitted(t, Numbers("x", values)), -1, 0, 1, 15, 30, 31, nan, nan, nan, nan)
	if f.Missing != 0.4 || f.OutOfRange != 0.5 {
		t.Errorf("%v missing and %v out of range, want 0.4 and of six -1, 0 and 31", f.Missing, f.OutOfRange)
	}
	// 4 of 10 rows less 10 of 40.
	if s := scoreOf(f, "missing fisher"); math.Abs(s.Stat-0.15) > 1e-15 || s.Effect != s.Stat || s.N != 40 || s.M != 10 || !s.HasP {
		t.Errorf("missing: %+v", s)
	}
	f = lookedAt(t, fitted(t, Numbers("x", values)), upFrom(1, 15)...)
	if s := scoreOf(f, "missing fisher"); s.Stat != -0.25 || s.Effect != 0.25 || s.M != 15 {
		t.Errorf("none missing of 15 and 10 of 40: %+v", s)
	}
	// What the reference has no range for is beyond it, and there is nothing to order.
	f = lookedAt(t, fitted(t, Numbers("x", []float64{nan, nan})), 3)
	if f.OutOfRange != 1 || scoreOf(f, "ks") != (Score{Method: "ks", P: 1, M: 1}) {
		t.Errorf("a reference without values: %+v", f)
	}
	f = lookedAt(t, fitted(t, Numbers("x", []float64{1, 2, 3})), nan)
	if f.OutOfRange != 0 || scoreOf(f, "ks") != (Score{Method: "ks", P: 1, N: 3}) {
		t.Errorf("a window without values: %+v", f)
	}
}

// words are as many of each as are asked for.
func words(counts map[string]int) []string {
	var v []string
	for word, n := range counts {
		for range n {
			v = append(v, word)
		}
	}
	return v
}

// observedAt is what a monitor says of a window of these categories, the only column of the reference.
func observedAt(t *testing.T, ref *Reference, values []string) FeatureReport {
	t.Helper()
	m := monitor(t, ref, &MonitorOptions{Now: newClock().Now})
	h, err := m.Categorical(ref.features[0].name)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range values {
		h.Observe(s)
	}
	return m.Report().Features[0]
}

// Two sparse categories are joined past a frequent one between them, which stays alone.
func TestSparseCategoriesJoinPastAFrequentOne(t *testing.T) {
	ref := fitted(t, Categories("x", words(map[string]int{"a": 15, "b": 200, "c": 15})))
	f := observedAt(t, ref, words(map[string]int{"a": 24, "b": 200, "c": 6}))
	if s := scoreOf(f, "chi-square"); s.Stat != 0 || s.Null != 1 || !s.HasP {
		t.Errorf("%+v: of two cells, 200 and 30, nothing has moved", s)
	}
	// For the mean of PSI they are enough, so that its cells are three; so 9 rows of 230 go from 15 to 24 and from 15 to 6.
	half := func(x float64) float64 { return (x + 0.5) / (230 + 1.5) }
	want := (half(24)-half(15))*math.Log(half(24)/half(15)) + (half(6)-half(15))*math.Log(half(6)/half(15))
	if s := scoreOf(f, "psi"); math.Abs(s.Stat-want) > 1e-12 || math.Abs(s.Null-2*2./230) > 1e-15 {
		t.Errorf("%+v, want PSI %v of three cells", s, want)
	}
}

// A category so rare that nothing can be joined with it is seen when it is not rare any more.
func TestRareCategoryGrows(t *testing.T) {
	ref := fitted(t, Categories("x", words(map[string]int{"free": 3500, "pro": 1490, "team": 10})))
	for no, c := range map[string]map[string]int{
		"from what is next to it":  {"free": 350, "pro": 134, "team": 16},
		"from what is most common": {"free": 335, "pro": 149, "team": 16},
	} {
		if f := observedAt(t, ref, words(c)); f.P > 1e-8 {
			t.Errorf("%s: 16 of 500 and 10 of 5,000 rows: %+v", no, f.Scores)
		}
	}
	ref = fitted(t, Categories("x", words(map[string]int{"yes": 4990, "no": 10})))
	if f := observedAt(t, ref, words(map[string]int{"yes": 484, "no": 16})); f.P > 1e-8 {
		t.Errorf("of two: %+v", f.Scores)
	}
}

// Thousands of categories are compared in cells that the rows suffice for: what moves is told and large, and where nothing has
// moved, nothing is.
func TestManyCategories(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	for _, c := range []struct {
		categories, rows int
		moved            float64
	}{{1000, 1000, 0}, {10_000, 1000, 0}, {1000, 1000, 0.2}, {10_000, 5000, 0.25}, {10_000, 1000, 1}} {
		var v []string
		for range 20 * c.categories {
			v = append(v, names[r.IntN(c.categories)])
		}
		clk := newClock()
		m := monitor(t, fitted(t, Categories("x", v)), &MonitorOptions{Window: Tumbling(c.rows), Now: clk.Now})
		h, err := m.Categorical("x")
		if err != nil {
			t.Fatal(err)
		}
		for range 4 * c.rows {
			clk.now = clk.now.Add(time.Second)
			name := names[r.IntN(c.categories)]
			if r.Float64() < c.moved {
				name = "c0"
			}
			h.Observe(name)
		}
		alerts := len(taken(m))
		f := m.Report().Features[0]
		if c.moved == 0 && (alerts != 0 || f.Effect > 0.05) || c.moved > 0 && (alerts != 1 || f.Effect < c.moved) {
			t.Errorf("%d categories, %v of %d rows moved into one: %d alerts, effect %v, p %v", c.categories, c.moved, c.rows, alerts, f.Effect, f.P)
		}
	}
}

// A reference does not know each category of a long tail, and so neither does it those of a window without drift.
func TestLongTail(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	draw := func() string { return fmt.Sprint(int(math.Pow(10_000, r.Float64()))) } // the k-th about as often as 1/k
	v := make([]string, 20_000)
	for i := range v {
		v[i] = draw()
	}
	clk := newClock()
	m := monitor(t, fitted(t, Categories("x", v)), &MonitorOptions{Window: Tumbling(2000), Now: clk.Now})
	h, err := m.Categorical("x")
	if err != nil {
		t.Fatal(err)
	}
	rows := func(n int, fresh float64) FeatureReport {
		for i := range n {
			clk.now = clk.now.Add(time.Second)
			if r.Float64() < fresh {
				h.Observe(fmt.Sprint("new", i))
			} else {
				h.Observe(draw())
			}
		}
		return m.Report().Features[0]
	}
	if f := rows(20_000, 0); len(taken(m)) != 0 || f.Unseen < 0.05 || f.Effect > 0.05 || f.P < 0.001 {
		t.Errorf("without drift: %+v", f)
	}
	if f := rows(8000, 0.2); len(taken(m)) != 1 || f.Effect < 0.1 {
		t.Errorf("a fifth is new: %+v", f)
	}
}

// By hand: two rows of 20 have a category of their own and two categories have two rows, so the share of 2 in 20 weighs
// 3/7 of that: 1 in 9.
func TestUnseenByHand(t *testing.T) {
	ref := fitted(t, Categories("x", words(map[string]int{"a": 1, "b": 1, "c": 2, "d": 2, "e": 14})))
	f := observedAt(t, ref, words(map[string]int{"e": 6, "new": 3, "newer": 1}))
	if s := scoreOf(f, "unseen fisher"); math.Abs(s.Stat-0.3) > 1e-15 || s.P != fisher(1, 9, 4, 10) || s.N != 20 || s.M != 10 || f.Unseen != 0.4 {
		t.Errorf("%+v, want 4 of 10 and 2 of 20, with a P of %v", s, fisher(1, 9, 4, 10))
	}
	f = observedAt(t, ref, words(map[string]int{"e": 6}))
	if s := scoreOf(f, "unseen fisher"); s.Stat != -0.1 || s.P != fisher(1, 9, 0, 6) {
		t.Errorf("none unseen is less than expected: %+v", s)
	}
	// PSI has c, d and e, 18 and 6, and unseen, 2 and none.
	part := func(r, c float64) float64 {
		p, q := (r+0.5)/21, (c+0.5)/7
		return (q - p) * math.Log(q/p)
	}
	if s, want := scoreOf(f, "psi"), part(18, 6)+part(2, 0); math.Abs(s.Stat-want) > 1e-12 {
		t.Errorf("%+v, want PSI %v", s, want)
	}
	// Without rows of their own none are expected.
	ref = fitted(t, Categories("x", words(map[string]int{"a": 30, "b": 10})))
	f = observedAt(t, ref, words(map[string]int{"a": 30, "new": 1}))
	if s := scoreOf(f, "unseen fisher"); s.P != fisher(0, 40, 1, 31) || s.Effect != 1./31 {
		t.Errorf("%+v", s)
	}
}

// KS on the cells counts ties where values have cells of their own, and only where a decision is near.
func TestTiesOnCells(t *testing.T) {
	ref := upFrom(1, 8)
	r := fitted(t, Numbers("x", ref))
	tied := append([]float64{6}, upFrom(6.5, 7)...)
	for _, c := range []struct {
		name     string
		ref, cur []float64
		method   string
		d, p     float64
	}{
		{"no ties", ref, upFrom(5.5, 8), "ks exact, closed form", 5. / 8, 2 * 560. / 12870}, // 2 C(16,3) / C(16,8)
		{"one value on both sides", ref, tied, "ks exact", 5. / 8, bruteP(ref, tied, bruteD)},
		{"no decision is near", ref, ref, "ks exact, closed form", 0, 1},
		{"of unequal size", ref, []float64{6.1, 6.2, 6.3, 7.1, 7.2, 7.3, 8.1, 8.2, 8.3, 9, 10, 11}, "ks one-sample", 6. / 8, -1},
	} {
		s := lookedAt(t, r, c.cur...).Scores[1]
		if s.Method != c.method || s.Stat != c.d || c.p >= 0 && math.Abs(s.P-c.p) > 1e-12 {
			t.Errorf("%s: %+v, want %q with D %v and P %v", c.name, s, c.method, c.d, c.p)
		}
	}
	// In the cells of another reference a value's own may hold none.
	part, err := r.Fit(Numbers("x", []float64{1, 2, 2, 4, 5, 6, 7}))
	if err != nil {
		t.Fatal(err)
	}
	ref, cur := []float64{1, 2, 2, 4, 5, 6, 7}, []float64{6.5, 6.6, 7, 7.5, 9, 9.5}
	if s := lookedAt(t, part, cur...).Scores[1]; s.Method != "ks exact" || math.Abs(s.P-bruteP(ref, cur, bruteD)) > 1e-12 {
		t.Errorf("%+v, want P %v", s, bruteP(ref, cur, bruteD))
	}
}

// Products of counts as large as a reference may have do not fit into 64 bits.
func TestKSOfHugeCounts(t *testing.T) {
	f := *fitted(t, Numbers("x", []float64{1, 2})).features[0]
	f.counts = []int64{0, 1<<37 + 1, 0, 1 << 37, 0}
	f.present = 1<<38 + 1
	s := f.ks(observed{present: 1<<30 + 1, counts: []int{0, 3 << 28, 0, 1<<28 + 1, 0}})
	if math.Abs(s.Stat-0.25) > 1e-8 {
		t.Errorf("%+v: three quarters of the window are 1, and half of the reference", s)
	}
	most := math.MaxInt>>32 + 1 // 2^31, where an int holds it
	f.counts, f.present = []int64{0, 3 << 35, 0, 3 << 35, 0}, 3<<36
	for _, m := range []int{most, 2 * most} {
		if s := f.ks(observed{present: m, counts: []int{0, m, 0, 0, 0}}); math.Abs(s.Stat-0.5) > 1e-8 {
			t.Errorf("%+v: all of the window is 1, and half of the reference", s)
		}
	}
}

// By hand: with two degrees of freedom the upper tail of chi-square is exp(-x/2).
func TestMinDetectableByHand(t *testing.T) {
	even := []int64{10, 15, 5, 10, 10, 10, 20, 10, 10}
	for name, f := range map[string]*feature{
		"three categories":           {kind: categorical, present: 100, counts: []int64{40, 30, 30}},
		"five, three of them sparse": {kind: categorical, present: 100, counts: []int64{40, 10, 10, 30, 10}},
		"three bins of 9 cells":      {kind: numeric, present: 100, counts: even, bins: 3, bin: []uint8{0, 0, 0, 1, 1, 1, 2, 2, 2}},
		"four, one of them sparse":   {kind: numeric, present: 100, counts: even, bins: 4, bin: []uint8{0, 0, 1, 2, 2, 2, 3, 3, 3}},
	} {
		o := observed{present: 50, counts: make([]int, len(f.counts))}
		o.counts[0] = 50
		want := (-2*math.Log(0.01/4) - 2) * (1./100 + 1./150)
		if got := f.minDetectable(0.01, 4, o, 3); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		// Of 20 rows alone there are fewer cells.
		o.counts[0], o.present = 20, 20
		want = (chiSquareQuantile(0.01, 1) - 1) * (1./100 + 1./20)
		if got := f.minDetectable(0.01, 1, o, 1); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s, of 20 rows: %v, want %v", name, got, want)
		}
		if got := f.minDetectable(0, 4, o, 3); got != 0 {
			t.Errorf("%s: %v without a budget", name, got)
		}
	}
}
