package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteText writes the summary as a person reads it.
func (s *Summary) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	title := func(name string) { fmt.Fprintf(w, "\n%s\n", name) }

	title("requests")
	line("  answered\t%d\t%.0f/s\t%d errors", s.Requests, s.Rate, s.Errors)
	if s.FirstError != "" {
		line("  first error\t%s", s.FirstError)
	}
	line("  degraded\t%d\t%.2f %%", s.Degraded.Total, percent(s.Degraded.Total, s.Requests))
	for _, reason := range slices.Sorted(maps.Keys(s.Degraded.Reasons)) {
		line("    %s\t%d", reason, s.Degraded.Reasons[reason])
	}
	title("time, ms\tp50\tp95\tp99\tmax")
	row := func(name string, q Quantiles) { line("  %s\t%.1f\t%.1f\t%.1f\t%.1f", name, q.P50, q.P95, q.P99, q.Max) }
	row("whole answer", s.Latency)
	for _, stage := range []string{"gateway", "user features", "item features", "cache", "model"} {
		row("  "+stage, s.Stages[stage])
	}
	row("one after the other", s.Sequential)

	title("versions\tshare\thits@10 served")
	for _, version := range slices.Sorted(maps.Keys(s.Versions)) {
		line("  %s\t%.1f %%\t%.3f", version, 100*s.Versions[version], s.ServedHits[version])
	}
	if s.Hits != nil {
		title("hit rate@10, later purchases")
		line("  champion\t%.3f", s.Hits.Champion)
		line("  candidate\t%.3f", s.Hits.Candidate)
		line("  popularity\t%.3f\tof %d", s.Hits.Popularity, s.Hits.Purchases)
	}

	e := s.Events
	title("events\tpublished\tprocessed\tduplicate\tdead\tlost\ttwice")
	line("  purchases\t%d\t%d\t%d\t%d\t%d\t%d", e.Published, e.Processed, e.Duplicate, e.Dead, e.Lost, e.Twice)
	line("  feature age, ms\tp50 %.1f\tp99 %.1f", e.AgeP50, e.AgeP99)

	title("drift, effect\tbefore\tat the alert\tnow\tverdict")
	for _, f := range s.Drift.Features {
		line("  %s\t%.3f\t%.3f\t%.3f\t%s", f.Name, f.Before, f.During, f.After, f.Now)
	}
	line("  alerts\t%d\tnamed %s\tshifted %s", s.Drift.Alerts, names(s.Drift.Named), names(s.Drift.Shifted))

	title("rollout\t" + s.Rollout.Outcome)
	for _, h := range s.Rollout.History {
		line("  %s", h)
	}
	for _, n := range s.Notes {
		line("  %s", n)
	}
	line("  serving %s\tcode %.12s\tfeatures %.12s\tdata %s", s.Rollout.Served, s.Lineage.Code, s.Lineage.Features, s.Lineage.Data)
	if s.Data != nil {
		title("data")
		line("  %s", s.Data)
	}
	if s.PeakRSS > 0 {
		title("memory")
		line("  peak\t%.0f MiB", s.PeakRSS)
	}
	title("invariants")
	for _, i := range s.Invariants {
		mark := "ok"
		if !i.OK {
			mark = "BROKEN"
		}
		line("  %s\t%s\t%s", mark, i.Name, i.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verdict := "every invariant held"
	if !s.OK {
		verdict = "an invariant did not hold"
	}
	_, err := fmt.Fprintf(out, "\n%s\n", verdict)
	return err
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(max(1, of)) }

func names(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}
