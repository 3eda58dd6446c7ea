package drift

import (
	"math"
	"os"
	"slices"
	"testing"
	"time"
)

var soak = os.Getenv("MAINSTAY_SOAK") != ""

// brief is for runs that want to know whether the code is whole rather than
// whether the rates are right: with -short, and with -race, which makes arithmetic in one goroutine ten times slower
// and has nothing to find there.
func brief() bool { return racing || testing.Short() && !soak }

// atMost is the number of events that a Poisson variable of this mean exceeds with
// a probability below 1e-5: what a test with a fixed seed may see and be right.
func atMost(mean float64) int {
	p, sum, k := math.Exp(-mean), 0.0, 0
	for sum += p; sum < 1-1e-5; sum += p {
		k++
		p *= mean / float64(k)
	}
	return k
}

// notBelow is the number of events below which a Poisson variable of this mean
// stays with a probability of at most 1e-5.
func notBelow(mean float64) int {
	p, sum, k := math.Exp(-mean), 0.0, 0
	for sum += p; sum <= 1e-5; sum += p {
		k++
		p *= mean / float64(k)
	}
	return k
}

// The P of a feature, over fresh references and windows without drift, rejects no
// more often than it says, for each shape of feature. 1.5 is what the
// package says of chi-square in the tail; the other tests are conservative.
func TestFeaturePIsCalibrated(t *testing.T) {
	reps := 50
	switch {
	case soak:
		reps = 3000
	case brief():
		reps = 10
	}
	for _, c := range []struct{ ref, rows int }{{5000, 500}, {5000, 2000}, {20_000, 5000}} {
		if !soak && c.ref > 5000 {
			continue
		}
		levels := []float64{0.05, 0.01, 0.001}
		hits := make(map[string]*[3]int)
		w := newWorld(uint64(c.ref + c.rows))
		for range reps {
			ref := w.reference(t, c.ref, traits)
			m := monitor(t, ref, &MonitorOptions{Window: Tumbling(math.MaxInt), Now: newClock().Now})
			win := m.live.Load()
			w.feeder2(m, ref).rows(c.rows, func() {})
			for i := range win.columns {
				rep := win.columns[i].compare(win.columns[i].observed())
				h := hits[rep.Name]
				if h == nil {
					h = new([3]int)
					hits[rep.Name] = h
				}
				for k, a := range levels {
					if rep.P <= a {
						h[k]++
					}
				}
			}
		}
		for name, h := range hits {
			for k, a := range levels {
				if most := atMost(1.5 * a * float64(reps)); h[k] > most {
					t.Errorf("%s, %d rows against %d: P <= %v in %d of %d windows without drift, at most %d expected", name, c.rows, c.ref, a, h[k], reps, most)
				}
			}
		}
		if soak {
			for name, h := range hits {
				t.Logf("%d/%d %-14s %.4f %.4f %.5f", c.rows, c.ref, name, float64(h[0])/float64(reps), float64(h[1])/float64(reps), float64(h[2])/float64(reps))
			}
		}
	}
}

func (w *world) feeder2(m *Monitor, ref *Reference) *feeder {
	f := &feeder{w: w, of: traits, numbers: make([]*Numeric, len(traits)), texts: make([]*Categorical, len(traits))}
	for i, tr := range traits {
		at := slices.IndexFunc(ref.features, func(f *feature) bool { return f.name == tr.name })
		f.numbers[i], f.texts[i] = &Numeric{m: m, i: at}, &Categorical{m: m, i: at}
	}
	return f
}

// As a service would run it: the default options, twenty seeds, with and without a shift.
func TestTwentySeeds(t *testing.T) {
	seeds := uint64(20)
	if brief() {
		seeds = 2
	}
	for _, c := range []struct {
		ref, rows int
		shifted   []string
	}{
		{20_000, 2000, []string{"lognormal", "plan"}},
		{20_000, 2000, []string{"constant", "five-values", "missing", "normal", "rare-ones", "zipf"}},
		{5000, 500, []string{"counts", "heavy", "zero-inflated"}},
	} {
		for seed := range seeds {
			clk := newClock()
			w := newWorld(seed)
			m, err := NewMonitor(w.reference(t, c.ref, traits), &MonitorOptions{Window: Tumbling(c.rows), Cooldown: time.Minute, Now: clk.Now})
			if err != nil {
				t.Fatal(err)
			}
			f, tick := w.feeder(t, m, traits), clk.step(20*time.Millisecond)
			f.rows(4*c.rows, tick)
			if got := taken(m); len(got) > 0 {
				t.Errorf("seed %d, %d rows: without a shift, an alert on %v", seed, c.rows, named(got[0]))
			}
			f.rows(c.rows/3+int(seed)*c.rows/40, tick) // the shift comes within a window
			for _, s := range c.shifted {
				w.shift[s] = true
			}
			f.rows(6*c.rows, tick)
			got := taken(m)
			if len(got) != 1 {
				t.Errorf("seed %d, %d rows: %d alerts for one shift", seed, c.rows, len(got))
				continue
			}
			if !slices.Equal(named(got[0]), c.shifted) {
				t.Errorf("seed %d, %d rows: named %v, shifted were %v", seed, c.rows, named(got[0]), c.shifted)
			}
		}
	}
}

