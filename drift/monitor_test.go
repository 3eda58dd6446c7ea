package drift

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func monitor(t testing.TB, r *Reference, o *MonitorOptions) *Monitor {
	t.Helper()
	m, err := NewMonitor(r, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func handle(t testing.TB, m *Monitor, name string) *Numeric {
	t.Helper()
	h, err := m.Numeric(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEpisodes(t *testing.T) {
	clk, w := newClock(), newWorld(3)
	of := traits[:3]
	m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Tumbling(1000), Cooldown: 5 * time.Second, Now: clk.Now})
	f, tick := w.feeder(t, m, of), clk.step(time.Millisecond)
	expect := func(what string, windows int, names ...string) Alert {
		t.Helper()
		f.rows(1000*windows, tick)
		got := taken(m)
		if len(names) == 0 {
			if len(got) > 0 {
				t.Fatalf("%s: alert on %v", what, named(got[0]))
			}
			return Alert{}
		}
		if len(got) != 1 || strings.Join(named(got[0]), " ") != strings.Join(names, " ") {
			t.Fatalf("%s: %d alerts %+v, want one on %v", what, len(got), got, names)
		}
		if a := got[0]; a.Feature.Verdict != Drift || a.Reference != m.Report().Reference || a.Time.IsZero() || len(a.ID) != 32 {
			t.Fatalf("%s: %+v", what, a)
		}
		return got[0]
	}
	expect("quiet", 3)
	w.shift["normal"] = true
	expect("not confirmed yet", 1)
	first := expect("confirmed", 1, "normal")
	expect("the same drift goes on, far beyond the cooldown", 15)
	w.shift["heavy"] = true
	second := expect("another feature joins", 2, "heavy", "normal")
	if second.Feature.Name != "heavy" || second.ID == first.ID {
		t.Errorf("the new feature should lead, under a new ID: %+v", second)
	}
	w.shift["lognormal"] = true
	expect("a third, within the cooldown", 3)
	expect("told when the cooldown is over", 3, "heavy", "lognormal", "normal")
	clear(w.shift)
	expect("over", 2)
	w.shift["normal"] = true
	expect("two calm windows are no recovery: the drift is the old one", 4)
	clear(w.shift)
	expect("recovered", 3)
	w.shift["normal"] = true
	third := expect("a new drift of the same feature", 2, "normal")
	if third.ID == first.ID {
		t.Error("the new drift has the old ID")
	}
}

func TestConfirmInARow(t *testing.T) {
	clk, w := newClock(), newWorld(4)
	of := traits[:1]
	m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Tumbling(500), Confirm: 3, Now: clk.Now})
	f, tick := w.feeder(t, m, of), clk.step(time.Millisecond)
	for range 5 {
		w.shift["normal"] = true
		f.rows(1000, tick)
		clear(w.shift)
		f.rows(500, tick)
	}
	if got := taken(m); len(got) > 0 {
		t.Errorf("two hits and a calm window, and yet %+v", got)
	}
	w.shift["normal"] = true
	f.rows(1500, tick)
	if got := taken(m); len(got) != 1 {
		t.Errorf("%d alerts after three hits", len(got))
	}
}

