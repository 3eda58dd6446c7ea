package drift

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fleetWorld is rows of three features and a prediction, each with an ID and a label.
func (w *world) fleetReference(t testing.TB) *Reference {
	n := 10_000
	x, c, s, y := make([]float64, n), make([]string, n), make([]float64, n), make([]bool, n)
	for i := range n {
		x[i], c[i] = traits[0].number(w, false), traits[10].text(w, false)
		s[i], y[i] = w.scored(false)
	}
	return fitted(t, Numbers("x", x), Categories("c", c), Predictions("p", s, y, 0.5))
}

type node struct {
	m *Monitor
	x *Numeric
	c *Categorical
	p *Performance
}

func newNode(t *testing.T, ref *Reference, w Window, now func() time.Time) node {
	t.Helper()
	m := monitor(t, ref, &MonitorOptions{Window: w, Now: now})
	c, err := m.Categorical("c")
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	return node{m, handle(t, m, "x"), c, p}
}

// Eight replicas share the rows that one process sees as well. What they send adds up to its
// counts in every bit, and the monitor that judges the sums reports and alerts as it does.
func TestReplicasAddUp(t *testing.T) {
	for name, window := range map[string]Window{"every": Every(time.Hour), "decaying": Decaying(4 * time.Hour)} {
		t.Run(name, func(t *testing.T) {
			clk, w := newClock(), newWorld(41)
			ref := w.fleetReference(t)
			one := newNode(t, ref, window, clk.Now)
			replicas := make([]node, 8)
			for i := range replicas {
				replicas[i] = newNode(t, ref, window, clk.Now)
			}
			fleet := monitor(t, ref, &MonitorOptions{Window: window, Now: clk.Now})
			var alerts, alertsOfOne []Alert
			for hour := range 12 {
				for row := range 1440 {
					x, c := traits[0].number(w, hour > 6), traits[10].text(w, false)
					s, y := w.scored(false)
					id := fmt.Sprint(hour, row)
					for _, n := range []node{one, replicas[w.IntN(8)]} {
						n.x.Observe(x)
						n.c.Observe(c)
						n.p.Predicted(id, s)
						n.p.Actual(id, y)
					}
					clk.now = clk.now.Add(2500 * time.Millisecond)
				}
				var sum *Snapshot
				for _, i := range w.Perm(8) {
					s, ok := replicas[i].m.Snapshot()
					if !ok {
						t.Fatalf("replica %d has no window after hour %d", i, hour)
					}
					sent, err := s.MarshalBinary()
					if err != nil {
						t.Fatal(err)
					}
					var got Snapshot
					if err := got.UnmarshalBinary(sent); err != nil {
						t.Fatal(err)
					}
					if sum == nil {
						sum = &got
					} else if err := sum.Merge(&got); err != nil {
						t.Fatal(err)
					}
				}
				alone, _ := one.m.Snapshot()
				a, errA := alone.MarshalBinary()
				b, errB := sum.MarshalBinary()
				if errA != nil || errB != nil || !bytes.Equal(a, b) {
					t.Fatalf("hour %d: the sum of the replicas is not what one process counted", hour)
				}
				if sum.Rows() != 1440 {
					t.Fatalf("%d rows of 1440", sum.Rows())
				}
				if err := fleet.Judge(sum); err != nil {
					t.Fatal(err)
				}
				x, errX := json.Marshal(one.m.Report())
				y, errY := json.Marshal(fleet.Report())
				if errX != nil || errY != nil || !bytes.Equal(x, y) {
					t.Fatalf("hour %d: the reports differ:\n%s\n%s", hour, x, y)
				}
				alerts, alertsOfOne = append(alerts, taken(fleet)...), append(alertsOfOne, taken(one.m)...)
			}
			x, _ := json.Marshal(alerts)
			y, _ := json.Marshal(alertsOfOne)
			if len(alerts) != 1 || alerts[0].Feature.Name != "x" || !bytes.Equal(x, y) {
				t.Errorf("%d alerts of the fleet, %d of one process, for one shift", len(alerts), len(alertsOfOne))
			}
		})
	}
}

