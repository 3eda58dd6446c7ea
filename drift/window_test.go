package drift

import (
	"math"
	"testing"
	"time"
)

// Each window sees a shift, names it, and tells it once.
func TestEachWindowSeesAShift(t *testing.T) {
	for name, window := range map[string]Window{
		"sliding": Sliding(1000), "timed": Every(1000 * time.Second), "decaying": Decaying(1000 * time.Second),
	} {
		clk, w := newClock(), newWorld(32)
		of := traits[:3]
		m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: window, Now: clk.Now})
		f, tick := w.feeder(t, m, of), clk.step(time.Second)
		f.rows(6000, tick)
		if got := taken(m); len(got) > 0 {
			t.Errorf("%s: an alert without a shift on %v", name, named(got[0]))
		}
		w.shift["normal"] = true
		f.rows(6000, tick)
		if got := taken(m); len(got) != 1 || len(named(got[0])) != 1 || named(got[0])[0] != "normal" {
			t.Errorf("%s: %d alerts for one shift: %+v", name, len(got), got)
		}
		soundReport(t, m.Report())
	}
}

// A sliding window holds its last rows and no others, and moves by a tenth.
func TestSlidingHoldsTheLastRows(t *testing.T) {
	clk := newClock()
	m := monitor(t, fitted(t, Numbers("x", normals(1, 5000))), &MonitorOptions{Window: Sliding(1000), Now: clk.Now})
	h := handle(t, m, "x")
	for range 1500 {
		h.Observe(math.NaN())
	}
	for range 600 {
		h.Observe(0)
	}
	if rep := m.Report(); rep.Rows != 1000 || rep.Features[0].Missing != 0.4 {
		t.Errorf("%d rows, %v missing; want 1000 and 0.4", rep.Rows, rep.Features[0].Missing)
	}
}

// By hand: a quarter of a half-life is a pane, and a pane that is a half-life old weighs half.
func TestDecayingWeighs(t *testing.T) {
	clk := newClock()
	m := monitor(t, fitted(t, Numbers("x", normals(1, 5000))), &MonitorOptions{Window: Decaying(40 * time.Second), Now: clk.Now})
	h := handle(t, m, "x")
	for range 1000 {
		h.Missing()
	}
	clk.now = clk.now.Add(40 * time.Second)
	for range 1000 {
		h.Observe(0)
	}
	clk.now = clk.now.Add(10 * time.Second)
	rep := m.Report()
	// Weights 1/2 and 1: a third is missing, and the rows say as much as 1000 * 1.5^2/1.25.
	if f := rep.Features[0]; math.Abs(f.Missing-1.0/3) > 0.001 || rep.Rows != 2000 || f.Scores[len(f.Scores)-1].M != 1800 {
		t.Errorf("%d rows, missing %v, effective %+v", rep.Rows, f.Missing, f.Scores)
	}
	// After six half-lives nothing is left of them.
	clk.now = clk.now.Add(6 * 40 * time.Second)
	for range 200 {
		h.Observe(1)
	}
	clk.now = clk.now.Add(10 * time.Second)
	if rep := m.Report(); rep.Rows != 200 || rep.Features[0].Missing != 0 {
		t.Errorf("%d rows, %v missing", rep.Rows, rep.Features[0].Missing)
	}
}

// Writers who met have counters of their own, and the window closes at its size
// or at most a sixteenth later.
func TestStripedWindowsCloseInTime(t *testing.T) {
	m := monitor(t, fitted(t, Numbers("x", normals(1, 2000))), &MonitorOptions{Window: Tumbling(1600), Now: newClock().Now})
	m.live.Load().columns[0].split(4)
	h := handle(t, m, "x")
	for n := 1; n <= 1700; n++ {
		h.Observe(0)
		m.turn.Lock()
		closed := len(m.pending)
		m.turn.Unlock()
		if closed == 1 {
			if n < 1600 {
				t.Errorf("closed after %d rows", n)
			}
			if rep := m.Report(); rep.Rows != n {
				t.Errorf("%d rows of %d were kept", rep.Rows, n)
			}
			if m.live.Load().columns[0].stripes.Load() == nil {
				t.Error("the next window begins with one block again")
			}
			return
		}
	}
	t.Error("a window of 1600 rows is open after 1700")
}

