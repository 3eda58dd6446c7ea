package drift

import (
	"fmt"
	"math"
)

// Performance joins predictions with the labels that come later, by the ID of
// the prediction, and counts how often they agree into the windows of its
// [Monitor]. It is safe for concurrent use and outlives Rebase.
//
// Labels are judged, with the monitor's budget, as one more feature beside the others,
// called after the predictions with " (performance)" behind: accuracy, precision and recall are
// compared with those of the reference by Fisher's exact test. The area under the curve and
// the calibration, the share of positives beside what the reference has at the same scores, are compared
// within the cells of the scores, where other scores with the same meaning are no
// change; their P is Chernoff's bound on the hypergeometric law, which holds at any level and is up to ten times
// too large. What counts is the loss with the smallest P among those of at least MonitorOptions.MinLoss, which are
// drift, and only if none of these is significant that among the smaller ones: a larger loss of which one cannot be sure hides
// no other. Windows that confirm a drift must have lost as much together. A label counts when both sides are there; windows with fewer than 500
// such rows are gathered until there are as many. What a prediction is worth before its label
// comes, [PerformanceReport] estimates. Log loss, Brier score and ECE are reported, and not tested.
//
// Predictions and labels are joined in the process that counts them: where there are replicas, a
// label has to reach the one that predicted. An ID waits at most MonitorOptions.Labels, and at most
// MonitorOptions.Waiting are kept.
//
// Who classifies into several classes can observe the probability of the class it
// chose as the score and whether it was right as the label, with threshold 0: accuracy
// and its estimate are then those of the classes. For a regression, observe the
// absolute error as a [Numeric] feature.
type Performance struct {
	m *Monitor
	i int // the feature of the predictions
}

// PerformanceReport says how well the predictions did. Actual and Reference are
// from labels; Expected is [CBPE] of all predictions of the window, labelled or
// not, after the scores were calibrated by the reference's labels. So Expected is there first.
// AUC and ECE are of the reference's cells, and LogLoss and Brier rounded to 1e-5 and 1e-7 a
// row, so that replicas add up exactly.
type PerformanceReport struct {
	Actual    Metrics `json:"actual"`
	Expected  Metrics `json:"expected"`
	Reference Metrics `json:"reference"`
}

// PerformanceStats tells what became of predictions and labels since the monitor began.
type PerformanceStats struct {
	Waiting  int    `json:"waiting"`  // predictions without a label yet, now
	Joined   uint64 `json:"joined"`   // pairs that were counted
	Expired  uint64 `json:"expired"`  // predictions given up: too old, too many, or of an earlier reference
	Orphaned uint64 `json:"orphaned"` // labels given up whose prediction never came
	Repeated uint64 `json:"repeated"` // predictions and labels seen before, which were not counted again
}

// Performance returns the handle of the predictions' performance, to be taken once and
// kept. It is [ErrSchema] if the reference has no [Predictions].
func (m *Monitor) Performance() (*Performance, error) {
	i := m.live.Load().ref.predictions
	if i < 0 {
		return nil, &Error{Row: -1, Err: fmt.Errorf("the reference has no predictions: %w", ErrSchema)}
	}
	return &Performance{m: m, i: i}, nil
}

// Predicted counts a score, as [Numeric.Observe] on the feature of the
// predictions does, and remembers it until the label comes. An ID that was seen
// within MonitorOptions.Labels changes nothing, so a redelivered prediction counts once.
// A NaN score is a missing one, and joins nothing. IDs are hashed, not kept.
func (p *Performance) Predicted(id string, score float64) {
	w := p.m.current()
	c := &w.columns[p.i]
	if score != score {
		if c.add(atMissing, w.rows, p.m.lanes) {
			p.m.rotate(w)
		}
		return
	}
	cell := c.cells.cell(score)
	e := waiting{ref: w.ref, score: score, cell: int32(cell), state: predicted}
	label, outcome := p.m.join.put(id, e, p.m.opt.Now())
	if outcome == repeated {
		return
	}
	if c.add(atCells+cell, w.rows, p.m.lanes) {
		p.m.rotate(w)
	}
	if outcome == joined {
		p.count(e, label.label)
	}
}

// Actual tells the label of a prediction. It may come before the prediction, and
// may be told twice: the first counts.
func (p *Performance) Actual(id string, label bool) {
	e, outcome := p.m.join.put(id, waiting{state: labelOnly, label: label}, p.m.opt.Now())
	if outcome == joined {
		p.count(e, label)
	}
}

// Stats may be called at any time.
func (p *Performance) Stats() PerformanceStats { return p.m.join.stats() }

func (p *Performance) count(e waiting, label bool) {
	w := p.m.current()
	if e.ref != w.ref {
		p.m.join.expired.Add(1) // of another version: it says nothing of this one
		return
	}
	p.m.join.joined.Add(1)
	if n := w.labels.add(int(e.cell), e.score, label); n == w.rows {
		p.m.rotate(w)
	}
}

// Predictions is the column of a binary classifier's scores on data with labels that it was
// not trained on: what to expect of it in production. A score is the probability of
// the label being true; NaN is missing, and so is its label. A score of at least threshold
// predicts true. The column is a numeric feature too, so that a drift of the
// predictions is seen before there are labels. A reference has one of these at
// most. Slices are read by [Fit] and not kept; if they differ in length, Fit fails.
func Predictions(name string, scores []float64, labels []bool, threshold float64) Column {
	return Column{name: name, kind: numeric, numbers: scores, labels: labels, threshold: threshold, predictions: true}
}

func fitPredictions(c Column) (*feature, error) {
	if !(math.Abs(c.threshold) <= maxThreshold) {
		return nil, fmt.Errorf("a threshold of %v", c.threshold)
	}
	f := fitNumbers(c)
	return f, f.label(c)
}

// label counts the labels of scores that were counted.
func (f *feature) label(c Column) error {
	if len(c.labels) != len(c.numbers) {
		return fmt.Errorf("%d scores and %d labels", len(c.numbers), len(c.labels))
	}
	f.labels = newLabelled(len(f.counts))
	for i, x := range c.numbers {
		if x == x {
			f.labels.add(f.cells.cell(x), x, c.labels[i])
		}
	}
	return nil
}
