package drift

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// By hand: of three that are tested with 0.9 of the budget, the weights, of the mean 1, are 1.5, 0.75 and 0.75. Those of
// weight 0 are a family of their own.
func TestAdjustByHand(t *testing.T) {
	o := &MonitorOptions{Weights: map[string]float64{"a": 2}}
	shares := []float64{0.45, 0.1, 0.225, 0.225, 0, 0, 0}
	// p/w is 0.02*4/3, 0.04 and 2/3; times three over the rank 0.08, 0.06 and 2/3. The others times three over the rank.
	got := o.adjust([]float64{0.04, 0.03, 0.03, 0.5, 0.001, 0.2}, []int{0, 4, 2, 3, 5, 6}, shares)
	for i, want := range []float64{0.06, 0.045, 0.06, 2. / 3, 0.003, 0.2} {
		if !(math.Abs(got[i]-want) < 1e-12) {
			t.Errorf("%v: the P of %d should be %v", got, i, want)
		}
	}
	// With no weight at all the family is one, as without weights.
	ps := []float64{0.04, 0.03, 0.5}
	if got := o.adjust(ps, []int{4, 5, 6}, shares); !slices.Equal(got, BenjaminiHochberg(ps)) {
		t.Errorf("%v of weight 0", got)
	}
}

// A feature of weight 0 is reported like any other, whatever its P, and against the FDR alone: it has no part of the budget, in
// which its P could be beyond doubt.
func TestWeightlessIsReported(t *testing.T) {
	w := newWorld(56)
	ref := fitted(t, Numbers("a", w.normals(20_000)), Numbers("b", w.normals(20_000)), Numbers("small", w.normals(200)))
	m := monitor(t, ref, &MonitorOptions{Window: Tumbling(2000), Weights: map[string]float64{"a": 0, "small": 0}, Now: newClock().Now})
	for _, c := range []struct {
		shift    float64
		a, small Verdict
	}{{0, Stable, WeakReference}, {0.2, Warning, WeakReference}, {1, Drift, WeakReference}, {1e6, Drift, WeakReference}} {
		for range 2000 {
			handle(t, m, "a").Observe(w.NormFloat64() + c.shift)
			handle(t, m, "b").Observe(w.NormFloat64())
			handle(t, m, "small").Observe(w.NormFloat64() + c.shift)
		}
		for i, want := range []Verdict{c.a, Stable, c.small} {
			if f := m.Report().Features[i]; f.Verdict != want {
				t.Errorf("shift %v: %s is %v, want %v: P %v and effect %v", c.shift, f.Name, f.Verdict, want, f.P, f.Effect)
			}
		}
	}
	if got := taken(m); len(got) != 0 {
		t.Errorf("%+v: nothing of weight 0 alerts", got)
	}
}

// How many windows are tested as one: none that overlap, but for labels, which never do.
func TestTogether(t *testing.T) {
	for _, c := range []struct {
		w                     Window
		features, performance int
	}{{Tumbling(100), 3, 3}, {Every(time.Hour), 3, 3}, {Sliding(100), 1, 3}, {Decaying(time.Hour), 1, 3}} {
		o := MonitorOptions{Window: c.w, Confirm: 3}
		if f, p := o.together(false), o.together(true); f != c.features || p != c.performance {
			t.Errorf("%+v: %d windows of features and %d of labels", c.w, f, p)
		}
	}
}

// closed takes the alerts of windows by time after their end.
func closed(m *Monitor) []Alert {
	m.closeDue()
	return taken(m)
}

