package drift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The calibration matrix: what is listed here is drawn without drift, over and over with fresh
// references, and rejects no more often than it says. MAINSTAY_SOAK=1 makes it long; -v prints it.

// calibrated lists the tests. slack is how much more often than nominal one may reject, by its own
// comment; where it is not 1, that comment says when and why.
var calibrated = []struct {
	name   string
	test   func(ref, cur []float64, seed uint64) Score
	counts bool // of 20 categories, not values
	large  bool // against 100,000, too
	slack  func(n, m int) float64
}{
	{"KS", func(a, b []float64, _ uint64) Score { return KS(a, b) }, false, false, exactly},
	{"KSGreater", func(a, b []float64, _ uint64) Score { return KSGreater(a, b) }, false, false, exactly},
	{"CramerVonMises", func(a, b []float64, _ uint64) Score { return CramerVonMises(a, b) }, false, false, exactly},
	{"AndersonDarling", AndersonDarling, false, false, exactly},
	{"CliffDelta", func(a, b []float64, _ uint64) Score { return CliffDelta(a, b) }, false, false, exactly},
	{"PSI", func(a, b []float64, _ uint64) Score { return PSI(a, b, nil) }, false, true, fromFifty(10)},
	{"MMD", func(a, b []float64, seed uint64) Score { return MMD(pairs(a), pairs(b), seed) }, false, false, exactly},
	{"ChiSquare", func(a, b []float64, _ uint64) Score { return ChiSquare(tally(a), tally(b)) }, true, true, fromFifty(20)},
	{"GTest", func(a, b []float64, _ uint64) Score { return GTest(tally(a), tally(b)) }, true, true, fromFifty(20)},
	{"chi-square of a monitor, categories", func(a, b []float64, _ uint64) Score { return homogeneity(joinCategories(tally(a), tally(b), sparse)) }, true, true, exactly},
	{"chi-square of a monitor, numbers", func(a, b []float64, _ uint64) Score {
		bins := newBinner(sortedFinite(a), defaultBins)
		return homogeneity(joinNeighbours(bins.counts(a), bins.counts(b)))
	}, false, true, exactly},
	{"Fisher", func(a, b []float64, _ uint64) Score { return shareScore("", tally(a)[0], len(a), tally(b)[0], len(b)) }, true, false, exactly},
}

func exactly(_, _ int) float64 { return 1 }

// fromFifty is 1.2 from 50 values a bin on, and 2.5 for fewer.
func fromFifty(bins int) func(n, m int) float64 {
	return func(n, m int) float64 {
		if min(n, m) < 50*bins {
			return 2.5
		}
		return 1.2
	}
}

func pairs(v []float64) [][]float64 { return slices.Collect(slices.Chunk(v, 2)) }

func tally(v []float64) []int {
	c := make([]int, categories)
	for _, x := range v {
		c[int(x)]++
	}
	return c
}

var categorySources = []source{
	{"even", func(r *rand.Rand) float64 { return float64(r.IntN(categories)) }, 1},
	{"skewed", func(r *rand.Rand) float64 { return math.Floor(math.Pow(categories, r.Float64()) - 0.999999) }, 1},
	{"one rare", func(r *rand.Rand) float64 { return number(r.IntN(100) == 0) }, 1},
}

func TestTestsAreCalibrated(t *testing.T) {
	reps := 50
	switch {
	case soak:
		reps = 1000
	case brief():
		reps = 4
	}
	t.Logf("share of samples without drift rejected at 0.05 and 0.01, %d times", reps)
	for _, c := range calibrated {
		of := sources
		if c.counts {
			of = categorySources
		}
		for _, s := range of {
			line := ""
			for _, size := range [][2]int{{50, 30}, {100, 100}, {1000, 100}, {1000, 200}, {1000, 1000}, {100_000, 1000}} {
				n, m := size[0], size[1]
				if n > 1000 && !c.large {
					continue
				}
				r := rand.New(rand.NewPCG(uint64(n), uint64(m)))
				low, lower, reps := 0, 0, reps
				if c.name == "MMD" { // which draws deals of all pairs
					reps = max(1, reps/8)
				}
				ref, cur := make([]float64, n), make([]float64, m)
				for range reps {
					for _, v := range [][]float64{ref, cur} {
						for i := range v {
							v[i] = s.draw(r)
						}
					}
					p := c.test(ref, cur, r.Uint64())
					low, lower = low+int(number(p.Drifted(0.05))), lower+int(number(p.Drifted(0.01)))
				}
				slack := c.slack(n, m)
				if low > atMost(0.05*slack*float64(reps)) || lower > atMost(0.01*slack*float64(reps)) {
					t.Errorf("%s, %s, %d against %d: rejects %d of %d at 0.05, %d at 0.01", c.name, s.name, m, n, low, reps, lower)
				}
				// It is not kept by saying nothing: where there are no ties, P is uniform.
				if soak && s.name == "normal" && n == 1000 && low < notBelow(0.05*float64(reps)) {
					t.Errorf("%s, %d against %d: rejects only %d of %d at 0.05", c.name, m, n, low, reps)
				}
				line += fmt.Sprintf("  %d/%d %.3f %.4f", n, m, float64(low)/float64(reps), float64(lower)/float64(reps))
			}
			t.Logf("%-34s %-14s%s", c.name, s.name, line)
		}
	}
}