// Rare categories do not make chi-square reject too often: they are pooled.
// Without that it rejects several times more often than it says.
func TestSparseBinsArePooled(t *testing.T) {
	reps := 8000
	switch {
	case soak:
		reps = 100_000
	case brief():
		reps = 1000
	}
	even := make([]float64, 20)
	for k := range even {
		even[k] = float64(k+1) / 20
	}
	even[19] = 1
	for name, shares := range map[string][]float64{
		"a long tail":     {0.9, 0.95, 0.97, 0.98, 0.988, 0.993, 0.996, 0.998, 0.999, 1},
		"all bins sparse": even,
	} {
		w := newWorld(14)
		draw := func(n int, moved float64) []int {
			c := make([]int, len(shares))
			for range n {
				u := w.Float64()
				k := 0
				for u >= shares[k] {
					k++
				}
				if moved > 0 && w.Float64() < moved {
					k = len(shares) - 1
				}
				c[k]++
			}
			return c
		}
		pooled, plain := 0, 0
		for range reps {
			ref, cur := draw(2000, 0), draw(200, 0)
			if homogeneity(joinCategories(ref, cur, sparse)).Drifted(0.001) {
				pooled++
			}
			if ChiSquare(ref, cur).Drifted(0.001) {
				plain++
			}
		}
		expected := 0.001 * float64(reps)
		t.Logf("%s: of %d: %d pooled, %d not, %.0f nominal", name, reps, pooled, plain, expected)
		if most := atMost(1.5 * expected); pooled > most {
			t.Errorf("%s: %d of %d windows without drift rejected at 0.001, at most %d expected", name, pooled, reps, most)
		}
		// What is pooled is still seen: a third of the rows moves into the last bin.
		for range 20 {
			if s := homogeneity(joinCategories(draw(2000, 0), draw(200, 1.0/3), sparse)); !s.Drifted(0.001) {
				t.Errorf("%s: a third of the rows has moved: %+v", name, s)
			}
		}
	}
}

// The level is the formula of the package comment, by hand.
func TestLevel(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, c := range []struct {
		open  time.Duration
		share float64
		want  float64
	}{
		{month / 1000, 1, 1e-3},          // the budget itself
		{month / 1000, 0.1, 1e-4},        // shared by ten features
		{month, 1, maxLevel},             // no level above the cap
		{month, 0, 0},                    // no weight, no alarm
		{0, 1, 3.858024691e-10},          // a millisecond of 2,592,000,000
		{-time.Hour, 1, 3.858024691e-10}, // a clock that went back
	} {
		o := MonitorOptions{FalseAlarm: month}
		if got := o.level(c.open, c.share); math.Abs(got-c.want) > 1e-8*c.want {
			t.Errorf("%+v: level %v", c, got)
		}
	}
	ref := fitted(t, Numbers("a", []float64{1}), Numbers("b", []float64{1}), Categories("c", []string{"x"}))
	for want, w := range map[[3]float64]map[string]float64{
		{1. / 3, 1. / 3, 1. / 3}: nil,
		{0.6, 0.2, 0.2}:          {"a": 3},
		{0.5, 0, 0.5}:            {"b": 0},
		{0, 0, 0}:                {"a": 0, "b": 0, "c": 0},
	} {
		if got := (&MonitorOptions{Weights: w}).shares(ref); [3]float64(got) != want {
			t.Errorf("weights %v: shares %v, want %v", w, got, want)
		}
	}
	// A clock that was not set when the window opened grants a millisecond, not centuries.
	long := fitted(t, Numbers("x", normals(1, 5000)))
	detectable := func(from, to time.Time) float64 {
		m := monitor(t, long, &MonitorOptions{Now: func() time.Time { return from }})
		h := handle(t, m, "x")
		for _, x := range normals(2, 500) {
			h.Observe(x)
		}
		return m.opt.assess(m.opt.Window.look(long, []*pane{m.live.Load().until(to)})).Features[0].MinDetectable
	}
	now := newClock().now
	if unset, brief := detectable(time.Time{}, now), detectable(now, now); unset != brief || unset <= detectable(now, now.Add(time.Hour)) {
		t.Errorf("detectable with an unset clock %v, in no time %v", unset, brief)
	}
}

func (w *world) normals(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = w.NormFloat64()
	}
	return v
}
