package drift

import (
	"strings"
	"testing"
	"time"
)

// smallReport is small enough for its forms to be written by hand.
func smallReport() *Report {
	hour := func(n int) time.Time { return time.Date(2011, 5, 1, n, 0, 0, 0, time.UTC) }
	return &Report{
		Reference: "0123456789abcdef", From: hour(2), To: hour(3), Rows: 200,
		Features: []FeatureReport{
			{Name: "age", Verdict: Drift, P: 0.001, Effect: 0.3, Missing: 0.01, OutOfRange: 0.025, Alerted: true, MinDetectable: 0.07,
				Scores: []Score{
					{Method: "psi reference bins", Stat: 0.31, Effect: 0.3, Null: 0.01, N: 5000, M: 198},
					{Method: "ks exact", Stat: 0.25, Effect: 0.25, P: 0.0005, HasP: true, N: 5000, M: 198},
				},
				Bars: []Bar{{"up to 18", 0.6, 0.2}, {"18 to 60", 0.2, 0.4}, {"above 60", 0.2, 0.4}},
				History: []Moment{
					{To: hour(1), Rows: 150, Effect: 0.1, P: 0.5, Verdict: Stable},
					{To: hour(2), Rows: 160, Effect: 0.3, P: 0.002, Verdict: Drift, Alarm: true},
					{To: hour(3), Rows: 200, Effect: 0.2, P: 0.001, Verdict: Drift},
				}},
			{Name: "p (performance)", Verdict: Stable, P: 1},
		},
		Performance: &PerformanceReport{
			Actual:    Metrics{Rows: 8, TP: 3, FP: 1, FN: 1, TN: 3, Accuracy: 0.75, Precision: 0.75, Recall: 0.75, F1: 0.75, AUC: 0.9, LogLoss: 0.4, Brier: 0.15, ECE: 0.05},
			Expected:  Metrics{Rows: 200, TP: 80, FP: 20, FN: 10, TN: 90, Accuracy: 0.85, Precision: 0.8, Recall: 0.889, F1: 0.842, AUC: 0.95},
			Reference: Metrics{Rows: 5, TN: 5, Accuracy: 1, LogLoss: 0.1, Brier: 0.01},
		},
	}
}

func TestTextByHand(t *testing.T) {
	const want = `200 rows, 2011-05-01 02:00:00 to 2011-05-01 03:00:00, reference 0123456789ab
feature          verdict  effect  p      psi    ks     missing  unseen  out of range  moved most
age              drift    0.300   0.001  0.310  0.250  1.0%     0.0%    2.5%          up to 18: 20.0%, was 60.0%
p (performance)  stable   0.000   1      -      -      -        -       -             -

performance  rows  accuracy  precision  recall  f1     auc    log loss  brier  ece
actual       8     0.750     0.750      0.750   0.750  0.900  0.400     0.150  0.050
expected     200   0.850     0.800      0.889   0.842  0.950  -         -      -
reference    5     1.000     -          -       -      -      0.100     0.010  0.000
`
	var b strings.Builder
	if err := smallReport().WriteText(&b); err != nil || b.String() != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, b.String(), want)
	}
	// With one end of the window there is no span, and without performance nobody's shares are dashes.
	for _, change := range []func(*Report){func(r *Report) { r.From = time.Time{} }, func(r *Report) { r.To = time.Time{} }} {
		r := smallReport()
		change(r)
		r.Performance = nil
		b.Reset()
		if err := r.WriteText(&b); err != nil || !strings.HasPrefix(b.String(), "200 rows, reference 0123456789ab\n") ||
			!strings.Contains(b.String(), "-      -      0.0%     0.0%    0.0%          -\n") || strings.Contains(b.String(), "accuracy") {
			t.Errorf("%v:\n%s", err, b.String())
		}
	}
}

// A metric is known where it divides by some rows.
func TestKnownMetrics(t *testing.T) {
	for _, c := range []struct {
		m    Metrics
		want string // of precision, recall, f1 and auc
	}{
		{Metrics{Rows: 4, TP: 1, FP: 1, FN: 1, TN: 1}, "++++"},
		{Metrics{Rows: 3, FP: 2, FN: 1}, "++++"},
		{Metrics{Rows: 3, FP: 1, FN: 2}, "++++"},
		{Metrics{Rows: 5, TN: 5}, "----"},
		{Metrics{Rows: 5, FP: 5}, "+-+-"},
		{Metrics{Rows: 5, FN: 5}, "-++-"},
		{Metrics{Rows: 5, TP: 5}, "+++-"},
		{Metrics{Rows: 5, FN: 2, TN: 3}, "-+++"},
	} {
		got := ""
		for _, v := range (&PerformanceReport{Actual: c.m}).lines()[0].values[2:6] {
			if v == "-" {
				got += "-"
			} else {
				got += "+"
			}
		}
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
}

// What moved most is the bar with the largest difference, up or down, wherever it stands.
func TestMovedMost(t *testing.T) {
	big, fell, rose := Bar{"big", 0.45, 0.45}, Bar{"fell", 0.4, 0.1}, Bar{"rose", 0.1, 0.35}
	for _, bars := range [][]Bar{{big, fell, rose}, {big, rose, fell}, {fell, big, rose}, {fell, rose, big}, {rose, big, fell}, {rose, fell, big}} {
		if got := (&FeatureReport{Verdict: Warning, Bars: bars}).moved(); got != "fell: 10.0%, was 40.0%" {
			t.Errorf("%v: %s", bars, got)
		}
		for i := range bars { // the same, mirrored
			bars[i].Reference, bars[i].Current = bars[i].Current, bars[i].Reference
		}
		if got := (&FeatureReport{Verdict: Drift, Bars: bars}).moved(); got != "fell: 40.0%, was 10.0%" {
			t.Errorf("%v: %s", bars, got)
		}
	}
	for _, f := range []FeatureReport{{Verdict: Stable, Bars: []Bar{fell}}, {Verdict: Drift}} {
		if got := f.moved(); got != "-" {
			t.Errorf("%+v: %s", f, got)
		}
	}
}

// A test without values on either side was not made.
func TestStatOfATestNotMade(t *testing.T) {
	for _, s := range []Score{{Method: "ks exact", N: 5}, {Method: "ks exact", M: 5}, {Method: "kss", N: 5, M: 5}} {
		if got := (&FeatureReport{Scores: []Score{s}}).stat("ks"); got != "-" {
			t.Errorf("%+v: %s", s, got)
		}
	}
}

func TestShort(t *testing.T) {
	for of, want := range map[string]string{"": "", "größe": "größe", "größer": "größ…", "abcdefghi": "abcd…"} {
		if got := short(of, 5); got != want {
			t.Errorf("%q is cut to %q, want %q", of, got, want)
		}
	}
}