func TestRebase(t *testing.T) {
	clk, w := newClock(), newWorld(5)
	of := traits[:2]
	old := w.reference(t, 10_000, of)
	m := monitor(t, old, &MonitorOptions{Window: Tumbling(1000), Cooldown: -1, Now: clk.Now})
	f, tick := w.feeder(t, m, of), clk.step(time.Millisecond)

	w.shift["normal"] = true
	f.rows(1500, tick) // one hit, and half a window
	if err := m.Rebase(old); err != nil {
		t.Fatal(err)
	}
	f.rows(500, tick)
	if got := taken(m); len(got) != 1 {
		t.Fatalf("rebasing on the same reference changed something: %d alerts", len(got))
	}

	shifted := make([]float64, 10_000)
	for i := range shifted {
		shifted[i] = traits[0].number(w, true)
	}
	plain := make([]float64, 10_000)
	for i := range plain {
		plain[i] = traits[1].number(w, false)
	}
	now := fitted(t, Numbers("normal", shifted), Numbers("lognormal", plain))
	f.rows(300, tick)
	if err := m.Rebase(now); err != nil {
		t.Fatal(err)
	}
	if rep := m.Report(); rep.Reference != now.ID() || rep.Rows != 0 {
		t.Errorf("after Rebase: %d rows against %s", rep.Rows, rep.Reference)
	}
	f.rows(10_000, tick) // through the old handles
	if got := taken(m); len(got) > 0 {
		t.Errorf("the new reference fits, and yet %v", named(got[0]))
	}
	if rep := m.Report(); rep.Features[1].Verdict != Stable || rep.Rows != 1000 {
		t.Errorf("%+v", rep)
	}
	// A hit on each side of a Rebase confirms nothing, and an alert not told is dropped.
	clear(w.shift)
	f.rows(1000, tick)
	m.settle()
	if err := m.Rebase(old); err != nil {
		t.Fatal(err)
	}
	w.shift["normal"] = true
	f.rows(1000, tick)
	if got := taken(m); len(got) > 0 {
		t.Errorf("confirmed across a Rebase: %+v", got)
	}
	f.rows(1000, tick)
	m.settle()
	if err := m.Rebase(now); err != nil {
		t.Fatal(err)
	}
	if got := taken(m); len(got) > 0 {
		t.Errorf("an alert on the old reference came after Rebase: %+v", got)
	}

	for what, other := range map[string]*Reference{
		"fewer": fitted(t, Numbers("normal", shifted)), "more": fitted(t, Numbers("normal", shifted), Numbers("lognormal", plain), Numbers("x", plain)),
		"kind": fitted(t, Numbers("normal", shifted), Categories("lognormal", []string{"a"})),
	} {
		if err := m.Rebase(other); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, none := range []*Reference{nil, {}} {
		if err := m.Rebase(none); err == nil || err.Error() != "drift: cannot rebase on an empty reference" {
			t.Errorf("rebased on nothing: %v", err)
		}
	}
	if m.Report().Reference != now.ID() {
		t.Error("a refused Rebase changed the reference")
	}
}

func TestNewMonitorRefuses(t *testing.T) {
	ref := fitted(t, Numbers("x", []float64{1}), Categories("c", []string{"a"}))
	for want, o := range map[string]*MonitorOptions{
		"100 are the least": {Window: Tumbling(99)},
		"a second is":       {Window: Every(time.Millisecond)},
		"FalseAlarm":        {FalseAlarm: -1},
		"FDR":               {FDR: 1},
		"MinEffect":         {MinEffect: math.NaN()},
		"Confirm":           {Confirm: -1},
		"Recover":           {Recover: -1},
		"FDR is -0.1":       {FDR: -0.1},
		"FDR is NaN":        {FDR: math.NaN()},
		"MinEffect is +Inf": {MinEffect: math.Inf(1)},
		"MinLoss is NaN":    {MinLoss: math.NaN()},
		"MinLoss is +Inf":   {MinLoss: math.Inf(1)},
		"Confirm (101)":     {Confirm: 101},
		"Labels (-1ns)":     {Labels: -1},
		"Waiting (-1)":      {Waiting: -1},
	} {
		_, err := NewMonitor(ref, o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "row 1") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := NewMonitor(ref, &MonitorOptions{Confirm: 100, FDR: 0.999, MinEffect: math.Inf(-1), MinLoss: math.Inf(-1), Cooldown: -1}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
	for _, none := range []*Reference{nil, {}} {
		if _, err := NewMonitor(none, nil); err == nil || err.Error() != "drift: a monitor needs a reference made by Fit or read back" {
			t.Errorf("a monitor without a reference: %v", err)
		}
	}
	m := monitor(t, ref, nil)
	for name, err := range map[string]error{
		"unknown number":   second(m.Numeric("y")),
		"unknown category": second(m.Categorical("y")),
		"not a number":     second(m.Numeric("c")),
		"not a category":   second(m.Categorical("x")),
	} {
		var e *Error
		if !errors.Is(err, ErrSchema) || !errors.As(err, &e) || e.Feature == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestMonitorDefaults(t *testing.T) {
	weights := map[string]float64{"x": 3}
	m := monitor(t, fitted(t, Numbers("x", []float64{1})), &MonitorOptions{Weights: weights})
	weights["x"] = -1 // the caller's
	if m.opt.Now == nil {
		t.Error("there is no clock")
	}
	m.opt.Now = nil
	want := MonitorOptions{
		Window: Tumbling(5000), FalseAlarm: 720 * time.Hour, FDR: 0.05, MinEffect: 0.1, MinLoss: 0.05, Confirm: 2, Recover: 3,
		Cooldown: time.Hour, Weights: map[string]float64{"x": 3}, Labels: 24 * time.Hour, Waiting: 100_000,
	}
	if !reflect.DeepEqual(m.opt, want) {
		t.Errorf("%+v, want %+v", m.opt, want)
	}
}

func TestVerdicts(t *testing.T) {
	w := newWorld(6)
	of := traits[:1]
	at := func(ref, rows int, shift float64) (Verdict, *Report) {
		m := monitor(t, w.reference(t, ref, of), &MonitorOptions{Window: Tumbling(5000), Now: newClock().Now})
		h := handle(t, m, "normal")
		for range rows {
			h.Observe(w.NormFloat64() + shift)
		}
		rep := m.Report()
		soundReport(t, rep)
		return rep.Features[0].Verdict, rep
	}
	for _, c := range []struct {
		what      string
		ref, rows int
		shift     float64
		want      Verdict
	}{
		{"too few rows", 1000, minJudged - 1, 5, Insufficient},
		{"enough", 1000, minJudged, 5, Drift},
		{"none", 1000, 0, 0, Insufficient},
		{"nothing", 20_000, 2000, 0, Stable},
		{"small but sure", 40_000, 4000, 0.15, Warning},
		{"large", 20_000, 2000, 1, Drift},
		{"the reference is smaller than the window", 500, 2000, 0, WeakReference},
		{"and yet there is no doubt", 500, 2000, 2, Drift},
	} {
		if got, rep := at(c.ref, c.rows, c.shift); got != c.want {
			t.Errorf("%s: %v, want %v: %+v", c.what, got, c.want, rep.Features[0])
		}
	}
	// The least window is judged for all that is observed in a row, not only for what comes first.
	m := monitor(t, w.reference(t, 1000, traits[:2]), &MonitorOptions{Window: Tumbling(minRows), Now: newClock().Now})
	w.feeder(t, m, traits[:2]).rows(minRows, func() {})
	for _, f := range m.Report().Features {
		if f.Verdict == Insufficient {
			t.Errorf("%s is not judged in the least window", f.Name)
		}
	}
	for v := Insufficient; v <= Drift; v++ {
		text, err := v.MarshalText()
		var back Verdict
		if err != nil || back.UnmarshalText(text) != nil || back != v || v.String() != string(text) {
			t.Errorf("%v is written %q and read back as %v", v, text, back)
		}
	}
	if _, err := Verdict(9).MarshalText(); err == nil || Verdict(9).String() != "Verdict(9)" || new(Verdict).UnmarshalText([]byte("fine")) == nil {
		t.Error("a verdict that does not exist passes")
	}
}

func TestReportForms(t *testing.T) {
	w := newWorld(8)
	m := monitor(t, w.reference(t, 5000, traits), &MonitorOptions{Window: Tumbling(500), Now: newClock().Now})
	w.feeder(t, m, traits).rows(400, func() {})
	rep := m.Report()
	soundReport(t, rep)
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(&back); err != nil || !bytes.Equal(again, b) {
		t.Error("a report does not come back from its JSON")
	}
	rep.Features[0].Name = "a\tname\nwith breaks"
	var one, two bytes.Buffer
	if err := rep.WriteText(&one); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(one.String()), "\n"); len(lines) != 2+len(traits) {
		t.Errorf("%d lines for %d features:\n%s", len(lines), len(traits), one.String())
	}
	// Looking changes nothing, and what was given away is the caller's.
	rep.Features[0].Scores[0].Stat = 1e9
	if err := m.Report().WriteText(&two); err != nil {
		t.Fatal(err)
	}
	if third := new(bytes.Buffer); m.Report().WriteText(third) != nil || !bytes.Equal(third.Bytes(), two.Bytes()) {
		t.Error("the second look differs from the first")
	}
	if err := rep.WriteText(failing{}); err == nil {
		t.Error("a failed write passed for a report")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

// No value of any kind makes a report unsound.
func TestBadValues(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	columns := map[string][]float64{
		"constant": {5, 5, 5, 5}, "one": {1}, "all missing": {nan, nan}, "infinite": {inf, -inf, inf},
		"huge": {1e300, -1e300, 1.7e308, -math.MaxFloat64, math.MaxFloat64}, "tiny": {5e-324, -5e-324, 0}, "mixed": {nan, inf, 0, 1e300, -1},
	}
	var all []Column
	for name, v := range columns {
		all = append(all, Numbers(name, v))
	}
	all = append(all, Categories("empty", []string{"", ""}), Categories("single", []string{"a"}))
	ref := fitted(t, all...)
	for _, values := range [][]float64{{nan}, {inf}, {-inf}, {0}, {1e300}, {math.MaxFloat64, -math.MaxFloat64}, {5}, {nan, 5, inf, -1e300}} {
		for _, rows := range []int{1, 99, 150} {
			m := monitor(t, ref, &MonitorOptions{Window: Tumbling(1000), Now: newClock().Now})
			for name := range columns {
				h := handle(t, m, name)
				for i := range rows {
					h.Observe(values[i%len(values)])
				}
			}
			for _, name := range []string{"empty", "single"} {
				c, err := m.Categorical(name)
				if err != nil {
					t.Fatal(err)
				}
				for i := range rows {
					c.Observe([]string{"", "a", "b", "\xff"}[i%4])
				}
				c.Missing()
			}
			soundReport(t, m.Report())
		}
	}
}

func TestMissingAndUnseenDrift(t *testing.T) {
	x, c := make([]float64, 5000), make([]string, 5000)
	w := newWorld(9)
	for i := range x {
		x[i], c[i] = w.NormFloat64(), string(rune('a'+i%3))
	}
	m := monitor(t, fitted(t, Numbers("x", x), Numbers("gone", x), Categories("c", c)), &MonitorOptions{Window: Tumbling(1000), Now: newClock().Now})
	hx, gone := handle(t, m, "x"), handle(t, m, "gone")
	hc, err := m.Categorical("c")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 900 {
		if i%10 == 0 {
			hx.Missing()
		} else {
			hx.Observe(w.NormFloat64() + size(i%9 == 0, 1000))
		}
		gone.Missing()
		hc.Observe(string(rune('a' + i%4)))
	}
	rep := m.Report()
	soundReport(t, rep)
	byName := map[string]FeatureReport{}
	for _, f := range rep.Features {
		byName[f.Name] = f
	}
	if f := byName["x"]; f.Missing != 0.1 || math.Abs(f.OutOfRange-0.111) > 0.01 || f.Verdict != Drift {
		t.Errorf("x: %+v", f)
	}
	if f := byName["gone"]; f.Missing != 1 || f.Verdict != Drift {
		t.Errorf("gone: %+v", f)
	}
	if f := byName["c"]; math.Abs(f.Unseen-0.25) > 0.01 || f.Verdict != Drift {
		t.Errorf("c: %+v", f)
	}
}

// Writers in parallel lose nothing while a window is open, and windows close at
// their size: what is left in the open one is what the closed ones do not hold.
func TestParallelWriters(t *testing.T) {
	w := newWorld(10)
	m := monitor(t, w.reference(t, 2000, traits[:2]), &MonitorOptions{Window: Tumbling(100_000), Now: newClock().Now})
	const writers, each = 4, 10_000
	var wg sync.WaitGroup
	for k := range writers {
		h := handle(t, m, traits[k%2].name)
		wg.Go(func() {
			for i := range each {
				h.Observe(float64(i % 7))
			}
		})
	}
	for range 5 {
		soundReport(t, m.Report())
	}
	wg.Wait()
	for i := range m.live.Load().columns {
		if got := m.live.Load().columns[i].observed().rows; got != writers*each/2 {
			t.Errorf("column %d counted %d of %d rows", i, got, writers*each/2)
		}
	}

	// With windows closing under way, nobody judging, and a Rebase in between.
	m = monitor(t, w.reference(t, 2000, traits[:2]), &MonitorOptions{Window: Tumbling(100)})
	other := w.reference(t, 2000, traits[:2])
	for k := range writers {
		h := handle(t, m, traits[k%2].name)
		wg.Go(func() {
			for i := range each {
				h.Observe(float64(i % 7))
			}
		})
	}
	wg.Go(func() {
		if err := m.Rebase(other); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	m.turn.Lock()
	waiting := len(m.pending)
	m.turn.Unlock()
	if waiting > maxPending {
		t.Errorf("%d windows wait to be judged, more than %d", waiting, maxPending)
	}
	soundReport(t, m.Report())
}

func TestObserveAllocatesNothing(t *testing.T) {
	ref := fitted(t, Numbers("x", normals(1, 5000)), Categories("c", []string{"a", "b"}))
	for _, win := range []Window{Tumbling(1 << 30), Every(time.Hour)} {
		m := monitor(t, ref, &MonitorOptions{Window: win, Now: newClock().Now})
		x := handle(t, m, "x")
		c, err := m.Categorical("c")
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(1000, func() {
			x.Observe(0.3)
			x.Missing()
			c.Observe("a")
			c.Observe("new")
		}); n != 0 {
			t.Errorf("%v allocations for four observations", n)
		}
	}
}

func TestEvery(t *testing.T) {
	clk := newClock()
	clk.now = clk.now.Add(17 * time.Minute) // within an hour
	m := monitor(t, fitted(t, Numbers("x", normals(1, 5000))), &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	h := handle(t, m, "x")
	for i := range 300 {
		h.Observe(float64(i))
		clk.now = clk.now.Add(10 * time.Second)
	}
	// 17:00 to 67:00 minutes: the first hour holds the rows of its 43 minutes.
	rep := m.Report()
	if want := newClock().now; !rep.From.Equal(want) || !rep.To.Equal(want.Add(time.Hour)) || rep.Rows != 43*6 {
		t.Errorf("%d rows from %v to %v", rep.Rows, rep.From, rep.To)
	}
	// Ten hours of silence are no windows.
	clk.now = clk.now.Add(10 * time.Hour)
	h.Observe(1)
	m.turn.Lock()
	waiting := len(m.pending)
	m.turn.Unlock()
	if waiting != 1 {
		t.Errorf("%d windows wait, want the one that holds rows", waiting)
	}
	if rep = m.Report(); rep.Rows != 300-43*6 || !rep.To.Equal(newClock().now.Add(2*time.Hour)) {
		t.Errorf("the second window holds %d rows to %v", rep.Rows, rep.To)
	}
	// A clock that was never set is no panic.
	m = monitor(t, fitted(t, Numbers("x", []float64{1})), &MonitorOptions{Window: Every(time.Hour), Now: func() time.Time { return time.Time{} }})
	handle(t, m, "x").Observe(1)
	soundReport(t, m.Report())
}

// Replicas that see the same drift in the same hour agree on the alert's ID.
func TestReplicasAgreeOnID(t *testing.T) {
	ids := map[string]int{}
	ref := newWorld(0).reference(t, 10_000, traits[:1])
	for replica := range uint64(3) {
		clk, w := newClock(), newWorld(100+replica, "normal")
		clk.now = clk.now.Add(time.Duration(replica) * time.Minute)
		m := monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
		w.feeder(t, m, traits[:1]).rows(1500, clk.step(6*time.Second))
		for _, a := range taken(m) {
			ids[a.ID]++
		}
	}
	if len(ids) != 1 {
		t.Errorf("three replicas raised %v", ids)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk, w := newClock(), newWorld(11)
		of := traits[:1]
		m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Tumbling(500), Now: clk.Now})
		f, tick := w.feeder(t, m, of), clk.step(time.Millisecond)
		calls := make(chan Alert, 16)
		at := make(chan time.Duration, 16)
		began, failures := time.Now(), 3
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		watch := m.Watch(func(_ context.Context, a Alert) error {
			calls <- a
			at <- time.Since(began)
			if failures--; failures >= 0 {
				return errors.New("not now")
			}
			return nil
		})
		go func() { done <- watch(ctx) }()
		synctest.Wait()
		if err := watch(ctx); err == nil || err.Error() != "drift: the monitor is watched already" {
			t.Errorf("two watchers of one monitor: %v", err)
		}
		w.shift["normal"] = true
		f.rows(1000, tick)
		synctest.Wait()
		if len(calls) != 1 {
			t.Fatalf("%d calls as the window closed", len(calls))
		}
		time.Sleep(time.Minute)
		f.rows(3000, tick)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(calls) != 4 {
			t.Fatalf("%d calls, want one and three retries", len(calls))
		}
		first := (<-calls).ID
		for range 3 {
			if a := <-calls; a.ID != first {
				t.Error("a retry has another ID")
			}
		}
		for i, want := range []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second} {
			if got := <-at; got != want {
				t.Errorf("call %d after %v, want %v", i, got, want)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// It can be watched again; and a watcher needs someone to tell.
		ctx, stop = context.WithCancel(t.Context())
		go func() { done <- watch(ctx) }()
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := m.Watch(nil)(t.Context()); err == nil || err.Error() != "drift: Watch needs a function to tell" {
			t.Errorf("watched for nobody: %v", err)
		}
	})
}

// A monitor that only reports, or whose alerts nobody takes, keeps the newest of them.
func TestAlertsAreBounded(t *testing.T) {
	clk, w := newClock(), newWorld(14)
	of := traits[:1]
	m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Tumbling(500), Confirm: 1, Recover: 1, Cooldown: -1, Now: clk.Now})
	f := w.feeder(t, m, of)
	var raised []time.Time
	for i := range 2 * 40 {
		w.shift["normal"] = i%2 == 0
		f.rows(500, clk.step(time.Second))
		if rep := m.Report(); rep.Features[0].Alerted {
			raised = append(raised, rep.To)
		}
	}
	var told []time.Time
	for _, a := range taken(m) {
		told = append(told, a.Time)
	}
	if len(raised) != 40 || !slices.Equal(told, raised[8:]) {
		t.Errorf("of %d alerts %d are kept, want the last 32: %v of %v", len(raised), len(told), told, raised)
	}
}

// The ID of an alert stands for the part of the window that is new.
func TestAlertIDOfOverlappingWindows(t *testing.T) {
	for name, window := range map[string]Window{"sliding": Sliding(1000), "decaying": Decaying(4 * time.Hour), "tumbling": Tumbling(100), "every": Every(time.Hour)} {
		clk, w := newClock(), newWorld(15, "normal")
		m := monitor(t, w.reference(t, 10_000, traits[:1]), &MonitorOptions{Window: window, Confirm: 1, Now: clk.Now})
		f := w.feeder(t, m, traits[:1])
		var got []Alert
		for began := clk.now; len(got) == 0 && clk.now.Before(newClock().now.Add(24*time.Hour)); began = clk.now {
			f.rows(99, clk.step(36*time.Second))
			clk.now = began.Add(time.Hour) // an observation more, and a hundred rows or an hour are over
			f.rows(1, func() {})
			if got = closed(m); len(got) == 0 {
				continue
			}
			sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n%d", m.live.Load().ref.ID(), "normal", began.UnixNano()))
			if want := hex.EncodeToString(sum[:16]); got[0].ID != want {
				t.Errorf("%s: the ID is not of the window's newest part, from %v: %+v", name, began, got[0])
			}
		}
		if len(got) != 1 {
			t.Errorf("%s: %d alerts", name, len(got))
		}
	}
}

// Rebase while an alert is being told, or tried again, makes it obsolete: it is told no more, and nothing in its place.
func TestRebaseWhileTelling(t *testing.T) {
	for name, result := range map[string]error{"told": nil, "refused": errors.New("not now")} {
		synctest.Test(t, func(t *testing.T) {
			clk, w := newClock(), newWorld(13, "normal")
			of := traits[:1]
			m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Tumbling(500), Now: clk.Now})
			other := w.reference(t, 10_000, of)
			calls := 0
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			w.feeder(t, m, of).rows(1000, clk.step(time.Millisecond))
			go func() {
				done <- m.Watch(func(_ context.Context, a Alert) error {
					if calls++; a.Feature.Name != "normal" {
						t.Errorf("%s: told of %+v", name, a)
					}
					if err := m.Rebase(other); err != nil {
						t.Error(err)
					}
					return result
				})(ctx)
			}()
			synctest.Wait()
			time.Sleep(10 * time.Minute)
			stop()
			if err := <-done; err != nil || calls != 1 {
				t.Errorf("%s: %v after %d calls", name, err, calls)
			}
		})
	}
	m := &Monitor{alerts: []Alert{{ID: "a"}, {ID: "b"}}}
	if m.told("b"); len(m.alerts) != 2 {
		t.Errorf("what has not been told was removed: %+v", m.alerts)
	}
}

// On the real clock too a window ends as the next begins, and one without an observation is none.
func TestEveryOnTheRealClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := monitor(t, fitted(t, Numbers("x", normals(1, 500))), &MonitorOptions{Window: Every(time.Minute)})
		h := handle(t, m, "x")
		rows := func(n int) {
			for range n {
				h.Observe(0)
			}
		}
		rows(120)
		time.Sleep(time.Minute - time.Nanosecond)
		rows(1)
		time.Sleep(time.Nanosecond)
		rows(130)
		time.Sleep(time.Minute)
		rep := m.Report()
		if h := rep.Features[0].History; len(h) != 2 || h[0].Rows != 121 || h[1].Rows != 130 {
			t.Errorf("%+v, want windows of 121 and 130 rows", h)
		}
		for range 5 {
			time.Sleep(time.Minute)
			rep = m.Report()
		}
		if h := rep.Features[0].History; len(h) != 2 {
			t.Errorf("%d windows after five minutes of silence, want 2", len(h))
		}
	})
}

