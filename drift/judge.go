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

// state is what a monitor remembers of a feature between windows.
type state struct {
	hits     int  // windows with a hit in a row
	calm     int  // windows without one in a row
	drifting bool // confirmed, not recovered
	told     bool // an alert has named it
}

// maxLevel caps the level of a window: with much budget left, a p-value above
// it is still no evidence.
const maxLevel = 0.01

// level is the largest p that counts as a hit for one feature of a window; the
// package comment has its derivation.
func (o *MonitorOptions) level(open time.Duration, features int, n, m float64) float64 {
	t := float64(max(open, time.Millisecond)) / float64(o.FalseAlarm) / float64(features)
	k := float64(o.Confirm)
	rho := m / (n + m)
	return min(maxLevel, math.Pow(min(t, 1), (1+(k-1)*rho)/k))
}

// assess reports on a window as it is, with from and to as they are to be
// shown. hits are the features whose P and Effect count towards an alert.
func (m *Monitor) assess(w *window, to time.Time) (rep *Report, hits []bool) {
	rep = &Report{Reference: w.ref.id, From: w.from, To: to, Features: make([]FeatureReport, len(w.columns))}
	open := to.Sub(w.from)
	if w.from.IsZero() {
		open = 0 // a clock that was not set yet grants no budget
	}
	hits = make([]bool, len(w.columns))
	weak := make([]bool, len(w.columns))
	var ps []float64
	var of []int
	for i := range w.columns {
		c := &w.columns[i]
		o := c.observed()
		f := &rep.Features[i]
		*f = c.compare(o)
		rep.Rows = max(rep.Rows, o.rows)
		n := float64(c.present + c.missing)
		level := m.opt.level(open, len(w.columns), n, float64(o.rows))
		f.MinDetectable = c.minDetectable(level, f.tests(), o)
		if o.rows < minRows {
			continue
		}
		weak[i] = n < float64(o.rows)
		hits[i] = f.P <= level && f.Effect >= m.opt.MinEffect
		ps, of = append(ps, f.P), append(of, i)
	}
	for j, p := range BenjaminiHochberg(ps) {
		i := of[j]
		f := &rep.Features[i]
		switch {
		case hits[i] || (p <= m.opt.FDR && f.Effect >= m.opt.MinEffect && !weak[i]):
			f.Verdict = Drift
		case weak[i]:
			f.Verdict = WeakReference
		case p <= m.opt.FDR:
			f.Verdict = Warning
		default:
			f.Verdict = Stable
		}
	}
	return rep, hits
}

// judgeOldest takes the oldest closed window, if there is one, and moves the
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

	rep, hits := m.assess(w, w.to)
	rep.follow(m.last)
	m.last = rep
	news := false
	for i := range m.states {
		if rep.Features[i].Verdict != Insufficient {
			m.states[i].step(hits[i], &m.opt)
		}
		news = news || m.states[i].drifting && !m.states[i].told
	}
	if news && (m.alerted.IsZero() || w.to.Sub(m.alerted) >= m.opt.Cooldown) {
		m.alerted = w.to
		m.alerts = append(m.alerts, m.alert(rep))
		m.poke()
	}
	rep.alerted(m.states)
	return true
}

func (s *state) step(hit bool, o *MonitorOptions) {
	if !hit {
		s.hits = 0
		if s.calm++; s.calm >= o.Recover {
			s.drifting, s.told = false, false
		}
		return
	}
	s.calm = 0
	if s.hits++; s.hits >= o.Confirm {
		s.drifting = true
	}
}

// alert makes the alert that names all that drifts now, the largest of what
// is new first, and remembers that it was told.
func (m *Monitor) alert(rep *Report) Alert {
	var named []int
	for i, f := range rep.Features {
		if m.states[i].drifting || f.Verdict == Drift {
			named = append(named, i)
		}
	}
	isNew := func(i int) bool { return m.states[i].drifting && !m.states[i].told }
	slices.SortStableFunc(named, func(i, j int) int {
		if a, b := isNew(i), isNew(j); a != b {
			if a {
				return -1
			}
			return 1
		}
		return cmp.Compare(rep.Features[j].Effect, rep.Features[i].Effect)
	})
	a := Alert{Reference: rep.Reference, Time: rep.To, Feature: rep.Features[named[0]].clone(), Others: []string{}}
	for _, i := range named[1:] {
		a.Others = append(a.Others, rep.Features[i].Name)
	}
	for _, i := range named {
		m.states[i].drifting, m.states[i].told = true, true
		rep.Features[i].alarmed()
	}
	a.Feature.Verdict, a.Feature.Alerted = Drift, true
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n%d", a.Reference, a.Feature.Name, rep.From.UnixNano()))
	a.ID = hex.EncodeToString(sum[:16])
	return a
}
