package drift

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// The bound is never below the tail, which is counted here over all ways to deal the
// positives of three small cells.
func TestTailBoundIsABound(t *testing.T) {
	w := newWorld(51)
	choose := func(n, k float64) float64 {
		ln := func(x float64) float64 { v, _ := math.Lgamma(x + 1); return v }
		return math.Exp(ln(n) - ln(k) - ln(n-k))
	}
	loosest := 0.0
	for range 300 {
		cells := make([]stratum, 3)
		for i := range cells {
			c := stratum{total: float64(2 + w.IntN(12)), weight: w.Float64()*2 - 1}
			c.window, c.positives = float64(1+w.IntN(int(c.total)-1)), float64(1+w.IntN(int(c.total)-1))
			cells[i] = c
		}
		type outcome struct{ sum, p float64 }
		all := []outcome{{0, 1}}
		for _, c := range cells {
			var next []outcome
			for x := max(0, c.window+c.positives-c.total); x <= min(c.window, c.positives); x++ {
				p := choose(c.positives, x) * choose(c.total-c.positives, c.window-x) / choose(c.total, c.window)
				for _, o := range all {
					next = append(next, outcome{o.sum + c.weight*(x-c.window*c.positives/c.total), o.p * p})
				}
			}
			all = next
		}
		for i := range cells {
			c := &cells[i]
			lo, hi := max(0, c.window+c.positives-c.total), min(c.window, c.positives)
			c.seen = lo + float64(w.IntN(int(hi-lo)+1))
		}
		seen, tail, total := 0.0, 0.0, 0.0
		for _, c := range cells {
			seen += c.weight * (c.seen - c.window*c.positives/c.total)
		}
		for _, o := range all {
			total += o.p
			if o.sum >= seen-1e-9 {
				tail += o.p
			}
		}
		if math.Abs(total-1) > 1e-9 {
			t.Fatalf("the ways add up to %v", total)
		}
		p := tailBound(cells, func(s *stratum) float64 { return s.weight })
		if p < tail*(1-1e-9) || p > 1 {
			t.Errorf("the bound is %v, the tail %v: %+v", p, tail, cells)
		}
		if seen > 0 {
			loosest = max(loosest, p/tail)
		}
	}
	if loosest > 1000 {
		t.Errorf("the bound is up to %.0f times the tail: it would find nothing", loosest)
	}
}

// rare is a stream of calibrated scores below a tenth, so that none passes the threshold.
func (w *world) rare(decayed bool) (float64, bool) {
	s := 0.1 * math.Pow(w.Float64(), 3)
	p := s
	if decayed {
		p = 0.025 // the mean: as many positives, in no order
	}
	return s, w.Float64() < p
}

