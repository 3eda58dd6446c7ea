package drift

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// MonitorOptions are the settings of a [Monitor]. Nil and zero values mean the
// defaults.
type MonitorOptions struct {
	// Window cuts the rows into windows. Zero: Tumbling(5000).
	Window Window
	// FalseAlarm is the budget: at most one false alert per this long on average, over
	// all features, measured on Now. The package comment has the
	// formula that makes a level of it. Zero: 30 days.
	FalseAlarm time.Duration
	// FDR is the share of wrong ones to expect among the features that a Report
	// marks and an Alert names. Zero: 0.05.
	FDR float64
	// MinEffect is the least effect, debiased PSI or KS distance, that is called
	// drift; what is significant and smaller is a Warning. Zero: 0.1. Negative: none.
	MinEffect float64
	// Confirm is how many windows in a row have to agree before an alert. Zero: 2.
	// With 1 a window in the middle of which the drift began may alert, and
	// not name yet what is still diluted in it.
	Confirm int
	// Recover is how many windows in a row without a hit end a drift, so that
	// the next one is a new one. Zero: 3.
	Recover int
	// Cooldown is the least time between two alerts, on Now. What begins to drift meanwhile
	// and still does afterwards is told then. Zero: 1 hour. Negative: none.
	Cooldown time.Duration
	// Now is the clock, which may be event time; it should not go back, and is
	// called from several goroutines. Windows that take less than a millisecond of it
	// count as one. Nil: time.Now.
	Now func() time.Time
}

// minRows is the least window that is judged.
const minRows = 100

// maxPending is how many closed windows may wait for Watch. The observation
// that closes one more judges the oldest itself: nothing is dropped.
const maxPending = 16

// Monitor counts live values and compares each window with a [Reference]. It is
// safe for concurrent use. Closed windows are judged by [Monitor.Watch] or
// [Monitor.Report], or, when 16 of them wait, by the observation that closes
// another.
type Monitor struct {
	opt     MonitorOptions
	live    atomic.Pointer[window]
	wake    chan struct{} // a window has closed, or an alert was added
	watched atomic.Bool

	turn    sync.Mutex // swapping live; short
	pending []*window  // closed, oldest first; under turn

	judge   sync.Mutex // judging windows; taken before turn
	states  []state    // per feature
	last    *Report    // of the last closed window; nil if none
	alerts  []Alert    // not yet told, oldest first
	alerted time.Time  // when the last alert was raised; zero if none
}

// NewMonitor makes a monitor and begins its first window. It starts no
// goroutine. An empty reference and options out of range are errors.
func NewMonitor(r *Reference, o *MonitorOptions) (*Monitor, error) {
	if r == nil || len(r.features) == 0 {
		return nil, &Error{Row: -1, Err: errors.New("a monitor needs a reference made by Fit or read back")}
	}
	var opt MonitorOptions
	if o != nil {
		opt = *o
	}
	if err := opt.complete(); err != nil {
		return nil, &Error{Row: -1, Err: err}
	}
	m := &Monitor{opt: opt, wake: make(chan struct{}, 1)}
	m.begin(r)
	return m, nil
}