// hourly is a monitor with one hour counted, and the snapshot of it.
func hourly(t testing.TB, ref *Reference, hour int) *Snapshot {
	t.Helper()
	clk := newClock()
	clk.now = clk.now.Add(time.Duration(hour) * time.Hour)
	m := monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	if _, ok := m.Snapshot(); ok {
		t.Error("a snapshot before a window has closed")
	}
	h := handle(t, m, "x")
	for i := range 150 {
		h.Observe(float64(i % 5))
	}
	clk.now = clk.now.Add(time.Hour)
	s, ok := m.Snapshot()
	if !ok {
		t.Fatal("no snapshot of a closed window")
	}
	return s
}

func TestMergeAndJudgeRefuse(t *testing.T) {
	ref, other := fitted(t, Numbers("x", normals(1, 500))), fitted(t, Numbers("x", normals(2, 500)))
	good := hourly(t, ref, 1)
	before, err := good.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if from, to := good.Span(); !to.Equal(from.Add(time.Hour)) || good.Reference() != ref.ID() || good.Rows() != 150 {
		t.Errorf("%v to %v, %d rows of %s", from, to, good.Rows(), good.Reference())
	}
	forged := func(change func(*Snapshot)) *Snapshot {
		s := hourly(t, ref, 1)
		p := *s.counted
		s.counted = &p
		change(s)
		return s
	}
	odd := map[string]*Snapshot{
		"nil": nil, "empty": {}, "another reference": hourly(t, other, 1), "cells": forged(func(s *Snapshot) {
			s.counted.columns = []observed{{rows: 200, present: 200, counts: []int{200}}}
		}),
		"columns": forged(func(s *Snapshot) { s.counted.columns = append(s.counted.columns, s.counted.columns...) }),
		"labels":  forged(func(s *Snapshot) { s.counted.labels = newLabelled(3) }),
		"window":  forged(func(s *Snapshot) { s.window = Every(time.Minute) }),
		"span":    forged(func(s *Snapshot) { s.counted.from = s.counted.from.Add(-time.Hour) }),
		"unaligned": forged(func(s *Snapshot) {
			s.counted.from, s.counted.to = s.counted.from.Add(time.Minute), s.counted.to.Add(time.Minute)
		}),
	}
	m := monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), Now: newClock().Now})
	for name, s := range odd {
		if err := good.Merge(s); err == nil {
			t.Errorf("%s was merged", name)
		}
		if err := m.Judge(s); err == nil || !strings.HasPrefix(err.Error(), "drift: ") {
			t.Errorf("%s was judged: %v", name, err)
		}
	}
	if err := good.Merge(hourly(t, ref, 2)); err == nil {
		t.Error("another hour was merged")
	}
	if err := m.Judge(odd["another reference"]); !errors.Is(err, ErrSchema) {
		t.Errorf("another reference: %v", err)
	}
	if after, err := good.MarshalBinary(); err != nil || !bytes.Equal(after, before) {
		t.Error("a refused merge has changed the snapshot")
	}
	if m.Report().Rows != 0 {
		t.Error("a refused snapshot was judged")
	}
	if err := m.Judge(hourly(t, ref, 2)); err != nil {
		t.Fatal(err)
	}
	for name, hour := range map[string]int{"the same hour": 2, "an earlier one": 1} {
		if err := m.Judge(hourly(t, ref, hour)); err == nil {
			t.Errorf("%s was judged after it", name)
		}
	}
	if err := m.Judge(hourly(t, ref, 3)); err != nil || m.Report().Rows != 150 || len(m.Report().Features[0].History) != 2 {
		t.Errorf("%v: two hours were judged", err)
	}
	full := forged(func(s *Snapshot) {
		c := s.counted.columns[0]
		c.rows = int(snapshotRows)
		s.counted.columns = []observed{c}
	})
	if err := full.Merge(good); err == nil {
		t.Error("more rows than can be counted were merged")
	}
	rows := monitor(t, ref, &MonitorOptions{Window: Tumbling(100), Now: newClock().Now})
	for range 300 {
		handle(t, rows, "x").Observe(1)
	}
	if _, ok := rows.Snapshot(); ok {
		t.Error("a snapshot of a window that rows close")
	}
	if err := rows.Judge(good); err == nil {
		t.Error("an hour was judged by a monitor of rows")
	}
}