// The wall clock is set while a window is open, which ends on the monotonic clock as it would have. Those after it are the wall
// clock's again: set back by less than a window, the next one is the next one, and longer.
func TestWallClockIsSet(t *testing.T) {
	for _, c := range []struct {
		by         time.Duration
		from, then time.Duration // of the window after the one in which it is set, and of the one after that
	}{
		{0, time.Hour, 2 * time.Hour},
		{-10 * time.Minute, time.Hour, 2 * time.Hour},
		{-time.Hour, time.Hour, 2 * time.Hour},
		{-time.Hour - time.Second, -time.Hour, 0},
		{-3 * time.Hour, -2 * time.Hour, -time.Hour},
		{10 * time.Minute, time.Hour, 2 * time.Hour},
		{3*time.Hour + time.Minute, 4 * time.Hour, 5 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := monitor(t, fitted(t, Numbers("x", normals(1, 500))), &MonitorOptions{Window: Every(time.Hour)})
			began, x := time.Now(), handle(t, m, "x")
			if !began.Equal(aligned(began, time.Hour)) {
				t.Fatalf("a bubble begins at %v", began)
			}
			set := time.Duration(0)
			m.opt.Now = func() time.Time { return time.Now().Round(0).Add(set) }
			time.Sleep(30 * time.Minute)
			x.Observe(0)
			set = c.by
			time.Sleep(30*time.Minute - time.Nanosecond)
			if x.Observe(0); !m.live.Load().from.Equal(began) {
				t.Errorf("%v: the window is closed by an observation before its time", c.by)
			}
			time.Sleep(time.Nanosecond)
			x.Observe(0)
			w := m.live.Load()
			if !w.from.Equal(began.Add(c.from)) || !w.to.Equal(w.from.Add(time.Hour)) || w.left != w.to.Sub(m.opt.Now()) {
				t.Errorf("%v: at %v the window from %v to %v is open for %v", c.by, m.opt.Now(), w.from, w.to, w.left)
			}
			time.Sleep(w.left)
			if x.Observe(0); !m.live.Load().from.Equal(began.Add(c.then)) || !m.live.Load().from.Equal(m.opt.Now()) {
				t.Errorf("%v: at %v the window from %v is open", c.by, m.opt.Now(), m.live.Load().from)
			}
			if got := len(m.Report().Features[0].History); got != 2 {
				t.Errorf("%v: %d windows have closed", c.by, got)
			}
		})
	}
}

