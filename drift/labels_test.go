package drift

import (
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// labelledCells are rows by their cells, with sums that such rows could have.
func labelledCells(positives, negatives []int64) *labelled {
	l := newLabelled(len(positives))
	copy(l.positives, positives)
	copy(l.negatives, negatives)
	for k := range positives {
		l.bins[0].n += positives[k] + negatives[k]
		l.bins[0].positives += positives[k]
	}
	return l
}

// A row adds its score, its squared error and its loss, rounded to the nearest of their units.
func TestLabelRowByHand(t *testing.T) {
	for _, c := range []struct {
		score float64
		label bool
		want  labelRow
	}{
		{0.25, true, labelRow{bin: 2, sum: 1 << 22, brier: 9 << 20, loss: 363409}},  // 2^18 ln 4 = 363408.75
		{0.75, false, labelRow{bin: 7, sum: 3 << 22, brier: 9 << 20, loss: 363409}}, //
		{0.3, false, labelRow{bin: 3, sum: 5033165, brier: 1509949, loss: 93500}},   // 5033164.8, 1509949.44, 93500.2
		{1.5, true, labelRow{bin: 9, sum: 1 << 24}},                                 // as 1
		{-1, false, labelRow{}}, // as 0
	} {
		got := newLabelRow(c.score, c.label)
		if got != c.want {
			t.Errorf("%v, %v: %+v, want %+v", c.score, c.label, got, c.want)
		}
	}
}

// Counted under way or afterwards, and in parts that are added up, rows come to the same.
func TestLabelsAddUp(t *testing.T) {
	all, cells := newLabelled(2), newLabelCells(2)
	parts := [2]*labelled{newLabelled(2), newLabelled(2)}
	for i := range 7 {
		score, label := float64(i)/6, i%3 > 0
		cell := i / 4
		all.add(cell, score, label)
		parts[i%2].add(cell, score, label)
		if n := cells.add(cell, score, label); n != uint64(i+1) {
			t.Errorf("row %d is number %d", i+1, n)
		}
	}
	// Labels are false at 0, 3 and 6; scores by tenths: 0, 1, 3, 5, 6, 8 and the last.
	if !slices.Equal(all.positives, []int64{2, 2}) || !slices.Equal(all.negatives, []int64{2, 1}) || all.rows() != 7 {
		t.Errorf("%v positives and %v negatives", all.positives, all.negatives)
	}
	for b, want := range map[int][2]int64{0: {1, 0}, 1: {1, 1}, 3: {1, 1}, 5: {1, 0}, 6: {1, 1}, 8: {1, 1}, 9: {1, 0}, 2: {}, 4: {}, 7: {}} {
		if got := all.bins[b]; got.n != want[0] || got.positives != want[1] {
			t.Errorf("bin %d: %+v, want %v", b, got, want)
		}
	}
	if got := cells.read(); !reflect.DeepEqual(got, all) {
		t.Errorf("%+v, want %+v", got, all)
	}
	if got := parts[0].plus(parts[1]); !reflect.DeepEqual(got, all) {
		t.Errorf("%+v, want %+v", got, all)
	}
	var none *labelled
	if none.plus(all) != all || all.plus(none) != all || none.plus(none) != nil {
		t.Error("nothing and something are not that")
	}
}

// Read while rows are being added, as those of a window that has closed while a writer still holds it, labels are
// of whole rows.
func TestLabelsAreReadWhole(t *testing.T) {
	cells, one := newLabelCells(1), newLabelRow(0.25, true)
	var stop atomic.Bool
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for !stop.Load() {
				cells.add(0, 0.25, true)
			}
		})
	}
	for rows := int64(-1); rows < 100_000; {
		l := cells.read()
		n := uint64(l.rows())
		if err := l.sound(); err != nil || l.brier != n*one.brier || l.logLoss != n*one.loss || l.bins[one.bin].sum != n*one.sum {
			t.Errorf("%v: %d rows have the sums %d and %d, and the bins %+v", err, n, l.brier, l.logLoss, l.bins)
			break
		}
		if l.rows() == rows {
			runtime.Gosched()
		}
		rows = l.rows()
	}
	stop.Store(true)
	writers.Wait()
}

