package drift

import (
	"slices"
	"time"
)

// Report is what a [Monitor] found in one window. It has JSON tags and no NaN,
// so encoding/json writes it, and reads it back.
type Report struct {
	Reference string          `json:"reference"` // ID of the reference compared with
	From      time.Time       `json:"from"`      // when the window began, on MonitorOptions.Now
	To        time.Time       `json:"to"`        // when it closed, or the report was made
	Rows      int             `json:"rows"`      // observations of the busiest feature
	Features  []FeatureReport `json:"features"`  // in the order of their names; the performance, if there are [Predictions], last
	// Performance is what the labels say, and before they come the scores. Nil without [Predictions].
	Performance *PerformanceReport `json:"performance,omitempty"`
}

// FeatureReport is what was found of one feature.
type FeatureReport struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"` // marked at the FDR over all features; see the package comment
	P       float64 `json:"p"`       // smallest P of the tests times their number; 1 if none applies
	Effect  float64 `json:"effect"`  // the larger of debiased PSI and KS distance; of the performance, the fall that P is of
	// Scores are PSI first, then the tests P is made of: KS (numbers only),
	// chi-square, and Fisher's on the missing and on the unseen share where there are any; of a
	// reference's rows those are unseen whose category no other of its rows has. The
	// first word of Method tells which: psi, ks, chi-square, missing, unseen; of the performance accuracy,
	// precision, recall, auc and calibration, whose Stat is the window's less the reference's.
	Scores     []Score `json:"scores"`
	Missing    float64 `json:"missing"`      // share of the rows, 0 to 1
	Unseen     float64 `json:"unseen"`       // share of the values in categories the reference lacks
	OutOfRange float64 `json:"out_of_range"` // share of the numbers beyond the reference's least and greatest
	// MinDetectable is the least debiased PSI, of the bins or categories as chi-square joins them, that Confirm windows
	// like this one would have called drift, were there no MinEffect. 0 without values.
	MinDetectable float64 `json:"min_detectable"`
	// Alerted says that an alert has named the feature and it has not recovered since: Recover
	// windows in a row without a hit. It outlasts a Verdict, which is of one window.
	Alerted bool `json:"alerted"`
	// Bars draw the reference beside the window: single values or categories if there
	// are few, ranges otherwise. They are for looking at; no test uses them.
	Bars []Bar `json:"bars,omitempty"`
	// History is what a monitor's windows said, this one the last, at most 200 of them.
	// It is empty while no window has closed.
	History []Moment `json:"history,omitempty"`
}

func (r FeatureReport) clone() FeatureReport {
	r.Scores, r.Bars, r.History = slices.Clone(r.Scores), slices.Clone(r.Bars), slices.Clone(r.History)
	return r
}

// Report judges the windows that have closed and returns what was found in the last of
// them; before the first has closed, in the open one as it is. Looking changes
// no verdict and spends no budget. The Report is the caller's.
func (m *Monitor) Report() *Report {
	m.closeDue()
	m.judge.Lock()
	defer m.judge.Unlock()
	for m.judgeOldest() {
	}
	if m.last == nil {
		w := m.live.Load()
		return m.opt.assess(m.opt.Window.look(w.ref, []*pane{w.until(m.opt.Now())}))
	}
	rep := *m.last
	if rep.Performance != nil {
		perf := *rep.Performance
		rep.Performance = &perf
	}
	rep.Features = slices.Clone(rep.Features)
	for i := range rep.Features {
		rep.Features[i] = rep.Features[i].clone()
	}
	return &rep
}
