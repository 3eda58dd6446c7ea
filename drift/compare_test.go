package drift

import (
	"math"
	"testing"
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

// Two sparse categories are joined across the one between them, which has no sense for numbers.
func TestCategoriesHaveNoNeighbours(t *testing.T) {
	words := func(a, b, c int) []string {
		var v []string
		for word, n := range map[string]int{"a": a, "b": b, "c": c} {
			for range n {
				v = append(v, word)
			}
		}
		return v
	}
	m := monitor(t, fitted(t, Categories("x", words(15, 200, 15))), &MonitorOptions{Now: newClock().Now})
	h, err := m.Categorical("x")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range words(24, 200, 6) {
		h.Observe(s)
	}
	// a and c have 39 and 21 of 460 rows, half of each in the smaller sample: 19.5 and 10.5.
	if s := scoreOf(m.Report().Features[0], "chi-square"); s.Stat != 0 || s.Null != 1 || !s.HasP {
		t.Errorf("%+v: of two bins, 200 and 30, nothing has moved", s)
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
	for name, f := range map[string]*feature{
		"three categories":      {kind: categorical, present: 100, counts: make([]int64, 3)},
		"three bins of 9 cells": {kind: numeric, present: 100, counts: make([]int64, 9), bins: 3},
	} {
		want := (-2*math.Log(0.01/4) - 2) * (1./100 + 1./150)
		if got := f.minDetectable(0.01, 4, observed{present: 50}, 3); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if got := f.minDetectable(0, 4, observed{present: 50}, 3); got != 0 {
			t.Errorf("%s: %v without a budget", name, got)
		}
	}
}
