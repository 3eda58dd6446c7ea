package drift

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func metricFields(m Metrics) map[string]float64 {
	return map[string]float64{
		"tp": m.TP, "fp": m.FP, "fn": m.FN, "tn": m.TN, "accuracy": m.Accuracy, "precision": m.Precision, "recall": m.Recall, "f1": m.F1,
		"roc_auc": m.AUC, "n": float64(m.Rows), "log_loss": m.LogLoss, "brier": m.Brier, "ece10": m.ECE,
	}
}

// Every field of every case, the expected metrics included.
func TestPerformanceGolden(t *testing.T) {
	f, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Cases []struct {
			ID, Kind    string
			Score       spec
			LabelSource spec               `json:"label_source"`
			In          map[string]float64 // threshold, label_shift
			Expect      map[string]any
		}
	}
	if err := json.NewDecoder(z).Decode(&all); err != nil && !strings.Contains(err.Error(), "cannot unmarshal") {
		t.Fatal(err) // the In of other kinds has other types
	}
	cases := 0
	for _, c := range all.Cases {
		if c.Kind != "performance_binary" {
			continue
		}
		cases++
		scores, source := c.Score.values(t), c.LabelSource.values(t)
		truth := make([]bool, len(scores))
		for i := range scores {
			truth[i] = source[i] < scores[i]+c.In["label_shift"]
		}
		compare := func(what string, want map[string]any, got Metrics) {
			fields := metricFields(got)
			for name, v := range want {
				if name == "cbpe" {
					continue
				}
				x, ok := fields[name]
				if w := v.(float64); !ok || math.Abs(x-w) > 1e-12*math.Max(1, math.Abs(w))*float64(len(scores)) {
					t.Errorf("%s %s: %s is %v, want %v", c.ID, what, name, x, v)
				}
			}
		}
		compare("measured", c.Expect, Measure(scores, truth, c.In["threshold"]))
		compare("expected", c.Expect["cbpe"].(map[string]any), CBPE(scores, c.In["threshold"]))
	}
	if cases != 4 {
		t.Errorf("%d cases, want 4", cases)
	}
}

func TestMetricsOfOddInput(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		scores []float64
		labels []bool
	}{
		{nil, nil},
		{[]float64{nan}, []bool{true}},
		{[]float64{inf, -inf}, []bool{false, true}},
		{[]float64{1e300, -1e300, 0.5}, []bool{true, true, true}},
		{[]float64{0.5, 0.5}, []bool{false, false}},
	} {
		for _, m := range []Metrics{Measure(c.scores, c.labels, 0.5), CBPE(c.scores, 0.5)} {
			for name, x := range metricFields(m) {
				if x-x != 0 || x < 0 {
					t.Errorf("%v: %s is %v", c.scores, name, x)
				}
			}
		}
	}
	if m := Measure([]float64{0.9, nan, 0.2}, []bool{true, true, false}, 0.5); m.Rows != 2 || m.Accuracy != 1 || m.AUC != 1 {
		t.Errorf("a missing score was not left out: %+v", m)
	}
}

// scored is a stream of calibrated scores with their labels; of a decayed one every
// fourth label is another.
func (w *world) scored(decayed bool) (float64, bool) {
	s := w.Float64()
	label := w.Float64() < s
	if decayed && w.IntN(4) == 0 {
		label = !label
	}
	return s, label
}

func (w *world) predictions(t testing.TB, rows int) *Reference {
	scores, truth := make([]float64, rows), make([]bool, rows)
	for i := range scores {
		scores[i], truth[i] = w.scored(false)
	}
	return fitted(t, Predictions("p", scores, truth, 0.5))
}