// Panes that do not end before the newest, as the wall clock was set back, leave a decaying window: they would weigh more than it.
func TestPanesOfAClockThatWasSetBack(t *testing.T) {
	clk, w := newClock(), newWorld(57)
	m := monitor(t, w.reference(t, 10_000, traits[:1]), &MonitorOptions{Window: Decaying(4 * time.Hour), Now: clk.Now})
	f := w.feeder(t, m, traits[:1])
	hour := func(rows int) *Report {
		f.rows(rows, func() {})
		clk.now = clk.now.Add(time.Hour)
		return m.Report()
	}
	hour(400)
	began := clk.now
	for range 5 {
		hour(400)
	}
	clk.now = began
	m.turn.Lock()
	m.live.Store(m.open(m.live.Load().ref, clk.now, clk.now)) // as rotate does for the wall clock
	m.turn.Unlock()
	rep := hour(200)
	if want := began.Add(-time.Hour); !rep.From.Equal(want) || !rep.To.Equal(clk.now) || rep.Rows != 600 {
		t.Errorf("%d rows from %v to %v, want the 600 from %v", rep.Rows, rep.From, rep.To, want)
	}
}

// Sixteen windows wait for Watch; who closes one more judges the oldest himself.
func TestPendingWindows(t *testing.T) {
	m := monitor(t, fitted(t, Numbers("x", normals(1, 500))), &MonitorOptions{Window: Tumbling(100), Now: newClock().Now})
	h := handle(t, m, "x")
	for closed := 1; closed <= 18; closed++ {
		for range 100 {
			h.Observe(0)
		}
		if want := min(closed, 16); len(m.pending) != want || (m.last != nil) != (closed > 16) {
			t.Errorf("%d windows wait after %d have closed", len(m.pending), closed)
		}
	}
}

