package drift

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// WriteText writes the report as an aligned table, one line per feature, the worst first. The last
// column says of features that moved where most did. Zero times are left out.
func (r *Report) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%d rows%s, reference %.12s\n", r.Rows, r.span(", %s to %s"), plain(r.Reference)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "feature\tverdict\teffect\tp\tpsi\tks\tmissing\tunseen\tout of range\tmoved most\n")
	for _, f := range r.ranked() {
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.2g\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(f.Name), f.Verdict, f.Effect, f.P,
			f.stat("psi"), f.stat("ks"), percent(f.Missing), percent(f.Unseen), percent(f.OutOfRange), plain(f.moved()))
	}
	return t.Flush()
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