func TestHitsAtTheBorders(t *testing.T) {
	up := func(x float64) float64 { return math.Nextafter(x, 1) }
	o := MonitorOptions{Window: Sliding(100), Confirm: 1, Recover: 1, MinEffect: 0.1, FalseAlarm: time.Hour}
	v := view{ref: fitted(t, Numbers("x", []float64{1, 2})), pane: pane{open: time.Hour, columns: make([]observed, 1)}}
	for _, c := range []struct {
		name             string
		p, effect, share float64
		hits             int
		drifting         bool
	}{
		{"agrees", agreeLevel, 0.1, 1, 1, false},
		{"does not agree", up(agreeLevel), 0.1, 1, 0, false},
		{"too small", 1e-9, math.Nextafter(0.1, 0), 1, 0, false},
		{"no share of the budget", 0, 1, 0, 0, false},
		{"at the level", maxLevel, 0.1, 1, 1, true},
		{"above the level", up(maxLevel), 0.1, 1, 1, false},
		{"above the level of a smaller share", maxLevel, 0.1, 0.001, 1, false},
	} {
		var s state
		s.step(&o, v, 0, FeatureReport{P: c.p, Effect: c.effect}, c.share)
		if s.hits != c.hits || s.drifting != c.drifting {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// The windows that confirm are tested as one: as one window of all their rows would be. Those before
// have no part in it, and neither have those of overlapping windows, which hold the same rows.
func TestConfirmedTogether(t *testing.T) {
	clk, w := newClock(), newWorld(51)
	scores, truth := make([]float64, 10_000), make([]bool, 10_000)
	for i := range scores {
		scores[i], truth[i] = w.scored(false)
	}
	ref := fitted(t, Predictions("p", scores, truth, 0.5), Numbers("x", w.normals(10_000)))
	two := monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), MinEffect: -1, Now: clk.Now})
	one := monitor(t, ref, &MonitorOptions{Window: Every(2 * time.Hour), Now: clk.Now})
	hour := func(moved bool, monitors ...*Monitor) {
		for i := range 1000 {
			s, y := w.scored(moved)
			x := w.NormFloat64() + size(moved, 0.2)
			for _, m := range monitors {
				p, err := m.Performance()
				if err != nil {
					t.Fatal(err)
				}
				handle(t, m, "x").Observe(x)
				id := fmt.Sprint(clk.now, i)
				p.Predicted(id, s)
				p.Actual(id, y)
			}
		}
		clk.now = clk.now.Add(time.Hour)
	}
	for range 4 {
		hour(false, two)
	}
	hour(true, two, one)
	hour(true, two, one)
	if got := closed(two); len(got) != 1 || !slices.Equal(named(got[0]), []string{"p (performance)", "x"}) {
		t.Fatalf("%d alerts: %+v", len(got), got)
	}
	rep := one.Report()
	for i, f := range rep.Features[1:] {
		if got := two.states[i+1].p; got != f.P || got > 1e-3 || rep.Rows != 2000 {
			t.Errorf("%s: confirmed with P %v; two hours as one have %v", f.Name, got, f.P)
		}
	}

	m := monitor(t, w.reference(t, 10_000, traits[:1]), &MonitorOptions{Window: Sliding(1000), Confirm: 3, Now: clk.Now})
	w.shift["normal"] = true
	w.feeder(t, m, traits[:1]).rows(1500, clk.step(time.Minute))
	if got := taken(m); len(got) != 1 || got[0].P != got[0].Feature.P {
		t.Errorf("%d alerts: confirmed with the P of the last window, %+v", len(got), got)
	}
}

// A large fall of precision that is hardly significant, of a few rows that were predicted true, does not hide the certain
// one of accuracy: it is told by its own P, in a window and in those that confirm.
func TestDoubtfulLossHidesNoOther(t *testing.T) {
	rows := func(high, highTrue, low, lowTrue int) (scores []float64, truth []bool) {
		for i := range high {
			scores, truth = append(scores, 0.9), append(truth, i < highTrue)
		}
		for i := range low {
			scores, truth = append(scores, 0.1), append(truth, i < lowTrue)
		}
		return scores, truth
	}
	clk := newClock()
	scores, truth := rows(1500, 1350, 198_500, 19_850)
	m := monitor(t, fitted(t, Predictions("p", scores, truth, 0.5)), &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		scores, truth := rows(15, 11, 1985, 397)
		for i := range scores {
			id := fmt.Sprint(clk.now, i)
			p.Predicted(id, scores[i])
			p.Actual(id, truth[i])
		}
		clk.now = clk.now.Add(time.Hour)
	}
	got := closed(m)
	if len(got) != 1 || got[0].Feature.Name != "p (performance)" {
		t.Fatalf("accuracy fell from 0.9 to 0.8 in two windows: %+v", got)
	}
	sum := m.states[1].labels[0].plus(m.states[1].labels[1])
	rep, _ := m.live.Load().ref.features[0].performance(sum, observed{}, 0.05)
	accuracy, precision := rep.Scores[0], rep.Scores[1]
	if corrected := precision.P * 5; precision.Stat > -0.15 || corrected > agreeLevel || corrected < got[0].Level {
		t.Errorf("precision should be in doubt: %+v", precision)
	}
	if a := got[0]; a.P != accuracy.P*5 || a.Feature.Effect < 0.1 || a.Feature.Effect > 0.101 {
		t.Errorf("told with P %v and effect %v; accuracy: %+v", a.P, a.Feature.Effect, accuracy)
	}
}

