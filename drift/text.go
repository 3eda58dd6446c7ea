package drift

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// WriteText writes the report as an aligned table, one line per feature, the worst first. The last
// column says of features that moved where most did. Zero times are left out. With [Predictions] a second
// table has the metrics; a dash stands for what is not known.
func (r *Report) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%d rows%s, reference %.12s\n", r.Rows, r.span(", %s to %s"), plain(r.Reference)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "feature\tverdict\teffect\tp\tpsi\tks\tmissing\tunseen\tout of range\tmoved most\n")
	for _, f := range r.ranked() {
		share := func(x float64) string { return r.share(f, x) }
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.2g\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(f.Name), f.Verdict, f.Effect, f.P,
			f.stat("psi"), f.stat("ks"), share(f.Missing), share(f.Unseen), share(f.OutOfRange), plain(f.moved()))
	}
	if err := t.Flush(); err != nil || r.Performance == nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	fmt.Fprintln(t, "performance\t"+strings.Join(metricNames, "\t"))
	for _, l := range r.Performance.lines() {
		fmt.Fprintln(t, l.name+"\t"+strings.Join(l.values, "\t"))
	}
	return t.Flush()
}

// share is one of a feature's shares; the performance has none.
func (r *Report) share(f *FeatureReport, x float64) string {
	if r.Performance != nil && f == &r.Features[len(r.Features)-1] {
		return "-"
	}
	return percent(x)
}

var metricNames = []string{"rows", "accuracy", "precision", "recall", "f1", "auc", "log loss", "brier", "ece"}

// metricLine is one line of the table of metrics, with as many values as there are metricNames.
type metricLine struct {
	name, about string
	values      []string
}

func (p *PerformanceReport) lines() []metricLine {
	line := func(name, about string, m Metrics, losses bool) metricLine {
		l := metricLine{name, about, []string{strconv.Itoa(m.Rows)}}
		value := func(x float64, known bool) {
			if known {
				l.values = append(l.values, fmt.Sprintf("%.3f", x))
			} else {
				l.values = append(l.values, "-")
			}
		}
		value(m.Accuracy, m.Rows > 0)
		value(m.Precision, m.TP+m.FP > 0)
		value(m.Recall, m.TP+m.FN > 0)
		value(m.F1, m.TP+m.FP+m.FN > 0)
		value(m.AUC, m.TP+m.FN > 0 && m.FP+m.TN > 0)
		for _, x := range []float64{m.LogLoss, m.Brier, m.ECE} {
			value(x, losses && m.Rows > 0)
		}
		return l
	}
	return []metricLine{
		line("actual", "by the labels that have come", p.Actual, true),
		line("expected", "by all scores, before their labels", p.Expected, false),
		line("reference", "by the labels of the reference", p.Reference, true),
	}
}

// span says from when to when the window lasted; a report without times has none.
func (r *Report) span(format string) string {
	if r.From.IsZero() || r.To.IsZero() {
		return ""
	}
	return fmt.Sprintf(format, r.From.UTC().Format(time.DateTime), r.To.UTC().Format(time.DateTime))
}

// urgency orders verdicts, the worst first; what is not known stands before what is fine.
func urgency(v Verdict) int {
	return slices.Index([]Verdict{Drift, Warning, WeakReference, Insufficient, Stable}, v)
}

// ranked returns the features, the worst first.
func (r *Report) ranked() []*FeatureReport {
	all := make([]*FeatureReport, len(r.Features))
	for i := range r.Features {
		all[i] = &r.Features[i]
	}
	slices.SortStableFunc(all, func(a, b *FeatureReport) int {
		return cmp.Or(cmp.Compare(urgency(a.Verdict), urgency(b.Verdict)), cmp.Compare(b.Effect, a.Effect), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// moved names the bar whose share differs most, where there is something to explain.
func (r *FeatureReport) moved() string {
	if r.Verdict != Drift && r.Verdict != Warning || len(r.Bars) == 0 {
		return "-"
	}
	b := slices.MaxFunc(r.Bars, func(a, b Bar) int {
		return cmp.Compare(max(a.Current-a.Reference, a.Reference-a.Current), max(b.Current-b.Reference, b.Reference-b.Current))
	})
	return fmt.Sprintf("%s: %s, was %s", short(b.Label, 30), percent(b.Current), percent(b.Reference))
}

// score is that of a test, nil if it was not made or had no values.
func (r *FeatureReport) score(test string) *Score {
	for i, s := range r.Scores {
		if name, _, _ := strings.Cut(s.Method, " "); name == test && s.N > 0 && s.M > 0 {
			return &r.Scores[i]
		}
	}
	return nil
}

// stat is the statistic of that test, or a dash.
func (r *FeatureReport) stat(test string) string {
	if s := r.score(test); s != nil {
		return fmt.Sprintf("%.3f", s.Stat)
	}
	return "-"
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*min(max(share, 0), 1)) }

// plain keeps a name from breaking the table or steering the terminal.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, name)
}

// short cuts a text to so many characters.
func short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
