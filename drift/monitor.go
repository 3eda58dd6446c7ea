package drift

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// MonitorOptions are the settings of a [Monitor]. Nil and zero values mean the
// defaults.
type MonitorOptions struct {
	// Window says over which rows to look. Zero: Tumbling(5000).
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
	// MinLoss is the least fall of accuracy, precision, recall or the area under the curve, or
	// the least error of calibration, that is called drift of the performance. Zero: 0.05. Negative: none.
	MinLoss float64
	// Confirm is how many windows in a row have to agree before an alert; at most 100. Zero: 2.
	// With 1 a window in the middle of which the drift began may alert, and
	// not name yet what is still diluted in it.
	Confirm int
	// Recover is how many windows in a row without a hit end a drift, so that
	// the next one is a new one. Zero: 3.
	Recover int
	// Cooldown is the least time between two alerts, on Now. What begins to drift meanwhile
	// and still does afterwards is told then. Zero: 1 hour. Negative: none.
	Cooldown time.Duration
	// Weights tell how much features matter, by name: their part of the budget and
	// their place in an alert are in proportion. A feature that is not named has
	// weight 1; one of weight 0 is reported and never alerts: a Report marks those at FDR
	// apart from the others. Names that the reference lacks are errors. Nil: all alike.
	Weights map[string]float64
	// Labels is how long a prediction waits for its label, and a label for its
	// prediction, on Now: see [Performance]. Zero: 24 hours.
	Labels time.Duration
	// Waiting is how many predictions and labels are kept at most, about 100 bytes
	// each; then the oldest are given up. Zero: 100,000.
	Waiting int
	// Now is the clock, which may be event time; it should not go back, and is
	// called from several goroutines. Windows that take less than a millisecond of it
	// count as one. Nil: time.Now, which may be set: the window that is open then ends when it would have, or sooner, and
	// those after it are what the clock says.
	Now func() time.Time
}

// minRows is the least window. What is observed last in each row has a row less when the window
// closes, so the least number of rows of a feature that is judged is a little below.
const (
	minRows   = 100
	minJudged = 95
)

// maxConfirm bounds the windows that are kept to be tested together.
const maxConfirm = 100

// maxPending is how many closed windows may wait for Watch. The observation
// that closes one more judges the oldest itself: nothing is dropped.
const maxPending = 16

// maxAlerts is how many alerts may wait to be told, the newest: some 15 kB each, with their history.
const maxAlerts = 32

// Monitor counts live values and compares each window with a [Reference]. It is
// safe for concurrent use. Closed windows are judged by [Monitor.Watch] or
// [Monitor.Report], or, when 16 of them wait, by the observation that closes
// another.
type Monitor struct {
	opt     MonitorOptions
	real    bool // Now is time.Now
	live    atomic.Pointer[window]
	lanes   *lanes
	wake    chan struct{} // a pane has closed, or an alert was added
	watched atomic.Bool
	join    *join // predictions and labels that wait for each other

	turn    sync.Mutex // swapping live; short
	pending []*window  // closed, oldest first; under turn

	judge    sync.Mutex // judging windows; taken before turn
	panes    []*pane    // that the last window is made of, oldest first
	gathered *labelled  // labels of earlier windows, too few to judge
	states   []state    // per feature, and the performance after them if there are predictions
	last     *Report    // of the last closed window; nil if none
	alerts   []Alert    // not yet told, oldest first, at most maxAlerts
	alerted  time.Time  // when the last alert was raised; zero if none
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
	unset := opt.Now == nil
	if err := opt.complete(); err != nil {
		return nil, &Error{Row: -1, Err: err}
	}
	if err := opt.checkWeights(r); err != nil {
		return nil, err
	}
	m := &Monitor{opt: opt, real: unset, lanes: newLanes(), wake: make(chan struct{}, 1), join: newJoin(opt.Waiting, opt.Labels)}
	m.begin(r)
	return m, nil
}

