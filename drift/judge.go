package drift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"
)

// maxLevel caps the level of a window: with much budget left, a p-value above
// it is still no evidence.
const maxLevel = 0.01

// agreeLevel is the largest p at which a window agrees that there is drift. It
// has no part in the budget, which the windows together keep.
const agreeLevel = 0.05

// level is the largest p of the windows that are tested together at which one look may raise an
// alert for a feature with this share of the budget.
func (o *MonitorOptions) level(open time.Duration, share float64) float64 {
	return min(maxLevel, float64(max(open, time.Millisecond))/float64(o.FalseAlarm)*share)
}

// together is how many windows are tested as one before an alert. Windows that
// overlap are not: the last one holds most of the rows of those before. Those of
// the performance never overlap.
func (o *MonitorOptions) together(performance bool) int {
	if o.Window.overlaps() && !performance {
		return 1
	}
	return o.Confirm
}

// minLabels is how many labels are judged at once.
const minLabels = 500

// checkWeights refuses weights that make no shares.
func (o *MonitorOptions) checkWeights(r *Reference) error {
	for name, w := range o.Weights {
		if math.IsNaN(w) || w < 0 || w > 1e9 {
			return featureError(name, fmt.Errorf("a weight of %v: from 0 to 1e9", w))
		}
		if !slices.ContainsFunc(r.names(), func(s string) bool { return s == name }) {
			return featureError(name, fmt.Errorf("a weight for what the reference does not have: %w", ErrSchema))
		}
	}
	return nil
}

func (o *MonitorOptions) weight(name string) float64 {
	if w, ok := o.Weights[name]; ok {
		return w
	}
	return 1
}

// shares of the budget, in proportion to the weights; they add up to 1 unless
// all weights are 0.
func (o *MonitorOptions) shares(r *Reference) []float64 {
	names := r.names()
	out, sum := make([]float64, len(names)), 0.0
	for i, name := range names {
		out[i] = o.weight(name)
		sum += out[i]
	}
	for i := range out {
		if sum > 0 {
			out[i] /= sum
		}
	}
	return out
}

// assess reports on what one look sees.
func (o *MonitorOptions) assess(v view) *Report {
	rep := &Report{Reference: v.ref.id, From: v.from, To: v.to, Rows: v.held, Features: make([]FeatureReport, v.ref.judged())}
	shares := o.shares(v.ref)
	weak := make([]bool, len(shares))
	var ps []float64
	var of []int
	for i, c := range v.columns {
		f, feature := &rep.Features[i], v.ref.features[i]
		*f = feature.compare(c)
		rep.Rows = max(rep.Rows, c.rows)
		n := feature.present + feature.missing
		f.MinDetectable = feature.minDetectable(o.level(v.open, shares[i]), f.tests(), c, o.together(false))
		if c.rows >= minJudged {
			weak[i] = n < int64(c.rows)
			ps, of = append(ps, f.P), append(of, i)
		}
	}
	if v.labels != nil {
		i, feature := len(v.columns), v.ref.features[v.ref.predictions]
		var perf PerformanceReport
		rep.Features[i], perf = feature.performance(v.labels, v.columns[v.ref.predictions], o.MinLoss)
		rep.Performance = &perf
		if rows := v.labels.rows(); rows >= minJudged {
			weak[i] = feature.labels.rows() < rows
			ps, of = append(ps, rep.Features[i].P), append(of, i)
		}
	}
	adjusted := o.adjust(ps, of, shares)
	for j, i := range of {
		f, p := &rep.Features[i], adjusted[j]
		beyondDoubt := shares[i] > 0 && f.P <= o.level(v.open, shares[i])
		switch large := f.Effect >= o.least(v.ref, i); {
		case large && (beyondDoubt || p <= o.FDR && !weak[i]):
			f.Verdict = Drift
		case weak[i]:
			f.Verdict = WeakReference
		case p <= o.FDR:
			f.Verdict = Warning
		default:
			f.Verdict = Stable
		}
	}
	return rep
}

// least is the effect that is called drift.
func (o *MonitorOptions) least(r *Reference, i int) float64 {
	if i == len(r.features) {
		return o.MinLoss
	}
	return o.MinEffect
}

// adjust is Benjamini and Hochberg's correction with weights (Genovese, Roeder
// and Wasserman 2006): p/w, where the weights of those tested have the mean 1. By a weight
// of 0 nothing would ever be marked: such features, which are only reported, are a family of their own.
func (o *MonitorOptions) adjust(ps []float64, of []int, shares []float64) []float64 {
	if len(o.Weights) == 0 {
		return BenjaminiHochberg(ps)
	}
	out := make([]float64, len(ps))
	for _, alerts := range []bool{true, false} {
		sum, in := 0.0, []int(nil) // places in ps
		for j, i := range of {
			if shares[i] > 0 == alerts {
				sum += shares[i]
				in = append(in, j)
			}
		}
		family := make([]float64, len(in))
		for k, j := range in {
			if family[k] = ps[j]; alerts {
				family[k] = ps[j] * sum / (shares[of[j]] * float64(len(in)))
			}
		}
		for k, p := range BenjaminiHochberg(family) {
			out[in[k]] = p
		}
	}
	return out
}

// state is what a monitor remembers of a feature between windows.
type state struct {
	hits     int         // windows that agree, in a row
	calm     int         // windows that do not, in a row
	drifting bool        // confirmed, not recovered
	told     bool        // an alert has named it
	recent   []observed  // the last windows that were judged, to be tested together
	labels   []*labelled // the same for the performance
	p, level float64     // by which it was confirmed
}

