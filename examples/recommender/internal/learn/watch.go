package learn

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/mlserve"
)

// MonitorOptions are how drift is watched for: on event time, with a budget of
// one false alarm a year. Two windows in a row must agree.
func MonitorOptions(rows int, now func() time.Time) *drift.MonitorOptions {
	return &drift.MonitorOptions{
		Window: drift.Tumbling(rows), FalseAlarm: 365 * 24 * time.Hour, Confirm: 2, Cooldown: 30 * 24 * time.Hour, Now: now,
	}
}

// itemEach is how many visits come to one whose candidate is shown. All visits
// of a moment choose from the same 48 candidates, so that more rows would
// repeat what is known and pass for evidence.
const itemEach = 25

// Observer shows a monitor what the model is asked, as rows that are nearly
// independent: of each visit the visitor's columns, once and not for every
// candidate, and of one visit in 25 the columns of one candidate, drawn by
// chance.
type Observer struct {
	columns []*drift.Numeric
	visitor int // how many of the columns are the visitor's
	visits  atomic.Uint64
}

// NewObserver takes the handles of the ranking service's columns, once.
func NewObserver(m *drift.Monitor, s *rank.Services) (*Observer, error) {
	o := &Observer{visitor: len(s.Visitors.Columns())}
	for _, name := range s.Ranking.Columns() {
		handle, err := m.Numeric(name)
		if err != nil {
			return nil, err
		}
		o.columns = append(o.columns, handle)
	}
	return o, nil
}

// Row shows one candidate's row of a visit.
func (o *Observer) Row(row []float32) {
	if o.visits.Add(1)%itemEach != 0 {
		row = row[:o.visitor]
	}
	for i, x := range row {
		o.columns[i].Observe(float64(x))
	}
}

// Sink is where a recorder sends what was served.
func (o *Observer) Sink(_ context.Context, events []mlserve.Event) error {
	width := len(o.columns)
	for _, e := range events {
		if e.Response.Degraded != "" || e.Err != nil || len(e.Request.Input) != 1 {
			continue
		}
		values, ok := e.Request.Input[0].Data.([]float32)
		if !ok || len(values) < width {
			continue
		}
		i := rand.IntN(len(values) / width)
		o.Row(values[i*width : (i+1)*width])
	}
	return nil
}

// watched is what the monitor said: before the first alert, at it, and since.
type watched struct {
	mu     sync.Mutex
	alerts []drift.Alert
	before *drift.Report // the last quiet one before the first alert
	during *drift.Report // at the first alert
	from   time.Time     // event time of the first window that is all of the new world
}

func (w *watched) alert(a drift.Alert, r *drift.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, known := range w.alerts {
		if known.ID == a.ID {
			return
		}
	}
	if len(w.alerts) == 0 {
		w.during = r
	}
	w.alerts = append(w.alerts, a)
	w.from = r.From
}

// look keeps the newest report while nothing has happened.
func (w *watched) look(r *drift.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.alerts) > 0 {
		return
	}
	for _, f := range r.Features {
		if f.Verdict == drift.Drift {
			return
		}
	}
	w.before = r
}

func (w *watched) since() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.from
}