func (o *MonitorOptions) complete() error {
	if o.Window == (Window{}) {
		o.Window = Tumbling(5000)
	}
	if w := o.Window; w.every == 0 && w.rows < minRows {
		return fmt.Errorf("a window of %d rows: %d are the least that is judged", w.rows, minRows)
	} else if w.every != 0 && w.every < time.Second {
		return fmt.Errorf("a window every %v: a second is the least", w.every)
	}
	switch {
	case o.FalseAlarm < 0:
		return fmt.Errorf("FalseAlarm is %v: a budget of one alarm per that long", o.FalseAlarm)
	case o.FDR < 0 || o.FDR >= 1 || math.IsNaN(o.FDR):
		return fmt.Errorf("FDR is %v: a share below 1", o.FDR)
	case math.IsNaN(o.MinEffect) || math.IsInf(o.MinEffect, 1):
		return fmt.Errorf("MinEffect is %v", o.MinEffect)
	case o.Confirm < 0 || o.Recover < 0:
		return fmt.Errorf("the windows to Confirm (%d) and Recover (%d) cannot be negative", o.Confirm, o.Recover)
	}
	orDefault(&o.FalseAlarm, 30*24*time.Hour)
	orDefault(&o.FDR, 0.05)
	orDefault(&o.MinEffect, 0.1)
	orDefault(&o.Confirm, 2)
	orDefault(&o.Recover, 3)
	orDefault(&o.Cooldown, time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Numeric returns the handle of a numeric feature, to be taken once and kept.
// An unknown name and a categorical feature are [ErrSchema].
func (m *Monitor) Numeric(name string) (*Numeric, error) {
	i, err := m.column(name, numeric)
	if err != nil {
		return nil, err
	}
	return &Numeric{m: m, i: i}, nil
}

// Categorical returns the handle of a categorical feature, to be taken once and
// kept. An unknown name and a numeric feature are [ErrSchema].
func (m *Monitor) Categorical(name string) (*Categorical, error) {
	i, err := m.column(name, categorical)
	if err != nil {
		return nil, err
	}
	return &Categorical{m: m, i: i}, nil
}

// column finds a feature's place, which is the same in every reference that
// Rebase accepts: features are in the order of their names.
func (m *Monitor) column(name string, k kind) (int, error) {
	for i, f := range m.live.Load().ref.features {
		if f.name != name {
			continue
		}
		if f.kind != k {
			return 0, featureError(name, fmt.Errorf("it is %s: %w", f.kind, ErrSchema))
		}
		return i, nil
	}
	return 0, featureError(name, fmt.Errorf("the reference has no such feature: %w", ErrSchema))
}

// Rebase gives the monitor the reference of the version that now serves: a new
// window begins, what was counted and confirmed against the old one is dropped,
// and so are alerts not yet told. Handles go on to work, and a cooldown goes on to
// run. With the same reference, by ID, nothing happens. A reference
// with other features is [ErrSchema] and changes nothing.
func (m *Monitor) Rebase(r *Reference) error {
	if r == nil || len(r.features) == 0 {
		return &Error{Row: -1, Err: errors.New("cannot rebase on an empty reference")}
	}
	m.judge.Lock()
	defer m.judge.Unlock()
	old := m.live.Load().ref
	if old.id == r.id {
		return nil
	}
	if err := old.sameSchema(r); err != nil {
		return err
	}
	m.begin(r)
	return nil
}

// begin starts from nothing with a reference.
func (m *Monitor) begin(r *Reference) {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.pending = nil
	m.live.Store(m.open(r, m.opt.Now()))
	m.states = make([]state, len(r.features))
	m.last, m.alerts = nil, nil
}

func (m *Monitor) open(r *Reference, now time.Time) *window {
	w := newWindow(r)
	w.from = now
	if d := m.opt.Window.every; d > 0 {
		w.from = aligned(now, d)
		w.to = w.from.Add(d)
	} else {
		w.rows = uint64(m.opt.Window.rows)
	}
	return w
}

// aligned returns the last multiple of d since the Unix epoch.
func aligned(now time.Time, d time.Duration) time.Time {
	if y := now.Year(); y < 1700 || y > 2200 {
		return time.Unix(0, 0).UTC() // a clock not set yet; beyond what UnixNano holds
	}
	n := now.UnixNano()
	r := n % int64(d)
	if r < 0 {
		r += int64(d)
	}
	return time.Unix(0, n-r).UTC()
}

// window returns the one to count in, after closing one whose time is over.
func (m *Monitor) window() *window {
	w := m.live.Load()
	if w.rows == 0 && !m.opt.Now().Before(w.to) {
		m.rotate(w)
		w = m.live.Load()
	}
	return w
}

// rotate closes w, unless someone else has.
func (m *Monitor) rotate(w *window) {
	m.turn.Lock()
	if m.live.Load() != w {
		m.turn.Unlock()
		return
	}
	now := m.opt.Now()
	if w.rows > 0 {
		w.to = now
	}
	m.live.Store(m.open(w.ref, now))
	if w.rows > 0 || w.busiest() > 0 {
		m.pending = append(m.pending, w)
	}
	full := len(m.pending) > maxPending
	m.turn.Unlock()
	m.poke()
	if full {
		m.judge.Lock()
		m.judgeOldest()
		m.judge.Unlock()
	}
}

func (w *window) busiest() uint64 {
	var n uint64
	for i := range w.columns {
		n = max(n, w.columns[i].cells[atRows].Load())
	}
	return n
}

func (m *Monitor) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