// With windows of time on the real clock, Watch closes what no observation does.
func TestWatchClosesByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(12, "normal")
		of := traits[:1]
		m := monitor(t, w.reference(t, 10_000, of), &MonitorOptions{Window: Every(time.Minute)})
		f := w.feeder(t, m, of)
		got := make(chan Alert, 16)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- m.Watch(func(_ context.Context, a Alert) error { got <- a; return nil })(ctx)
		}()
		f.rows(500, func() {})
		time.Sleep(time.Minute)
		f.rows(500, func() {})
		time.Sleep(time.Minute + 2*pollClock)
		synctest.Wait()
		if len(got) != 1 {
			t.Errorf("%d alerts after two minutes of drift", len(got))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What was closed but not judged, and an observation that still holds the old
// window, must not bring the old reference back.
func TestRebaseForgetsOldWindows(t *testing.T) {
	old, now := fitted(t, Numbers("x", normals(1, 2000))), fitted(t, Numbers("x", normals(2, 2000)))
	m := monitor(t, old, &MonitorOptions{Window: Tumbling(200), Now: newClock().Now})
	h := handle(t, m, "x")
	for range 450 {
		h.Observe(0)
	}
	held := m.live.Load()
	if err := m.Rebase(now); err != nil {
		t.Fatal(err)
	}
	if rep := m.Report(); rep.Reference != now.ID() || rep.Rows != 0 {
		t.Errorf("after Rebase the report has %d rows against %s, want none against %s", rep.Rows, rep.Reference, now.ID())
	}
	m.rotate(held)
	if rep := m.Report(); rep.Reference != now.ID() || rep.Rows != 0 {
		t.Errorf("a late observation put back %d rows against %s", rep.Rows, rep.Reference)
	}
}

// On a feature of few values the monitor's cells are the values, so its KS is
// that of the values, ties and all.
func TestCellsKeepTies(t *testing.T) {
	w := newWorld(13)
	near := 0
	for range 20 {
		ref, cur := make([]float64, 3000), make([]float64, 400)
		for i := range ref {
			ref[i] = float64(w.IntN(5))
		}
		for i := range cur {
			cur[i] = float64(w.IntN(5)) - size(w.IntN(8) == 0, 1)
		}
		m := monitor(t, fitted(t, Numbers("x", ref)), &MonitorOptions{Window: Tumbling(1000), Now: newClock().Now})
		h := handle(t, m, "x")
		for _, x := range cur {
			h.Observe(x)
		}
		got, want := m.Report().Features[0].Scores[1], KS(ref, cur)
		if got.Stat != want.Stat {
			t.Errorf("D is %v on the cells, %v on the values", got.Stat, want.Stat)
		}
		// Values the reference lacks share a cell, which may only add to P.
		if got.Method == "ks exact" {
			near++
			if got.P < want.P*(1-1e-9) || got.P > want.P*1.2 {
				t.Errorf("P is %v on the cells, %v on the values", got.P, want.P)
			}
		}
	}
	if near < 5 {
		t.Errorf("only %d windows were near enough to a decision to be exact", near)
	}
}