// What was merged shares nothing with the monitor it came from.
func TestMergeLeavesTheMonitorAlone(t *testing.T) {
	clk := newClock()
	m := monitor(t, fitted(t, Numbers("x", normals(1, 500))), &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	for range 120 {
		handle(t, m, "x").Observe(0)
	}
	clk.now = clk.now.Add(time.Hour)
	a, _ := m.Snapshot()
	b, _ := m.Snapshot()
	if err := a.Merge(b); err != nil || a.Rows() != 240 || b.Rows() != 120 {
		t.Fatalf("%v: %d and %d rows", err, a.Rows(), b.Rows())
	}
	if c, _ := m.Snapshot(); c.Rows() != 120 {
		t.Errorf("the monitor's window has %d rows now", c.Rows())
	}
}

func TestSnapshotRefusesDamage(t *testing.T) {
	good, err := hourly(t, fitted(t, Numbers("x", normals(1, 500))), 1).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, b []byte) {
		t.Helper()
		var s Snapshot
		if err := s.UnmarshalBinary(b); !errors.Is(err, ErrFormat) || s.counted != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x20
		refused("one bit", b)
		refused("cut", good[:i])
	}
	refused("longer", append(bytes.Clone(good), 0))
	if _, err := new(Snapshot).MarshalBinary(); err == nil {
		t.Error("an empty snapshot was written")
	}
	if from, to := new(Snapshot).Span(); !from.IsZero() || !to.IsZero() || new(Snapshot).Rows() != 0 {
		t.Error("an empty snapshot has counts")
	}
}