func (o *MonitorOptions) complete() error {
	if o.Window == (Window{}) {
		o.Window = Tumbling(5000)
	}
	if err := o.Window.check(); err != nil {
		return err
	}
	switch {
	case o.FalseAlarm < 0:
		return fmt.Errorf("FalseAlarm is %v: a budget of one alarm per that long", o.FalseAlarm)
	case o.FDR < 0 || o.FDR >= 1 || math.IsNaN(o.FDR):
		return fmt.Errorf("FDR is %v: a share below 1", o.FDR)
	case math.IsNaN(o.MinEffect) || math.IsInf(o.MinEffect, 1):
		return fmt.Errorf("MinEffect is %v", o.MinEffect)
	case math.IsNaN(o.MinLoss) || math.IsInf(o.MinLoss, 1):
		return fmt.Errorf("MinLoss is %v", o.MinLoss)
	case o.Confirm < 0 || o.Recover < 0 || o.Confirm > maxConfirm:
		return fmt.Errorf("the windows to Confirm (%d) and Recover (%d) cannot be negative, nor the former above %d", o.Confirm, o.Recover, maxConfirm)
	case o.Labels < 0 || o.Waiting < 0:
		return fmt.Errorf("neither Labels (%v) nor Waiting (%d) can be negative", o.Labels, o.Waiting)
	}
	orDefault(&o.FalseAlarm, 30*24*time.Hour)
	orDefault(&o.FDR, 0.05)
	orDefault(&o.MinEffect, 0.1)
	orDefault(&o.MinLoss, 0.05)
	orDefault(&o.Confirm, 2)
	orDefault(&o.Recover, 3)
	orDefault(&o.Cooldown, time.Hour)
	orDefault(&o.Labels, 24*time.Hour)
	orDefault(&o.Waiting, 100_000)
	o.Weights = maps.Clone(o.Weights)
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
	now := m.opt.Now()
	m.live.Store(m.open(r, now, now))
	m.panes, m.gathered, m.states = nil, nil, make([]state, r.judged())
	m.last, m.alerts = nil, nil
}

// open makes the pane that holds the instant at, where the clock says now.
func (m *Monitor) open(r *Reference, at, now time.Time) *window {
	w := newWindow(r)
	w.from = at
	w.rows = m.opt.Window.paneRows()
	if d := m.opt.Window.paneSpan(); d > 0 {
		w.from = aligned(at, d)
		w.to = w.from.Add(d)
		if m.real {
			w.started, w.left = time.Now(), w.to.Sub(now.Round(0))
		}
	}
	return w
}

// current returns the pane to count in, after closing one whose time is over.
func (m *Monitor) current() *window {
	w := m.live.Load()
	if w.rows == 0 && m.over(w) {
		m.rotate(w)
		w = m.live.Load()
	}
	return w
}

// over reports whether the time of a pane is. The monotonic clock alone is read
// faster than both. Should the wall clock be set forward, closeDue finds out, and rotate otherwise.
func (m *Monitor) over(w *window) bool {
	if m.real {
		return time.Since(w.started) >= w.left
	}
	return !m.opt.Now().Before(w.to)
}

// closeDue closes a pane whose time is over on Now.
func (m *Monitor) closeDue() {
	if w := m.live.Load(); w.rows == 0 && !m.opt.Now().Before(w.to) {
		m.rotate(w)
	}
}

// rotate closes w, unless someone else has.
func (m *Monitor) rotate(w *window) {
	m.turn.Lock()
	if m.live.Load() != w {
		m.turn.Unlock()
		return
	}
	now := m.opt.Now()
	at := now
	if w.rows > 0 {
		w.to = now
	} else if now.Before(w.to) && !now.Before(w.from) {
		at = w.to // the monotonic clock is ahead of the wall's: the next pane is the next one
	} // Where the wall's was set back further than this pane, those that follow are its, as after a restart.
	next := m.open(w.ref, at, now)
	for i := range w.columns {
		if w.columns[i].stripes.Load() != nil {
			next.columns[i].split(stripeCount())
		}
	}
	m.live.Store(next)
	if w.rows > 0 || !w.empty() {
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

func (m *Monitor) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