// The windows together must have lost as much as each of them: what is sure of them and small does not confirm.
func TestConfirmedLossIsLarge(t *testing.T) {
	ref := fitted(t, Predictions("p", []float64{0.1, 0.9}, []bool{false, true}, 0.5))
	f := ref.features[0]
	f.labels = labelledCells([]int64{1000, 9000}, []int64{9000, 1000})
	worse := labelledCells([]int64{650, 4350}, []int64{4350, 650}) // 0.87 where it was 0.9
	s := state{labels: []*labelled{worse, worse}}
	rep, _ := f.performance(worse.plus(worse), observed{}, 0.02)
	if rep.Effect < 0.02 || rep.Effect > 0.05 {
		t.Fatalf("%+v", rep)
	}
	for least, want := range map[float64]float64{-1: rep.P, 0.02: rep.P, rep.Effect: rep.P, math.Nextafter(rep.Effect, 1): 1, 0.05: 1} {
		if p := s.joint(&MonitorOptions{MinLoss: least}, ref, 1); p != want || rep.P > 1e-9 {
			t.Errorf("at least %v: P %v, want %v", least, p, want)
		}
	}
}

// A window of too few rows is none: it neither interrupts the hits nor counts as calm.
func TestInsufficientWindowsDoNotCount(t *testing.T) {
	clk, w := newClock(), newWorld(52)
	m := monitor(t, w.reference(t, 10_000, traits[:1]), &MonitorOptions{Window: Every(time.Hour), Recover: 1, Now: clk.Now})
	f := w.feeder(t, m, traits[:1])
	for i, alerts := range []int{0, 0, 1, 0, 0} {
		if w.shift["normal"] = i%2 == 0; w.shift["normal"] {
			f.rows(500, func() {})
		} else {
			f.rows(minJudged-1, func() {})
		}
		clk.now = clk.now.Add(time.Hour)
		if got := closed(m); len(got) != alerts {
			t.Errorf("hour %d: %d alerts, want %d", i, len(got), alerts)
		}
	}
}