// What no rows add up to is refused, and one less of it is not.
func TestLabelsAreSound(t *testing.T) {
	const most = maxRows
	full := func(positives, negatives int64) *labelled {
		l := labelledCells([]int64{positives}, []int64{negatives})
		if n := positives + negatives; n > most {
			l.bins[0].n, l.bins[1].n = most, n-most
		}
		l.bins[0].positives = 0
		return l
	}
	for _, c := range []struct {
		name   string
		l      *labelled
		change func(l *labelled)
		sound  bool
	}{
		{"nothing", full(0, 0), nil, true},
		{"all positive", full(most, 0), nil, true},
		{"one more", full(most+1, 0), nil, false},
		{"all negative", full(0, most), nil, true},
		{"one more", full(0, most+1), nil, false},
		{"less than none", full(-1, 2), nil, false},
		{"less than none", full(2, -1), nil, false},
		{"a bin too many", full(2, 3), func(l *labelled) { l.bins[4].n = 1 }, false},
		{"a bin too few", full(2, 3), func(l *labelled) { l.bins[0].n-- }, false},
		{"a negative bin", full(2, 3), func(l *labelled) { l.bins[0].n, l.bins[1].n = 6, -1 }, false},
		{"a bin of more than all", full(most, 1), func(l *labelled) { l.bins[0].n, l.bins[1].n = most+1, 0 }, false},
		{"a bin of positives", full(2, 3), func(l *labelled) { l.bins[0].positives = 5 }, true},
		{"more positives than rows", full(2, 3), func(l *labelled) { l.bins[0].positives = 6 }, false},
		{"fewer positives than none", full(2, 3), func(l *labelled) { l.bins[0].positives = -1 }, false},
		{"scores of 1", full(2, 3), func(l *labelled) { l.bins[0].sum = 6 * brierUnit }, true}, // each rounded up
		{"scores above 1", full(2, 3), func(l *labelled) { l.bins[0].sum = 6*brierUnit + 1 }, false},
		{"errors of 1", full(2, 3), func(l *labelled) { l.brier = most * brierUnit }, true},
		{"errors above 1", full(2, 3), func(l *labelled) { l.brier = most*brierUnit + 1 }, false},
		{"losses of 35", full(2, 3), func(l *labelled) { l.logLoss = most * 35 * lossUnit }, true},
		{"losses above 35", full(2, 3), func(l *labelled) { l.logLoss = most*35*lossUnit + 1 }, false},
	} {
		if c.change != nil {
			c.change(c.l)
		}
		if err := c.l.sound(); (err == nil) != c.sound {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := full(-3, 7).sound(); err == nil || !strings.Contains(err.Error(), "-3 labels") {
		t.Errorf("%v does not name the count", err)
	}
	l := labelledCells([]int64{1, 2}, []int64{3, 0})
	if err := l.check([]int64{4, 2}); err != nil {
		t.Error(err)
	}
	if err := l.check([]int64{5, 2}); err == nil || err.Error() != "4 labels for 5 scores in a cell" {
		t.Error(err)
	}
	for _, cells := range []*labelled{{positives: l.positives}, {negatives: l.negatives}, {positives: l.positives[:1], negatives: l.negatives}} {
		if err := cells.check([]int64{4, 2}); err == nil {
			t.Errorf("%+v passes", cells)
		}
	}
}

func TestCalibratedByHand(t *testing.T) {
	for _, c := range []struct {
		positives, negatives []int64
		want                 []float64
	}{
		{[]int64{1, 0, 2, 1, 3}, []int64{3, 0, 2, 3, 1}, []float64{0.25, 0.25, 0.375, 0.375, 0.75}}, // 2 of 4 and 1 of 4
		{[]int64{0, 1, 1}, []int64{0, 1, 0}, []float64{0.5, 0.5, 1}},                                // nothing below
		{[]int64{3, 2, 0}, []int64{0, 1, 4}, []float64{0.5, 0.5, 0.5}},                              // 5 of 10
		{[]int64{0, 0}, []int64{0, 0}, []float64{0, 0}},
		{nil, nil, []float64{}},
	} {
		if got := labelledCells(c.positives, c.negatives).calibrated(); !slices.Equal(got, c.want) {
			t.Errorf("%v of %v: %v, want %v", c.positives, c.negatives, got, c.want)
		}
	}
}

func TestPerformanceByHand(t *testing.T) {
	ref, cur := labelledCells([]int64{100, 200, 300}, []int64{400, 200, 0}), labelledCells([]int64{100, 100, 200}, []int64{200, 300, 100})
	ref.brier, ref.logLoss = 300*brierUnit, 600*lossUnit
	ref.bins = [scoreBins]scoreBin{0: {n: 500, positives: 100, sum: 200 * brierUnit}, 9: {n: 700, positives: 500, sum: 350 * brierUnit}}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
	m := ref.metrics(1)
	if m.Rows != 1200 || m.TP != 500 || m.FP != 200 || m.FN != 100 || m.TN != 400 || m.Brier != 0.25 || m.LogLoss != 0.5 {
		t.Errorf("%+v", m)
	}
	// Pairs in order: 100*(0+200) + 200*(400+100) + 300*600 of 600*600; the bins are off by 100 and 150.
	if !near(m.AUC, 5./6) || !near(m.ECE, 250./1200) {
		t.Errorf("AUC %v and ECE %v", m.AUC, m.ECE)
	}
	f := &feature{name: "p", labels: ref, positive: 1}
	// Shares of positives 0.2, 0.5 and 1: FN 1 and TN 4, TP 1+3 and FP 1.
	if m := f.expected([]int{5, 2, 3}); m.Rows != 10 || !near(m.FN, 1) || !near(m.TN, 4) || !near(m.TP, 4) || !near(m.FP, 1) || !near(m.Accuracy, 0.8) {
		t.Errorf("expected %+v", m)
	}
	if m := f.expected(nil); m != (Metrics{}) {
		t.Errorf("of nothing: %+v", m)
	}
	rep, perf := f.performance(cur, observed{counts: []int{5, 2, 3}}, 0.05)
	if rep.Name != "p (performance)" || perf.Actual.TP != 300 || perf.Reference != m || perf.Expected.Rows != 10 {
		t.Errorf("%s: %+v", rep.Name, perf)
	}
	for i, want := range []Score{
		{Method: "accuracy fisher", Stat: -0.25, N: 1200, M: 1000},      // 500 of 1000 and 900 of 1200
		{Method: "precision fisher", Stat: -2. / 7, N: 700, M: 700},     // 300 and 500
		{Method: "recall fisher", Stat: -1. / 12, N: 600, M: 400},       // 300 and 500
		{Method: "auc chernoff", Stat: -0.1875, N: 1200, M: 1000},       // 155,000 of 240,000 and 5/6
		{Method: "calibration chernoff", Stat: -0.16, N: 1200, M: 1000}, // 100-60, 100-200 and 200-300
	} {
		if s := rep.Scores[i]; s.Method != want.Method || !near(s.Stat, want.Stat) || !near(s.Effect, -want.Stat) || s.N != want.N || s.M != want.M || !s.HasP || s.P > 0.01 {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
	// Accuracy is the surest, and told if its loss is large; of those that are large, or if none is, of all.
	precision := -rep.Scores[1].Stat
	for least, want := range map[float64]int{-1: 0, 0.05: 0, 0.25: 0, math.Nextafter(0.25, 1): 1, precision: 1, math.Nextafter(precision, 1): 0} {
		rep, _ := f.performance(cur, observed{}, least)
		if s := rep.Scores[want]; rep.Effect != -s.Stat || rep.P != s.P*5 {
			t.Errorf("at least %v: effect %v and P %v, want those of %+v", least, rep.Effect, rep.P, s)
		}
	}
	if a, p := rep.Scores[0].P, rep.Scores[1].P; !(a < p) {
		t.Errorf("accuracy with P %v and precision with %v", a, p)
	}
	// The other way round all but the calibration has become better, and that is off by as much.
	f.labels = cur
	rep, _ = f.performance(ref, observed{}, 0.05)
	if s := rep.Scores[4]; rep.Effect != s.Effect || rep.P != s.P*5 || s.Stat < 0.1 {
		t.Errorf("effect %v with P %v: the calibration is %+v", rep.Effect, rep.P, s)
	}
	if rep, _ := f.performance(cur, observed{}, 0.05); rep.Effect != 0 || rep.P != 1 {
		t.Errorf("nothing has changed: %+v", rep)
	}
}

// A fall of recall that may be chance does not hide one of accuracy that is none, whether that is large or not.
func TestLossIsSignificant(t *testing.T) {
	f := &feature{name: "p", labels: labelledCells([]int64{1, 9}, []int64{900, 90}), positive: 1}
	for _, least := range []float64{0.05, 0.19} {
		rep, _ := f.performance(labelledCells([]int64{3, 7}, []int64{750, 240}), observed{}, least)
		accuracy, recall := rep.Scores[0], rep.Scores[2]
		if recall.Stat > -0.19 || recall.P < 0.2 { // 7 of 10 and 9 of 10
			t.Fatalf("recall: %+v", recall)
		}
		if rep.Effect != -accuracy.Stat || math.Abs(rep.Effect-0.152) > 1e-12 { // 757 and 909 of 1000
			t.Errorf("at least %v: effect %v, P %v: %+v", least, rep.Effect, rep.P, rep.Scores)
		}
	}
}