func TestWeights(t *testing.T) {
	w := newWorld(33, "normal", "heavy")
	of := traits[:3]
	ref := w.reference(t, 10_000, of)
	m := monitor(t, ref, &MonitorOptions{Window: Tumbling(1000), Weights: map[string]float64{"normal": 0, "heavy": 5}, Now: newClock().Now})
	w.feeder(t, m, of).rows(3000, func() {})
	if got := taken(m); len(got) != 1 || len(got[0].Others) != 0 || got[0].Feature.Name != "heavy" {
		t.Errorf("%+v: a feature of weight 0 alerts never", got)
	}
	if _, err := NewMonitor(ref, &MonitorOptions{Weights: map[string]float64{"normal": 1e9, "heavy": 0}}); err != nil {
		t.Errorf("the largest weight: %v", err)
	}
	for _, bad := range []map[string]float64{{"normal": -1}, {"normal": math.Nextafter(1e9, 2e9)}, {"normal": math.NaN()}, {"normal": math.Inf(1)}, {"nobody": 1}} {
		if _, err := NewMonitor(ref, &MonitorOptions{Weights: bad}); err == nil {
			t.Errorf("weights %v pass", bad)
		}
	}
}

func TestWindowLimits(t *testing.T) {
	for _, w := range []Window{Tumbling(100), Sliding(100), Every(time.Second), Decaying(4 * time.Second)} {
		if err := w.check(); err != nil {
			t.Errorf("the least window: %v", err)
		}
	}
	for _, w := range []Window{Tumbling(99), Sliding(99), Every(time.Second - 1), Decaying(4*time.Second - 1), {kind: 9}, {}} {
		if err := w.check(); err == nil {
			t.Errorf("%+v passes", w)
		}
	}
	for age, want := range map[int]float64{0: 1, 4: 0.5, 8: 0.25, 20: 1. / 32, 24: 0, 25: 0} {
		if got := decay(age); got != want {
			t.Errorf("weight %v after %d quarters of a half-life, want %v", got, age, want)
		}
	}
}

func TestAligned(t *testing.T) {
	at := func(year, hour int) time.Time { return time.Date(year, 2, 3, hour, 0, 0, 0, time.UTC) }
	for _, c := range []struct{ now, want time.Time }{
		{at(2011, 7), at(2011, 6)},
		{at(2011, 6), at(2011, 6)},
		{at(2011, 6).Add(-1), at(2011, 3)},
		{at(1969, 7), at(1969, 6)}, // before the epoch, down as well
		{at(1700, 1), at(1700, 0)},
		{at(2200, 1), at(2200, 0)},
		{at(1699, 1), time.Unix(0, 0)}, // no clock says so
		{at(2201, 1), time.Unix(0, 0)},
		{time.Time{}, time.Unix(0, 0)},
	} {
		if got := aligned(c.now, 3*time.Hour); !got.Equal(c.want) || got.Location() != time.UTC {
			t.Errorf("%v is in the window from %v, want %v", c.now, got, c.want)
		}
	}
}

// A pane that is six half-lives old has no part in the window: neither in its rows nor in its beginning.
func TestDecayedPanesAreForgotten(t *testing.T) {
	clk := newClock()
	m := monitor(t, fitted(t, Numbers("x", normals(1, 500))), &MonitorOptions{Window: Decaying(4 * time.Second), Now: clk.Now})
	h, began := handle(t, m, "x"), clk.now
	for _, c := range []struct{ second, rows int }{{0, 1000}, {1, 300}, {24, 100}} {
		clk.now = began.Add(time.Duration(c.second) * time.Second)
		for range c.rows {
			h.Observe(1)
		}
	}
	clk.now = began.Add(25 * time.Second)
	if rep := m.Report(); rep.Rows != 400 || !rep.From.Equal(began.Add(time.Second)) {
		t.Errorf("%d rows from second %v, want 400 from second 1", rep.Rows, rep.From.Sub(began))
	}
}