// A model whose scores never pass the threshold predicts false throughout, and its accuracy
// stays what it was when its scores have lost their meaning. The order tells.
func TestDecayOfTheOrderIsFound(t *testing.T) {
	clk, w := newClock(), newWorld(52)
	n := 40_000
	s, y := make([]float64, n), make([]bool, n)
	for i := range s {
		s[i], y[i] = w.rare(false)
	}
	m := monitor(t, fitted(t, Predictions("p", s, y, 0.5)), &MonitorOptions{Window: Every(time.Hour), Cooldown: -1, Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	hours := func(k int, decayed bool) {
		for i := range k * 6000 {
			s, y := w.rare(decayed)
			id := fmt.Sprint(clk.now.Unix(), i)
			p.Predicted(id, s)
			p.Actual(id, y)
			clk.now = clk.now.Add(600 * time.Millisecond)
		}
	}
	hours(6, false)
	if got := taken(m); len(got) > 0 {
		t.Fatalf("an alert without decay: %+v", got[0])
	}
	hours(4, true)
	got := taken(m)
	if len(got) != 1 || got[0].Feature.Name != "p (performance)" {
		t.Fatalf("%d alerts on scores without meaning: %+v", len(got), m.Report().Performance)
	}
	if a := got[0].Performance; math.Abs(a.Actual.Accuracy-a.Reference.Accuracy) > 0.01 || a.Actual.AUC > 0.58 || a.Reference.AUC < 0.65 {
		t.Errorf("actual %+v, reference %+v", a.Actual, a.Reference)
	}
}

// Requests whose scores are other, and mean the same, are no decay; that their share of positives
// is another is no fault of the calibration.
func TestOtherScoresAreNoDecay(t *testing.T) {
	clk, w := newClock(), newWorld(53)
	m := monitor(t, w.predictions(t, 20_000), &MonitorOptions{Window: Tumbling(2000), Confirm: 1, Cooldown: -1, Weights: map[string]float64{"p": 0}, Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	scores := func(low bool) *PerformanceReport {
		for i := range 6000 {
			s, y := w.scored(false)
			for low && w.Float64() < s {
				s, y = w.scored(false)
			}
			id := fmt.Sprint(clk.now.UnixNano(), i)
			p.Predicted(id, s)
			p.Actual(id, y)
			clk.now = clk.now.Add(time.Second)
		}
		return m.Report().Performance
	}
	if perf := scores(true); perf.Actual.TP+perf.Actual.FN > 0.4*float64(perf.Actual.Rows) {
		t.Fatalf("the scores did not move: %+v", perf.Actual)
	}
	f := m.Report().Features[1]
	for _, s := range f.Scores {
		if (s.Method == "calibration chernoff" || s.Method == "auc chernoff") && s.P < 0.01 {
			t.Errorf("%+v, where scores mean what they did", s)
		}
	}
	// Half as many positives as the scores promise is a fault of the calibration.
	for i := range 4000 {
		s, y := w.scored(false)
		id := fmt.Sprint("worse", i)
		p.Predicted(id, s)
		p.Actual(id, y && w.IntN(2) == 0)
		clk.now = clk.now.Add(time.Second)
	}
	f = m.Report().Features[1]
	for _, s := range f.Scores {
		if s.Method == "calibration chernoff" && (s.P > 1e-9 || math.Abs(s.Stat+0.25) > 0.04) {
			t.Errorf("%+v: a quarter of the rows lost their label", s)
		}
	}
}

// The variance of a hypergeometric variable, by its definition.
func TestStratumVariance(t *testing.T) {
	choose := func(n, k float64) float64 { return math.Exp(lgamma(n+1) - lgamma(k+1) - lgamma(n-k+1)) }
	for total := 1.0; total <= 9; total++ {
		for window := 0.0; window <= total; window++ {
			for positives := 0.0; positives <= total; positives++ {
				mean, square := 0.0, 0.0
				for x := max(0, window+positives-total); x <= min(window, positives); x++ {
					p := choose(positives, x) * choose(total-positives, window-x) / choose(total, window)
					mean, square = mean+p*x, square+p*x*x
				}
				s := stratum{total: total, window: window, positives: positives}
				if math.Abs(s.expected()-mean) > 1e-12 || math.Abs(s.variance()-(square-mean*mean)) > 1e-12 {
					t.Errorf("%+v: mean %v, variance %v, want %v, %v", s, s.expected(), s.variance(), mean, square-mean*mean)
				}
			}
		}
	}
}

// Cells by hand: rows 10, 6, 4 and 20, of which the third has no positives and says nothing. Middle ranks are 5, 13 and 30 of
// 40, and their mean by the variances is taken off.
func TestStrataByHand(t *testing.T) {
	ref := &labelled{positives: []int64{2, 3, 0, 9}, negatives: []int64{4, 1, 3, 3}}
	cur := &labelled{positives: []int64{1, 1, 0, 5}, negatives: []int64{3, 1, 1, 3}}
	got := strata(ref, cur)
	want := []stratum{
		{total: 10, window: 4, positives: 3, seen: 1},
		{total: 6, window: 2, positives: 4, seen: 1},
		{total: 20, window: 8, positives: 14, seen: 5},
	}
	// m k (N-k) (N-m) / (N^2 (N-1))
	variances := []float64{4 * 3 * 7 * 6 / 900.0, 2 * 4 * 2 * 4 / 180.0, 8 * 14 * 6 * 12 / 7600.0}
	mid := []float64{5, 13, 30}
	mean, sum := 0.0, 0.0
	for i, v := range variances {
		mean += v * mid[i]
		sum += v
	}
	if len(got) != len(want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range want {
		want[i].weight = (mid[i] - mean/sum) / 40
		if d := math.Abs(got[i].weight - want[i].weight); d > 1e-14 {
			t.Errorf("weight %v, want %v", got[i].weight, want[i].weight)
		}
		if got[i].weight = want[i].weight; got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

// The bound is the least that any exponent gives: here of many, one after the other.
func TestTailBoundIsTheLeast(t *testing.T) {
	w := newWorld(54)
	one := func(*stratum) float64 { return 1 }
	for range 100 {
		cells := make([]stratum, 1+w.IntN(3))
		sum := 0.0
		for i := range cells {
			c := &cells[i]
			c.total = float64(2 + w.IntN(60))
			c.window, c.positives = float64(1+w.IntN(int(c.total)-1)), float64(1+w.IntN(int(c.total)-1))
			least, most := max(0, c.window+c.positives-c.total), min(c.window, c.positives)
			c.seen = least + float64(w.IntN(int(most-least)+1))
			sum += c.seen - c.expected()
		}
		want := 1.0
		for at := 1e-3; at < 60; at *= 1.002 {
			e := -at * sum
			for i := range cells {
				e += cells[i].logMoment(at)
			}
			want = min(want, math.Exp(e))
		}
		if got := tailBound(cells, one); got > want*(1+1e-4) || got < want*(1-1e-4) && want > 1e-20 {
			t.Errorf("%v, and the least is %v: %+v", got, want, cells)
		}
	}
	// With weights, as the area under the curve has them.
	ref := &labelled{positives: []int64{2, 3, 0, 9}, negatives: []int64{40, 11, 3, 3}}
	cur := &labelled{positives: []int64{10, 1, 0, 5}, negatives: []int64{3, 9, 1, 8}}
	cells, want := strata(ref, cur), 1.0
	for at := 1e-3; at < 60; at *= 1.0005 {
		e := 0.0
		for i := range cells {
			c := &cells[i]
			e += at*c.weight*(c.seen-c.expected()) + c.logMoment(-at*c.weight)
		}
		want = min(want, math.Exp(e))
	}
	if auc, _ := concept(ref, cur, Metrics{TP: 1, TN: 1}, Metrics{TP: 1, TN: 1}); math.Abs(auc.P-want) > 1e-5*want || want > 0.01 {
		t.Errorf("P of the area %v, and the least is %v", auc.P, want)
	}
	// Nothing to bound: no more than expected, or nothing that could vary.
	for _, cells := range [][]stratum{nil, {{total: 4, window: 2, positives: 2, seen: 1}}, {{total: 4, window: 4, positives: 2, seen: 2}}, {{total: 4, window: 2, positives: 2, seen: 0}}} {
		if got := tailBound(cells, one); got != 1 {
			t.Errorf("%+v: %v, want 1", cells, got)
		}
	}
}

// What is compared and how, of two cells by hand: the window has the labels of the reference the other way round.
func TestConceptByHand(t *testing.T) {
	ref := &labelled{positives: []int64{10, 30}, negatives: []int64{30, 10}}
	cur := &labelled{positives: []int64{15, 5}, negatives: []int64{5, 15}}
	before := Metrics{Rows: 80, TP: 30, FP: 10, FN: 10, TN: 30, AUC: 0.75}
	now := Metrics{Rows: 40, TP: 5, FP: 15, FN: 15, TN: 5, AUC: 0.25}
	auc, calibration := concept(ref, cur, before, now)
	if auc.Stat != -0.5 || auc.Effect != 0.5 || !auc.HasP || auc.P > 1e-3 || auc.N != 80 || auc.M != 40 {
		t.Errorf("%+v, want an area that fell by 0.5, and not by chance", auc)
	}
	// The first cell has a quarter of positives in the reference, and three quarters now; the second the reverse: 10 more, 10 fewer.
	if math.Abs(calibration.Stat) > 1e-15 || !calibration.HasP || calibration.P < 0.99 {
		t.Errorf("%+v, want as many positives as there were", calibration)
	}
	// An area that grew is no loss: its P is of a fall.
	auc, _ = concept(cur, ref, now, before)
	if auc.Stat != 0.5 || auc.P != 1 {
		t.Errorf("%+v, want a rise without a P", auc)
	}
	// Five more positives in each cell.
	more := &labelled{positives: []int64{10, 20}, negatives: []int64{10, 0}}
	_, calibration = concept(ref, more, before, Metrics{Rows: 40, TP: 20, FN: 10, TN: 10})
	if math.Abs(calibration.Stat-0.25) > 1e-14 || calibration.Effect != calibration.Stat || calibration.P > 0.1 {
		t.Errorf("%+v, want a quarter more", calibration)
	}
	fewer := &labelled{positives: []int64{0, 10}, negatives: []int64{20, 10}}
	if _, c := concept(ref, fewer, before, Metrics{Rows: 40, TP: 10, FP: 10, TN: 20}); math.Abs(c.Stat+0.25) > 1e-14 || c.Effect != -c.Stat || c.P > 0.1 {
		t.Errorf("%+v, want a quarter fewer", c)
	}
	// An area takes both labels on both sides.
	for _, m := range []Metrics{{Rows: 40, TP: 20, FN: 20}, {Rows: 40, FP: 20, TN: 20}, {}} {
		for _, pair := range [][2]Metrics{{before, m}, {m, now}} {
			if auc, _ := concept(ref, cur, pair[0], pair[1]); auc.HasP || auc.Stat != 0 {
				t.Errorf("%+v of %+v", auc, pair)
			}
		}
	}
	for _, m := range []Metrics{{Rows: 4, TP: 2, TN: 2, AUC: 0.5}, {Rows: 4, FN: 2, FP: 2, AUC: 0.5}, {Rows: 4, TP: 2, FP: 2, AUC: 0.5}, {Rows: 4, FN: 2, TN: 2, AUC: 0.5}} {
		if auc, _ := concept(ref, cur, m, now); !auc.HasP || auc.Stat != -0.25 {
			t.Errorf("%+v of %+v", auc, m)
		}
	}
}
