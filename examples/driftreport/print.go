package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/mainstay-go/mainstay/drift"
)

func (r *result) json(w io.Writer) error {
	e := json.NewEncoder(w)
	if !r.stream {
		e.SetIndent("", "  ")
	}
	return e.Encode(r)
}

func (r *result) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "reference\t%s: %d rows\n", clean(r.Reference.File), r.Reference.Rows)
	fmt.Fprintf(t, "current\t%s: %d rows%s\n", clean(r.Current.File), r.Current.Rows, r.cut())
	fmt.Fprintf(t, "numeric\t%s\n", names(r.Reference.Numeric))
	fmt.Fprintf(t, "categorical\t%s\n", names(r.Reference.Categorical))
	for _, o := range r.LeftOut {
		fmt.Fprintf(t, "left out\t%s: %s\n", clean(o.Column), clean(o.Why))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n\n", r.sentence())
	return r.Report.WriteText(w)
}

// cut says how a stream was cut into windows.
func (r *result) cut() string {
	if !r.stream {
		return ""
	}
	return fmt.Sprintf(", %d full windows", r.Windows)
}

func (r *result) sentence() string {
	drifted := fmt.Sprintf("%d of %d features drifted", r.count(), len(r.Report.Features))
	switch {
	case r.stream && r.Windows == 0:
		return "no window is full yet; what there is:"
	case r.stream:
		return fmt.Sprintf("alarms: %d, with a budget of one false alarm in %d rows; in the last full window %s", r.Alarms, r.budget, drifted)
	}
	return drifted
}

func names(of []string) string {
	if len(of) == 0 {
		return "-"
	}
	return clean(strings.Join(of, ", "))
}

// clean keeps what a file says from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// printer tells alarms as they come.
func printer(asJSON bool, out io.Writer) func(alarm) error {
	return func(a alarm) error {
		if asJSON {
			return json.NewEncoder(out).Encode(a)
		}
		f := a.Alert.Feature
		also := ""
		if len(a.Alert.Others) > 0 {
			also = "; so do " + names(a.Alert.Others)
		}
		_, err := fmt.Fprintf(out, "rows %d to %d: %s drifts, effect %.3f, p %.2g%s%s\n", a.From, a.To, clean(f.Name), f.Effect, f.P, moved(f), also)
		return err
	}
}

// moved names the values whose share differs most.
func moved(f drift.FeatureReport) string {
	if len(f.Bars) == 0 {
		return ""
	}
	by := func(b drift.Bar) float64 { return max(b.Current-b.Reference, b.Reference-b.Current) }
	b := slices.MaxFunc(f.Bars, func(a, b drift.Bar) int { return cmp.Compare(by(a), by(b)) })
	return fmt.Sprintf(" (%.40s: %.1f%%, was %.1f%%)", clean(b.Label), 100*b.Current, 100*b.Reference)
}