// Labels are gathered until there are 500; meanwhile the features are judged as ever.
func TestLabelsAreGathered(t *testing.T) {
	clk, w := newClock(), newWorld(53)
	m := monitor(t, w.predictions(t, 10_000), &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	for hour, want := range [][2]int{{1, 0}, {2, 1}, {3, 1}, {4, 2}} {
		for i := range minLabels / 2 {
			s := w.Float64()
			id := fmt.Sprint(hour, i)
			p.Predicted(id, s)
			p.Actual(id, s < 0.5) // always wrong
		}
		clk.now = clk.now.Add(time.Hour)
		rep := m.Report()
		if calm, hits := m.states[0].calm, m.states[1].hits; calm != want[0] || hits != want[1] {
			t.Errorf("hour %d: %d calm windows of the scores and %d hits of the performance, want %v", hour, calm, hits, want)
		}
		if got := rep.Performance.Actual.Rows; got != minLabels/2*(1+hour%2) {
			t.Errorf("hour %d: %d labels", hour, got)
		}
	}
}

// An alert is due when the cooldown has passed to the nanosecond.
func TestCooldownEnds(t *testing.T) {
	for cooldown, want := range map[time.Duration]int{2 * time.Hour: 1, 2*time.Hour + 1: 0} {
		clk, w := newClock(), newWorld(54, "normal")
		m := monitor(t, w.reference(t, 10_000, traits[:2]), &MonitorOptions{Window: Every(time.Hour), Cooldown: cooldown, Now: clk.Now})
		f := w.feeder(t, m, traits[:2])
		hours := func(n int) int {
			for range n {
				f.rows(500, func() {})
				clk.now = clk.now.Add(time.Hour)
			}
			return len(closed(m))
		}
		if got := hours(2); got != 1 {
			t.Fatalf("%d alerts on the first shift", got)
		}
		w.shift["lognormal"] = true
		if got := hours(2); got != want {
			t.Errorf("a cooldown of %v: %d alerts after two hours, want %d", cooldown, got, want)
		}
	}
}

// A clock that is set back makes a cooldown no longer than it is from then on.
func TestCooldownOfAClockThatIsSetBack(t *testing.T) {
	clk, w := newClock(), newWorld(58, "normal")
	m := monitor(t, w.reference(t, 10_000, traits[:2]), &MonitorOptions{Window: Tumbling(500), Confirm: 1, Cooldown: 2 * time.Hour, Now: clk.Now})
	f := w.feeder(t, m, traits[:2])
	for i, want := range []int{1, 0, 0, 1} {
		if i == 1 {
			w.shift["lognormal"] = true
			clk.now = clk.now.Add(-10 * time.Hour)
		}
		f.rows(250, func() {})
		clk.now = clk.now.Add(time.Hour)
		f.rows(250, func() {})
		if got := taken(m); len(got) != want {
			t.Errorf("window %d: %d alerts, want %d", i+1, len(got), want)
		}
	}
}

// An alert is on what is new, by effect times weight; what drifts besides is named after it, old or not confirmed.
func TestAlertNamesByHand(t *testing.T) {
	feature := func(name string, v Verdict, effect float64) FeatureReport {
		return FeatureReport{Name: name, Verdict: v, Effect: effect}
	}
	m := &Monitor{
		opt: MonitorOptions{Weights: map[string]float64{"new, of weight 2": 2, "of weight 0": 0}},
		states: []state{
			{drifting: true, told: true}, {drifting: true, p: 1e-5, level: 1e-4}, {}, {drifting: true, p: 1e-6, level: 1e-3}, {}, {}, {drifting: true, told: true},
		},
	}
	rep := &Report{Features: []FeatureReport{
		feature("told", Drift, 0.9), feature("new", Drift, 0.3), feature("not confirmed", Drift, 0.5), feature("new, of weight 2", Drift, 0.2),
		feature("of weight 0", Drift, 1), feature("stable", Stable, 0.8), feature("told, and stable now", Stable, 0.1),
	}}
	a := m.alert(rep, newClock().now)
	if a.Feature.Name != "new, of weight 2" || a.P != 1e-6 || a.Level != 1e-3 {
		t.Errorf("the alert is on %+v, P %v and level %v", a.Feature, a.P, a.Level)
	}
	if want := []string{"new", "told", "not confirmed", "told, and stable now"}; !slices.Equal(a.Others, want) {
		t.Errorf("others: %q, want %q", a.Others, want)
	}
	for i, want := range []bool{true, true, true, true, false, false, true} {
		if s := m.states[i]; s.told != want || s.drifting != want {
			t.Errorf("%s: %+v", rep.Features[i].Name, s)
		}
	}
}

// By hand: of 2,000 ones and zeros each, KS has the distance 0.05, and PSI a fifth of that.
func TestVerdictsAtTheBorders(t *testing.T) {
	bits := func(zeros, ones, missing int) []float64 {
		return slices.Concat(slices.Repeat([]float64{0}, zeros), slices.Repeat([]float64{1}, ones), slices.Repeat([]float64{math.NaN()}, missing))
	}
	for _, c := range []struct {
		name     string
		ref, cur []float64
		least    float64
		want     Verdict
	}{
		{"as large as the least effect", bits(1000, 1000, 0), bits(900, 1100, 0), 0.05, Drift},
		{"smaller than that", bits(1000, 1000, 0), bits(900, 1100, 0), math.Nextafter(0.05, 1), Warning},
		{"large by chance", bits(50, 50, 0), bits(43, 57, 0), 0.05, Stable},
		{"as many rows as the reference", bits(1000, 1000, 0), bits(1000, 1000, 0), 0, Stable},
		{"a row more", bits(1000, 1000, 0), bits(1001, 1000, 0), 0, WeakReference},
		{"missing rows are rows", bits(500, 500, 1000), bits(500, 500, 1000), 0, Stable},
	} {
		m := monitor(t, fitted(t, Numbers("x", c.ref)), &MonitorOptions{MinEffect: c.least, Now: newClock().Now})
		for _, x := range c.cur {
			handle(t, m, "x").Observe(x)
		}
		if f := m.Report().Features[0]; f.Verdict != c.want {
			t.Errorf("%s: %v, want %v: %+v", c.name, f.Verdict, c.want, f)
		}
	}
	// The same with labels, whose rows are those that have one.
	scores, truth := make([]float64, 200), make([]bool, 200)
	for i := range scores {
		scores[i], truth[i] = float64(i)/200, i >= 100
	}
	ref := fitted(t, Predictions("p", scores, truth, 0.5))
	for rows, want := range map[int]Verdict{minJudged - 1: Insufficient, minJudged: Stable, 200: Stable, 201: WeakReference} {
		m := monitor(t, ref, &MonitorOptions{Now: newClock().Now})
		p, err := m.Performance()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			k := i * 37 % 200 // all of the reference in another order
			p.Predicted(fmt.Sprint(i), scores[k])
			if i < rows {
				p.Actual(fmt.Sprint(i), truth[k])
			}
		}
		if f := m.Report().Features[1]; f.Verdict != want {
			t.Errorf("%d labels: %v, want %v: %+v", rows, f.Verdict, want, f)
		}
	}
}
