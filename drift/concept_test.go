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