// The P of a feature of many categories, and its effect, which without drift is next to nothing.
func TestManyCategoriesAreCalibrated(t *testing.T) {
	reps := 50
	switch {
	case soak:
		reps = 1000
	case brief():
		reps = 10
	}
	t.Logf("share of windows without drift with a P of at most 0.05, 0.01 and 0.001, and their mean effect, %d times", reps)
	for _, c := range []struct {
		name           string
		categories     int
		ref, rows      int
		balanced, zipf bool // as many of each in the reference; the k-th as frequent as 1/k
	}{
		{"even, as many as a window", 200, 3600, 3600, false, false}, // each just not enough for a cell
		{"even", 1000, 20_000, 1000, false, false},
		{"even, most of them unseen", 10_000, 5000, 500, false, false},
		{"zipf", 200, 20_000, 2000, false, true},
		{"zipf, some unseen", 1000, 20_000, 2000, false, true},
		{"zipf, many unseen", 10_000, 20_000, 2000, false, true},
		{"balanced", 100, 2000, 1000, true, false},
		{"balanced, many", 1000, 20_000, 1000, true, false},
		{"balanced, at the border", 100, 20_000, 2000, true, false},
		{"balanced, a large window", 1000, 20_000, 20_000, true, false},
	} {
		r := rand.New(rand.NewPCG(uint64(c.ref), uint64(c.rows)))
		names, upto := make([]string, c.categories), make([]float64, c.categories)
		for k, sum := 0, 0.0; k < c.categories; k++ {
			sum += 1 / (1 + size(c.zipf, float64(k)))
			names[k], upto[k] = fmt.Sprintf("%x", k*7919%c.categories), sum
		}
		draw := func() string {
			k, _ := slices.BinarySearch(upto, r.Float64()*upto[c.categories-1])
			return names[k]
		}
		var hits [3]int
		effect := 0.0
		ref := make([]string, c.ref)
		for rep := range reps {
			if rep == 0 || !c.balanced {
				for i := range ref {
					ref[i] = names[i%c.categories]
					if !c.balanced {
						ref[i] = draw()
					}
				}
			}
			f := fitted(t, Categories("x", ref)).features[0]
			o := observed{rows: c.rows, present: c.rows, counts: make([]int, len(f.counts))}
			for range c.rows {
				if k, ok := f.index[draw()]; ok {
					o.counts[k]++
				} else {
					o.unseen++
				}
			}
			got := f.compare(o)
			effect += got.Effect / float64(reps)
			for i, a := range []float64{0.05, 0.01, 0.001} {
				hits[i] += int(number(got.P <= a))
			}
		}
		for i, a := range []float64{0.05, 0.01, 0.001} {
			if hits[i] > atMost(a*float64(reps)) {
				t.Errorf("%s, %d, %d against %d: P <= %v in %d of %d", c.name, c.categories, c.rows, c.ref, a, hits[i], reps)
			}
		}
		if soak && !c.balanced && hits[0] < notBelow(0.02*float64(reps)) {
			t.Errorf("%s, %d, %d against %d: P <= 0.05 only in %d of %d", c.name, c.categories, c.rows, c.ref, hits[0], reps)
		}
		if effect > 0.03 {
			t.Errorf("%s, %d, %d against %d: an effect of %v on average", c.name, c.categories, c.rows, c.ref, effect)
		}
		n := float64(reps)
		t.Logf("%-26s %5d, %d/%d  %.3f %.4f %.4f  effect %.4f", c.name, c.categories, c.ref, c.rows,
			float64(hits[0])/n, float64(hits[1])/n, float64(hits[2])/n, effect)
	}
}