// Labels come half an hour late; the inputs and scores never move. The decay is
// found from the labels alone, once, and what was expected stays where it was.
func TestDecayIsFoundThroughLateLabels(t *testing.T) {
	clk, w := newClock(), newWorld(21)
	m := monitor(t, w.predictions(t, 10_000), &MonitorOptions{Window: Every(time.Hour), Cooldown: -1, Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	type late struct {
		id    string
		label bool
	}
	var queue []late
	n := 0
	hours := func(k int, decayed bool) {
		for range k * 900 {
			n++
			s, label := w.scored(decayed)
			id := fmt.Sprint("request ", n)
			p.Predicted(id, s)
			p.Predicted(id, s) // a redelivery
			queue = append(queue, late{id, label})
			if len(queue) > 450 {
				p.Actual(queue[0].id, queue[0].label)
				p.Actual(queue[0].id, !queue[0].label) // told again: the first counts
				queue = queue[1:]
			}
			clk.now = clk.now.Add(4 * time.Second)
		}
	}
	hours(12, false)
	if got := taken(m); len(got) > 0 {
		t.Fatalf("an alert without decay: %+v", got[0])
	}
	rep := m.Report()
	soundReport(t, rep)
	if a, e := rep.Performance.Actual, rep.Performance.Expected; rep.Rows != 900 || a.Rows < 890 || math.Abs(a.Accuracy-0.75) > 0.05 || math.Abs(e.Accuracy-0.75) > 0.02 {
		t.Errorf("%d rows, actual %+v, expected %+v; both should be near 0.75", rep.Rows, a, e)
	}
	hours(6, true)
	got := taken(m)
	if len(got) != 1 || got[0].Feature.Name != "p (performance)" || len(got[0].Others) != 0 || got[0].Performance == nil || len(got[0].ID) != 32 {
		t.Fatalf("%d alerts on the decay: %+v", len(got), got)
	}
	if a, e := got[0].Performance.Actual.Accuracy, got[0].Performance.Expected.Accuracy; a > 0.68 || math.Abs(e-0.75) > 0.02 {
		t.Errorf("accuracy %v, expected %v; it should be 0.62 and 0.75", a, e)
	}
	if s := p.Stats(); s.Waiting != 450 || s.Joined != uint64(n-450) || s.Repeated != uint64(n+n-450) || s.Expired+s.Orphaned != 0 {
		t.Errorf("%+v of %d predictions", s, n)
	}
}

// What waits is bounded in number and in time, whichever side comes first.
func TestJoinIsBounded(t *testing.T) {
	clk, w := newClock(), newWorld(23)
	m := monitor(t, w.predictions(t, 2000), &MonitorOptions{Window: Tumbling(100_000), Labels: time.Hour, Waiting: 1600, Now: clk.Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		p.Predicted(fmt.Sprint(i), 0.5)
	}
	if s := p.Stats(); s.Waiting > 1600 || s.Waiting < 1500 || s.Waiting+int(s.Expired) != 10_000 {
		t.Errorf("%+v: at most 1600 may wait, and none be lost uncounted", s)
	}
	p.Actual("9999", true)
	p.Actual("early", true)
	p.Predicted("early", 0.5)
	if s := p.Stats(); s.Joined != 2 {
		t.Errorf("%+v: two pairs were complete", s)
	}
	clk.now = clk.now.Add(2 * time.Hour)
	for i := range 200 { // each shard looks at its oldest as one more comes
		p.Actual(fmt.Sprint("unknown ", i), true)
	}
	if s := p.Stats(); s.Waiting != 0 || s.Joined != 2 {
		t.Errorf("%+v: all are too old", s)
	}
	p.Predicted("unscored", math.NaN())
	if rep := m.Report(); rep.Rows != 10_002 || rep.Performance.Actual.Rows != 2 {
		t.Errorf("%d rows, %d with labels", rep.Rows, rep.Performance.Actual.Rows)
	}
	// A prediction of the version before says nothing of this one.
	p.Predicted("old", 0.9)
	if err := m.Rebase(w.predictions(t, 2000)); err != nil {
		t.Fatal(err)
	}
	p.Actual("old", true)
	if rep := m.Report(); rep.Performance.Actual.Rows != 0 {
		t.Error("a label of the old version counts for the new")
	}
}

func TestParallelLabelsLoseNothing(t *testing.T) {
	w := newWorld(24)
	m := monitor(t, w.predictions(t, 2000), &MonitorOptions{Window: Tumbling(1 << 30)})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 2 {
		for _, first := range []bool{true, false} {
			wg.Go(func() {
				for i := range 5000 {
					if id := fmt.Sprint(k, i); first {
						p.Predicted(id, 0.7)
					} else {
						p.Actual(id, true)
					}
				}
			})
		}
	}
	wg.Wait()
	if rep, s := m.Report(), p.Stats(); s.Joined != 10_000 || rep.Performance.Actual.Rows != 10_000 || rep.Rows != 10_000 {
		t.Errorf("%+v, %d rows, %d labels", s, rep.Rows, rep.Performance.Actual.Rows)
	}
}

func TestPredictionsAreChecked(t *testing.T) {
	s, y := []float64{0.2, 0.8}, []bool{false, true}
	for want, columns := range map[string][]Column{
		"2 scores and 1 labels": {Predictions("p", s, y[:1], 0.5)},
		"a threshold":           {Predictions("p", s, y, math.NaN())},
		"a reference has one":   {Predictions("p", s, y, 0.5), Predictions("q", s, y, 0.5)},
		"performance":           {Predictions("p", s, y, 0.5), Numbers("p (performance)", s)},
		"no rows to fit":        {Predictions("p", nil, nil, 0.5)},
	} {
		if _, err := Fit(columns...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for threshold, ok := range map[float64]bool{1e300: true, -1e300: true, 1.1e300: false, math.Inf(-1): false} {
		if _, err := Fit(Predictions("p", s, y, threshold)); (err == nil) != ok {
			t.Errorf("a threshold of %v: %v", threshold, err)
		}
	}
	m := monitor(t, fitted(t, Numbers("p", s)), nil)
	_, err := m.Performance()
	if e, ok := errors.AsType[*Error](err); !ok || e.Row != -1 {
		t.Errorf("performance without predictions: %v, of no row", err)
	}
	if err := m.Rebase(fitted(t, Predictions("p", s, y, 0.5))); err == nil {
		t.Error("numbers became predictions")
	}
	// Labels that are not those of the scores are refused, as many as there are in all.
	moved := fitted(t, Predictions("p", []float64{0.1, 0.2, 0.8, 0.9}, []bool{false, false, true, true}, 0.5))
	l := moved.features[0].labels
	l.negatives[0], l.negatives[1] = l.negatives[0]+1, l.negatives[1]-1
	if forged, err := moved.MarshalBinary(); err != nil {
		t.Fatal(err)
	} else if err := new(Reference).UnmarshalBinary(forged); !errors.Is(err, ErrFormat) {
		t.Errorf("labels of other cells were read: %v", err)
	}
	ref := newWorld(25).predictions(t, 3000)
	bin, err := ref.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	var one, two Reference
	if err := one.UnmarshalBinary(bin); err != nil || one.ID() != ref.ID() || one.Schema() != ref.Schema() {
		t.Errorf("binary: %v", err)
	}
	if err := json.Unmarshal(text, &two); err != nil || two.ID() != ref.ID() {
		t.Errorf("JSON: %v", err)
	}
	usable(t, &two)
}

// Both forms of a report have the metrics, in full where they are known and as a dash where not.
func TestReportsHaveThePerformance(t *testing.T) {
	w := newWorld(27)
	m := monitor(t, w.predictions(t, 5000), &MonitorOptions{Window: Tumbling(1000), Now: newClock().Now})
	p, err := m.Performance()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		s, y := w.scored(false)
		p.Predicted(fmt.Sprint(i), s)
		if i < 300 {
			p.Actual(fmt.Sprint(i), y)
		}
	}
	rep := m.Report()
	soundReport(t, rep)
	var text strings.Builder
	if err := rep.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	cells := map[string][]string{}
	for line := range strings.SplitSeq(text.String(), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			cells[f[0]] = f[1:]
		}
	}
	a := rep.Performance.Actual
	want := []string{"300", fmt.Sprintf("%.3f", a.Accuracy), fmt.Sprintf("%.3f", a.Precision), fmt.Sprintf("%.3f", a.Recall), fmt.Sprintf("%.3f", a.F1),
		fmt.Sprintf("%.3f", a.AUC), fmt.Sprintf("%.3f", a.LogLoss), fmt.Sprintf("%.3f", a.Brier), fmt.Sprintf("%.3f", a.ECE)}
	if got := cells["actual"]; !slices.Equal(got, want) {
		t.Errorf("actual %v, want %v:\n%s", got, want, text.String())
	}
	if got := cells["expected"]; len(got) != 9 || got[0] != "600" || got[6] != "-" || got[7] != "-" || got[8] != "-" {
		t.Errorf("expected %v", got)
	}
	if got := cells["reference"]; len(got) != 9 || got[0] != "5000" {
		t.Errorf("reference %v", got)
	}
	page, texts := pageOf(t, rep)
	for _, cell := range append(want, "Performance", "actual, by the labels that have come", "log loss") {
		if !strings.Contains(texts, cell) {
			t.Errorf("the page lacks %q", cell)
		}
	}
	if n := strings.Count(page, "id=\"performance\""); n != 1 {
		t.Errorf("%d tables of the performance", n)
	}
	if n := strings.Count(page, "The least PSI"); n != 1 {
		t.Errorf("%d of the features have a least PSI, the predictions do", n)
	}
	// Before labels there is nothing actual.
	rep = monitor(t, w.predictions(t, 500), &MonitorOptions{Now: newClock().Now}).Report()
	for _, l := range rep.Performance.lines()[:2] {
		if l.values[0] != "0" || strings.Join(l.values[1:], "") != "--------" {
			t.Errorf("%s without rows: %v", l.name, l.values)
		}
	}
	plain := monitor(t, fitted(t, Numbers("x", normals(1, 500))), nil).Report()
	if page, _ := pageOf(t, plain); strings.Contains(page, "id=\"performance\"") {
		t.Error("a page without predictions has their performance")
	}
}
