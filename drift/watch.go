package drift

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Alert says that features drift: one alert for one drift.
type Alert struct {
	// ID is a hash of the reference's ID, the feature's name and the beginning of
	// the window, or of the newest part of it where windows overlap: the same for each
	// delivery of this alert, hence an idempotency key for what is done about it. With
	// Every and Decaying, replicas and restarted processes that find the same feature in
	// the same window agree on it; otherwise a window begins when it begins.
	ID        string        `json:"id"`
	Reference string        `json:"reference"` // ID of the reference that was compared with
	Time      time.Time     `json:"time"`      // end of the window that confirmed it, on MonitorOptions.Now
	Feature   FeatureReport `json:"feature"`   // the largest effect among what is new, in that window
	Others    []string      `json:"others"`    // the other features that drift, largest effect first
	P         float64       `json:"p"`         // of the windows that confirmed Feature, tested as one
	Level     float64       `json:"level"`     // what P had to be at most, by the budget
	// Performance tells whether it hurts: what the labels say, as far as they have come,
	// and what is to be expected. Nil without [Predictions].
	Performance *PerformanceReport `json:"performance,omitempty"`
}

// How often a failed delivery is tried again, and how often Watch looks at the
// clock for a window of time that no observation closed.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
	pollClock  = time.Second
)

// Watch returns the function that judges windows as they close and tells
// onAlert, one alert at a time; run it as a service, as with concurrency.Run. It
// returns nil when ctx ends, and fails at once if this monitor is
// watched already. All its work is in the goroutine that calls it.
//
// If onAlert returns an error it is called again with the same alert, after 1
// second and then up to a minute, until it returns nil, Rebase makes the alert
// obsolete, or ctx ends. Alerts not told wait in memory, for the next Watch too, as do those of a monitor that is
// not watched: at most 32, of which the oldest gives way. Delivery is
// at least once: use [Alert].ID as the idempotency key. No lock is held during the call, and
// meanwhile closed windows wait.
func (m *Monitor) Watch(onAlert func(ctx context.Context, a Alert) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if onAlert == nil {
			return &Error{Row: -1, Err: errors.New("Watch needs a function to tell")}
		}
		if !m.watched.CompareAndSwap(false, true) {
			return &Error{Row: -1, Err: errors.New("the monitor is watched already")}
		}
		defer m.watched.Store(false)
		return m.watch(ctx, onAlert)
	}
}

func (m *Monitor) watch(ctx context.Context, onAlert func(context.Context, Alert) error) error {
	var poll <-chan time.Time
	if m.opt.Window.paneSpan() > 0 {
		t := time.NewTicker(pollClock)
		defer t.Stop()
		poll = t.C
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	wait, failed := retryFirst, ""
	for ctx.Err() == nil {
		m.closeDue()
		m.settle()
		if a, ok := m.oldestAlert(); ok && a.ID != failed {
			if err := onAlert(ctx, a); err != nil {
				failed = a.ID
				retry.Reset(wait)
				wait = min(2*wait, retryMost)
			} else {
				m.told(a.ID)
				wait = retryFirst
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-poll:
		case <-retry.C:
			failed = ""
		}
	}
	return nil
}

// settle judges all windows that have closed.
func (m *Monitor) settle() {
	m.judge.Lock()
	defer m.judge.Unlock()
	for m.judgeOldest() {
	}
}

func (m *Monitor) oldestAlert() (Alert, bool) {
	m.judge.Lock()
	defer m.judge.Unlock()
	if len(m.alerts) == 0 {
		return Alert{}, false
	}
	a := m.alerts[0]
	a.Feature, a.Others = a.Feature.clone(), slices.Clone(a.Others)
	if a.Performance != nil {
		perf := *a.Performance
		a.Performance = &perf
	}
	return a, true
}

// told removes an alert, unless Rebase has.
func (m *Monitor) told(id string) {
	m.judge.Lock()
	defer m.judge.Unlock()
	if len(m.alerts) > 0 && m.alerts[0].ID == id {
		m.alerts = m.alerts[1:]
	}
}