func some(names ...string) []trait {
	var out []trait
	for _, tr := range traits {
		if slices.Contains(names, tr.name) {
			out = append(out, tr)
		}
	}
	return out
}

// fifty features, all of one shape.
func fifty() []trait {
	out := make([]trait, 50)
	for i := range out {
		out[i] = trait{name: fmt.Sprint("x", i), number: traits[0].number}
	}
	return out
}

// ids is one of n categories, all rare.
func ids(n int) []trait {
	return []trait{{name: "id", text: func(w *world, _ bool) string { return fmt.Sprint(w.IntN(n)) }}}
}

// budgets lists configurations of a monitor. A row comes each second; perWindow is the part of the budget that
// one window spends, so small that each level stays below maxLevel, which would otherwise be what is tested.
var budgets = []struct {
	name                string
	opt                 MonitorOptions
	of                  []trait
	ref, rows           int
	references, windows int // references, and windows for each
	perWindow           float64
}{
	{"11 features", MonitorOptions{Window: Tumbling(500), Confirm: 1}, traits, 5000, 500, 20, 10, 0.01},
	{"two windows in a row", MonitorOptions{Window: Tumbling(500), Confirm: 2}, traits, 5000, 500, 10, 20, 0.0015},
	{"small reference", MonitorOptions{Window: Tumbling(1500), Confirm: 2}, traits, 2500, 1500, 5, 12, 0.006},
	{"reference like a window", MonitorOptions{Window: Tumbling(500), Confirm: 1}, traits, 500, 500, 100, 2, 0.01},
	{"smallest window", MonitorOptions{Window: Tumbling(100), Confirm: 1}, traits, 5000, 100, 10, 50, 0.01},
	{"large window", MonitorOptions{Window: Tumbling(5000), Confirm: 1}, traits, 20_000, 5000, 5, 8, 0.01},
	{"sliding", MonitorOptions{Window: Sliding(600), Confirm: 1}, traits, 5000, 600, 6, 10, 0.01},
	{"sliding, two looks", MonitorOptions{Window: Sliding(600), Confirm: 2}, traits, 5000, 600, 6, 10, 0.01},
	{"timed", MonitorOptions{Window: Every(600 * time.Second), Confirm: 1}, traits, 5000, 600, 20, 10, 0.01},
	{"decaying", MonitorOptions{Window: Decaying(600 * time.Second), Confirm: 1}, traits, 5000, 600, 6, 10, 0.01},
	{"one feature", MonitorOptions{Window: Tumbling(500), Confirm: 1}, some("normal"), 5000, 500, 80, 10, 0.005},
	{"one of five values", MonitorOptions{Window: Tumbling(500), Confirm: 1}, some("five-values"), 5000, 500, 80, 10, 0.005},
	{"one skewed", MonitorOptions{Window: Tumbling(500), Confirm: 1}, some("lognormal"), 5000, 500, 80, 10, 0.005},
	{"one of rare categories", MonitorOptions{Window: Tumbling(500), Confirm: 1}, some("zipf"), 5000, 500, 80, 10, 0.005},
	{"one of 250 categories", MonitorOptions{Window: Tumbling(500), Confirm: 1}, ids(250), 5000, 500, 80, 10, 0.005},
	{"one of 5,000 categories, a third unseen", MonitorOptions{Window: Tumbling(500), Confirm: 1}, ids(5000), 5000, 500, 80, 10, 0.005},
	{"25 categories, reference like a window", MonitorOptions{Window: Tumbling(500), Confirm: 1}, ids(25), 500, 500, 400, 2, 0.005},
	{"fifty features", MonitorOptions{Window: Tumbling(500), Confirm: 1}, fifty(), 5000, 500, 6, 10, 0.01},
	{"weights", MonitorOptions{Window: Tumbling(500), Confirm: 1, Weights: map[string]float64{"normal": 5, "zipf": 0}}, traits, 5000, 500, 20, 10, 0.01},
	{"marks at any rate", MonitorOptions{Window: Tumbling(500), Confirm: 1, FDR: 0.5}, traits, 5000, 500, 20, 10, 0.01},
	{"performance", MonitorOptions{Window: Tumbling(500), Confirm: 1, Weights: map[string]float64{"p": 0}}, nil, 3000, 500, 40, 10, 0.008},
}