// step moves the state on by a window that holds enough rows.
func (s *state) step(o *MonitorOptions, v view, i int, f FeatureReport, share float64) {
	k := o.together(i == len(v.columns))
	joint := func() float64 { return f.P }
	if k > 1 {
		if i == len(v.columns) {
			s.labels = append(s.labels[max(0, len(s.labels)-k+1):], v.labels)
		} else {
			s.recent = append(s.recent[max(0, len(s.recent)-k+1):], v.columns[i])
		}
		joint = func() float64 { return s.joint(o, v.ref, i) }
	}
	if share == 0 || f.P > agreeLevel || f.Effect < o.least(v.ref, i) {
		s.hits = 0
		if s.calm++; s.calm >= o.Recover {
			s.drifting, s.told = false, false
		}
		return
	}
	s.calm = 0
	if s.hits++; s.hits < o.Confirm || s.drifting {
		return
	}
	if p, level := joint(), o.level(v.open, share); p <= level {
		s.drifting, s.p, s.level = true, p, level
	}
}

// joint is the p-value of the last windows as one: of the performance, that of a loss which is large in all of them
// together, or 1.
func (s *state) joint(o *MonitorOptions, r *Reference, i int) float64 {
	if i == len(r.features) {
		var sum *labelled
		for _, l := range s.labels {
			sum = sum.plus(l)
		}
		f, _ := r.features[r.predictions].performance(sum, observed{}, o.MinLoss)
		if f.Effect < o.MinLoss {
			return 1 // each of the windows has lost something else
		}
		return f.P
	}
	var sum observed
	for _, c := range s.recent {
		sum.add(c)
	}
	return r.features[i].compare(sum).P
}

// judgeOldest takes the oldest closed pane, if there is one, and moves the
// state on by it. The caller holds judge.
func (m *Monitor) judgeOldest() bool {
	m.turn.Lock()
	if len(m.pending) == 0 {
		m.turn.Unlock()
		return false
	}
	w := m.pending[0]
	m.pending = slices.Delete(m.pending, 0, 1)
	m.turn.Unlock()
	m.judged(w.ref, w.pane())
	return true
}

// judged moves the state on by a pane. The caller holds judge.
func (m *Monitor) judged(ref *Reference, p *pane) {
	cut := m.opt.Window
	if cut.paneSpan() > 0 { // panes that a clock set back has been at already would be younger than the newest
		m.panes = slices.DeleteFunc(m.panes, func(q *pane) bool { return !q.to.Before(p.to) })
	}
	if m.alerted.After(p.to) {
		m.alerted = p.to
	}
	m.panes = append(m.panes[max(0, len(m.panes)-cut.panes()+1):], p)
	v := cut.look(ref, m.panes)
	enough := true
	if v.labels != nil {
		// Labels are few: they are gathered until they can tell something.
		m.gathered = m.gathered.plus(v.labels)
		v.labels = m.gathered
		if enough = v.labels.rows() >= minLabels; enough {
			m.gathered = nil
		}
	}
	rep := m.opt.assess(v)
	rep.follow(m.last)
	m.last = rep
	news := false
	shares := m.opt.shares(ref)
	for i := range m.states {
		s := &m.states[i]
		if f := rep.Features[i]; f.Verdict != Insufficient && (i < len(v.columns) || enough) {
			s.step(&m.opt, v, i, f, shares[i])
		}
		news = news || s.drifting && !s.told
	}
	if news && (m.alerted.IsZero() || p.to.Sub(m.alerted) >= m.opt.Cooldown) {
		m.alerted = p.to
		m.alerts = append(m.alerts[max(0, len(m.alerts)-maxAlerts+1):], m.alert(rep, p.from))
		m.poke()
	}
	rep.alerted(m.states)
}

// alert makes the alert that names all that drifts now, the largest of what
// is new first, and remembers that it was told. from is when the rows began that no look before this one saw.
func (m *Monitor) alert(rep *Report, from time.Time) Alert {
	var named []int
	for i, f := range rep.Features {
		if m.states[i].drifting || f.Verdict == Drift && m.opt.weight(f.Name) > 0 {
			named = append(named, i)
		}
	}
	isNew := func(i int) bool { return m.states[i].drifting && !m.states[i].told }
	rank := func(i int) float64 { return rep.Features[i].Effect * m.opt.weight(rep.Features[i].Name) }
	slices.SortStableFunc(named, func(i, j int) int {
		if a, b := isNew(i), isNew(j); a != b {
			if a {
				return -1
			}
			return 1
		}
		return cmp.Compare(rank(j), rank(i))
	})
	first := m.states[named[0]]
	a := Alert{Reference: rep.Reference, Time: rep.To, Feature: rep.Features[named[0]].clone(), Others: []string{}, P: first.p, Level: first.level}
	if rep.Performance != nil {
		perf := *rep.Performance
		a.Performance = &perf
	}
	for _, i := range named[1:] {
		a.Others = append(a.Others, rep.Features[i].Name)
	}
	for _, i := range named {
		m.states[i].drifting, m.states[i].told = true, true
		rep.Features[i].alarmed()
	}
	a.Feature.Verdict, a.Feature.Alerted = Drift, true
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n%d", a.Reference, a.Feature.Name, from.UnixNano()))
	a.ID = hex.EncodeToString(sum[:16])
	return a
}