// What a forger could write is read up to the limits, and written as it was read.
func TestForgedSnapshots(t *testing.T) {
	from := time.Date(2011, 5, 1, 0, 0, 0, 0, time.UTC)
	window := func(kind windowKind, span time.Duration) string {
		return strings.Repeat("\xab", 16) + string([]byte{byte(kind)}) + uvarint(uint64(span))
	}
	hour := window(every, time.Hour) + eightBytes(uint64(from.UnixNano())) + eightBytes(uint64(from.Add(time.Hour).UnixNano()))
	column := func(missing, unseen, rows uint64) string {
		return "\x01" + uvarint(missing) + uvarint(unseen) + "\x01" + uvarint(rows)
	}
	const limit = uint64(snapshotRows)
	none := strings.Repeat("\x00", 30) // of the tenths of the scores
	for name, c := range map[string]struct{ content, want string }{
		"a column":             {hour + column(5, 2, 300), ""},
		"one without counts":   {hour + "\x01\x00\x00\x00", ""},
		"labels":               {hour + "\x00\x02\x01\x00\x00\x01\x00\x00\x01\x00\x00\x01\x01\x00" + none[6:], ""},
		"nothing":              {"", "the reference is cut short"},
		"no window":            {hour[:16], "the window is cut short"},
		"no span":              {hour[:17], "the window is cut short"},
		"window by rows":       {window(tumbling, 0) + hour[len(hour)-16:] + "\x00", "not a window by time"},
		"half a second":        {window(every, time.Second/2) + hour[len(hour)-16:] + "\x00", "not a window by time"},
		"kind that is not":     {window(9, time.Hour) + hour[len(hour)-16:] + "\x00", "not a window by time"},
		"no end":               {hour[:len(hour)-8], "a time is cut short"},
		"no columns":           {hour, "the number of features is cut short"},
		"half a column":        {hour + "\x01\x00\x00", "the number of features is cut short"},
		"no counts":            {hour + "\x01\x00\x00\x01", "the number of counts is cut short"},
		"one column of two":    {hour + "\x02" + "\x00\x00\x03\x01\x01\x01", "a count is cut short"},
		"one byte more":        {hour + "\x00\x01\x00\x00\x00\x00" + none + "\x00", "bytes are left over"},
		"rows at the limit":    {hour + column(limit-3, 1, 2), ""},
		"rows over it":         {hour + column(limit-3, 2, 2), "more rows than can be counted"},
		"a count over it":      {hour + column(0, 0, limit+1), "a count is cut short or over its limit"},
		"missing over it":      {hour + column(limit+1, 0, 0), "a count is cut short or over its limit"},
		"unseen over it":       {hour + column(0, limit+1, 0), "a count is cut short or over its limit"},
		"counts at the limit":  {hour + "\x01\x00\x00" + uvarint(10_000) + strings.Repeat("\x01", 10_000), ""},
		"counts over it":       {hour + "\x01\x00\x00" + uvarint(10_001) + strings.Repeat("\x01", 10_001), "the number of counts is cut short or over its limit"},
		"cells at the limit":   {hour + "\x00" + uvarint(2001) + strings.Repeat("\x00", 2*2001+2) + none, ""},
		"cells over it":        {hour + "\x00" + uvarint(2002) + strings.Repeat("\x00", 2*2002+2) + none, "the number of cells is cut short or over its limit"},
		"fewer labels":         {hour + "\x00\x09\x00\x00", "the number of cells is cut short"},
		"labels at the limit":  {hour + "\x00\x01" + uvarint(limit) + "\x00\x00\x00" + uvarint(limit) + none[1:], ""},
		"labels over it":       {hour + "\x00\x01" + uvarint(limit) + "\x01\x00\x00" + uvarint(limit) + "\x00\x00\x01\x01\x00" + none[6:], "more labels than can be counted"},
		"labels of no tenth":   {hour + "\x00\x01\x01\x00\x00\x00" + none, "the bins of the scores do not hold the labels of the cells"},
		"more true than there": {hour + "\x00\x01\x00\x01\x00\x00\x01\x02\x00" + none[3:], "a bin of 1 labels"},
	} {
		forged := sealed("DRFS\x01", c.content)
		var s Snapshot
		err := s.UnmarshalBinary(forged)
		if c.want != "" {
			if !errors.Is(err, ErrFormat) || !strings.HasPrefix(err.Error(), "drift: snapshot: "+c.want) || s.counted != nil {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if b, errB := s.MarshalBinary(); err != nil || errB != nil || !bytes.Equal(b, forged) {
			t.Errorf("%s: %v, %v, or not written as it was read", name, err, errB)
		}
	}
	var s Snapshot
	if err := s.UnmarshalBinary(sealed("DRFS\x01", hour+column(5, 2, 300))); err != nil {
		t.Fatal(err)
	}
	if c := s.counted.columns[0]; c.rows != 307 || c.missing != 5 || c.unseen != 2 || c.present != 302 || s.Rows() != 307 {
		t.Errorf("5 missing, 2 unseen and 300 others are read as %+v", c)
	}
	if begin, end := s.Span(); !begin.Equal(from) || !end.Equal(from.Add(time.Hour)) || s.Reference() != strings.Repeat("ab", 16) {
		t.Errorf("%v to %v against %s", begin, end, s.Reference())
	}
	for i := range 5 + 32 {
		err := s.UnmarshalBinary(sealed("DRFS\x01", "")[:i])
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "cut short, or does not begin with") {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

// Sums are made up to the limit of what can be counted, and not beyond it.
func TestMergeUpToTheLimit(t *testing.T) {
	of := func(rows, labels int64) *Snapshot {
		l := newLabelled(1)
		l.negatives[0], l.bins[0].n = labels, labels
		return &Snapshot{window: Every(time.Hour), counted: &pane{
			columns: []observed{{rows: int(rows), present: int(rows), counts: []int{int(rows)}}}, labels: l,
		}}
	}
	const limit = int64(snapshotRows)
	for _, c := range []struct {
		rows, labels int64
		want         string
	}{{limit - 7, limit - 3, ""}, {limit - 6, limit - 3, "more rows than can be counted"}, {limit - 7, limit - 2, "more labels than can be counted"}} {
		s := of(c.rows, c.labels)
		err := s.Merge(of(7, 3))
		if c.want != "" {
			if err == nil || err.Error() != "drift: "+c.want || s.Rows() != int(c.rows) || s.counted.labels.rows() != c.labels {
				t.Errorf("%v, want %q", err, c.want)
			}
		} else if err != nil || s.Rows() != int(limit) || s.counted.labels.rows() != limit || s.counted.columns[0].present != int(limit) {
			t.Errorf("up to the limit: %v, %d rows and %d labels", err, s.Rows(), s.counted.labels.rows())
		}
	}
	odd := of(1, 1)
	odd.counted.labels = newLabelled(2)
	if err := of(1, 1).Merge(odd); err == nil || err.Error() != "drift: the snapshots do not have the same cells" {
		t.Errorf("labels of other cells: %v", err)
	}
}

// A reference of predictions alone, and one of categories: what replicas count of labels and of the
// unseen is judged, and what the reference does not have is refused.
func TestJudgeLabelsAndUnseen(t *testing.T) {
	judge := func(ref *Reference, observe func(m *Monitor)) (sent *Snapshot, fleet *Monitor) {
		t.Helper()
		clk := newClock()
		m := monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
		observe(m)
		clk.now = clk.now.Add(time.Hour)
		sent, ok := m.Snapshot()
		if !ok {
			t.Fatal("no snapshot of a closed window")
		}
		return sent, monitor(t, ref, &MonitorOptions{Window: Every(time.Hour), Now: clk.Now})
	}
	sent, fleet := judge(newWorld(43).predictions(t, 500), func(m *Monitor) {
		p, err := m.Performance()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 120 {
			p.Predicted(fmt.Sprint(i), 0.9)
			p.Actual(fmt.Sprint(i), i%4 > 0)
		}
	})
	forged := *sent.counted
	forged.labels = newLabelled(len(sent.counted.labels.positives) + 1)
	if err := fleet.Judge(&Snapshot{reference: sent.reference, window: sent.window, counted: &forged}); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "labels of other cells") {
		t.Errorf("labels of other cells: %v", err)
	}
	if err := fleet.Judge(sent); err != nil {
		t.Fatal(err)
	}
	if a := fleet.Report().Performance.Actual; a.Rows != 120 || a.Accuracy != 0.75 || a.Precision != 0.75 || a.Recall != 1 {
		t.Errorf("90 of 120 labels are true, and all were said to be: %+v", a)
	}

	sent, fleet = judge(fitted(t, Categories("c", []string{"a", "b"})), func(m *Monitor) {
		c, err := m.Categorical("c")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 120 {
			c.Observe([]string{"a", "b", "new"}[i%3])
		}
	})
	if err := fleet.Judge(sent); err != nil || fleet.Report().Features[0].Unseen != 1.0/3 {
		t.Errorf("a third of the values is new: %v, %+v", err, fleet.Report().Features[0])
	}

	ref := fitted(t, Numbers("x", normals(1, 500)))
	sent, fleet = judge(ref, func(m *Monitor) {
		for range 120 {
			handle(t, m, "x").Observe(0)
		}
	})
	c := sent.counted.columns[0]
	c.unseen, c.rows = 1, c.rows+1
	if err := fleet.Judge(&Snapshot{reference: sent.reference, window: sent.window, counted: &pane{from: sent.counted.from, to: sent.counted.to, columns: []observed{c}}}); !errors.Is(err, ErrSchema) {
		t.Errorf("an unseen number: %v", err)
	}
	if err := fleet.Judge(sent); err != nil {
		t.Error(err)
	}
}

func FuzzSnapshot(f *testing.F) {
	ref := newWorld(42).predictions(f, 300)
	plain := fitted(f, Numbers("x", []float64{1, 2, 3}))
	s := hourly(f, plain, 1)
	b, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	clk := newClock()
	m, err := NewMonitor(ref, &MonitorOptions{Window: Decaying(4 * time.Hour), Now: clk.Now})
	if err != nil {
		f.Fatal(err)
	}
	p, err := m.Performance()
	if err != nil {
		f.Fatal(err)
	}
	for i := range 150 {
		p.Predicted(fmt.Sprint(i), float64(i%10)/10)
		p.Actual(fmt.Sprint(i), i%3 == 0)
	}
	clk.now = clk.now.Add(time.Hour)
	labels, _ := m.Snapshot()
	if b, err = labels.MarshalBinary(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("DRFS\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Snapshot
		if err := s.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			// Past the checksum: what a forger could write.
			if len(b) < 5 {
				return
			}
			forged, err := decodeSnapshot(b[5:])
			if err != nil {
				if forged, err = decodeSnapshot(b[5:max(5, len(b)-32)]); err != nil {
					return
				}
			}
			s = *forged
		}
		for _, r := range []*Reference{plain, ref} {
			s.reference = r.ID() // the forger knows it
			m := monitor(t, r, &MonitorOptions{Window: s.window, Now: newClock().Now})
			if m.Judge(&s) == nil {
				soundReport(t, m.Report())
			}
		}
		out, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again Snapshot
		if err := again.UnmarshalBinary(out); err != nil || again.Rows() != s.Rows() {
			t.Errorf("does not come back: %v", err)
		}
		rows := s.Rows()
		if err := s.Merge(&again); err == nil && s.Rows() != 2*rows {
			t.Errorf("%d rows and as many are %d", rows, s.Rows())
		}
	})
}