// The budget holds where nothing but it stands between noise and an alert: no
// least effect, no cooldown, many references, and so short a FalseAlarm that
// a few are to be expected. It also is not held by never alerting: the conservative
// parts cost less than a factor of 30.
func TestFalseAlarmBudget(t *testing.T) {
	for i, c := range budgets {
		t.Run(c.name, func(t *testing.T) {
			switch {
			case soak:
				c.references *= 15
			case brief():
				c.references = max(1, c.references/5)
			}
			clk := newClock()
			open := time.Duration(c.rows) * time.Second
			o := c.opt
			o.FalseAlarm, o.Now = time.Duration(float64(open)/c.perWindow), clk.Now
			o.MinEffect, o.MinLoss, o.Recover, o.Cooldown = -1, -1, 1, -1
			alerts, expected := 0, 0.0
			w := newWorld(uint64(i))
			for range c.references {
				m := w.undrifted(t, c.of, c.ref, c.rows*c.windows, &o, clk)
				for _, share := range m.opt.shares(m.live.Load().ref) {
					if l := m.opt.level(open/time.Duration(m.opt.Window.panesPerSpan()), share); l >= 0.9*maxLevel {
						t.Fatalf("the level is %v: the cap decides, and not the budget", l)
					}
				}
				alerts += len(taken(m))
				expected += c.perWindow * float64(c.windows)
			}
			t.Logf("%d alerts, budget %.1f", alerts, expected)
			if most := atMost(expected); alerts > most {
				t.Errorf("%d alerts without drift; the budget is %.1f, and %d are a 1 in 100,000 chance", alerts, expected, most)
			}
			if soak && float64(alerts) < expected/30 {
				t.Errorf("only %d alerts for a budget of %.1f: the levels are not what they are meant to be", alerts, expected)
			}
		})
	}
}

// panesPerSpan is how many looks there are in the time that a window or a half-life lasts.
func (w Window) panesPerSpan() int {
	switch w.kind {
	case sliding:
		return slidingPanes
	case decaying:
		return halfLifePane
	}
	return 1
}

// undrifted is a monitor that has seen so many rows like those of its fresh reference: of the traits, or, if
// there are none, predictions and their labels.
func (w *world) undrifted(t *testing.T, of []trait, ref, rows int, o *MonitorOptions, clk *clock) *Monitor {
	t.Helper()
	tick := clk.step(time.Second)
	if of != nil {
		m := monitor(t, w.reference(t, ref, of), o)
		w.feeder(t, m, of).rows(rows, tick)
		return m
	}
	m := monitor(t, w.predictions(t, ref), o)
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		s, label := w.scored(false)
		id := fmt.Sprint(i)
		p.Predicted(id, s)
		p.Actual(id, label)
		tick()
	}
	return m
}

// Without drift a report marks something, at no least effect, in no more windows than FDR says, whatever the
// number of features; and next to nothing where FDR is next to nothing.
func TestMarksAreKept(t *testing.T) {
	reps := 40
	switch {
	case soak:
		reps = 1000
	case brief():
		reps = 10
	}
	for _, c := range []struct {
		fdr       float64
		of        []trait
		ref, rows int
	}{
		{0.05, traits, 5000, 500}, {0.2, traits, 5000, 500}, {1e-9, traits, 5000, 500},
		{0.2, some("normal"), 5000, 500}, {0.2, fifty(), 5000, 500}, {0.2, traits, 20_000, 2000}, {0.2, traits, 1000, 100},
	} {
		clk, w := newClock(), newWorld(77)
		marked := 0
		for range reps {
			m := w.undrifted(t, c.of, c.ref, c.rows, &MonitorOptions{Window: Tumbling(c.rows), FDR: c.fdr, MinEffect: -1, Now: clk.Now}, clk)
			if slices.ContainsFunc(m.Report().Features, func(f FeatureReport) bool { return f.Verdict >= Warning }) {
				marked++
			}
		}
		t.Logf("FDR %.2g, %d features, %d rows against %d: something marked in %.3f of the windows", c.fdr, len(c.of), c.rows, c.ref, float64(marked)/float64(reps))
		if most := atMost(c.fdr*float64(reps) + 1e-4*float64(reps)); marked > most {
			t.Errorf("FDR %v, %d features: something marked in %d of %d windows", c.fdr, len(c.of), marked, reps)
		}
	}
}
