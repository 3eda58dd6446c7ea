package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// result is one phase of one run.
type result struct {
	cell    cell
	limiter string
	seed    uint64
	phase   string
	report  concurrencytest.Report
	drawn   float64 // goodput, were all calls like those that were admitted
}

// drawn is how much of what was possible with the calls it got a limiter made of
// a phase: chance may give it dearer ones than were offered on average, which it
// cannot know. What it inherits, and learns late, is not taken out.
func drawn(c cell, p concurrencytest.Phase, r concurrencytest.Report) float64 {
	var work time.Duration
	admitted, fit := 0, 0
	for _, call := range r.Calls {
		if call.Outcome == concurrencytest.Rejected {
			continue
		}
		work += call.Service
		admitted++
		if call.Deadline == 0 || call.Service <= call.Deadline {
			fit++
		}
	}
	if fit == 0 {
		return 0
	}
	room := float64(c.workers) * float64(p.For) * float64(admitted) / float64(work)
	return float64(r.InTime) / (min(float64(r.Offered), room) * float64(fit) / float64(admitted))
}

// table writes goodput in percent, min / median over the cells and seeds.
func table(w io.Writer, chosen []contender, results []result, all bool) error {
	fmt.Fprintln(w, "Goodput in % of what is achievable without telling calls apart: worst / median over cells and seeds.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, p := range phases {
		fmt.Fprintf(t, "%s\t", p)
	}
	fmt.Fprintln(t, "worst of all\t")
	for _, c := range chosen {
		fmt.Fprintf(t, "%s\t", c.name)
		for _, p := range phases {
			fmt.Fprintf(t, "%s\t", summary(results, func(r result) bool { return r.limiter == c.name && r.phase == p }))
		}
		fmt.Fprintf(t, "%s\t\n", summary(results, func(r result) bool { return r.limiter == c.name }))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range chosen {
		var own []result
		for _, r := range results {
			if r.limiter == c.name {
				own = append(own, r)
			}
		}
		slices.SortFunc(own, func(a, b result) int { return int(1e6 * (a.report.Goodput - b.report.Goodput)) })
		if !all {
			own = own[:min(3, len(own))]
		}
		fmt.Fprintf(w, "\n%s, worst first\n", c.name)
		for _, r := range own {
			fmt.Fprintf(w, "  %v, seed %d: %v; %.0f %% of what the calls it admitted left room for\n", r.cell, r.seed, r.report, 100*r.drawn)
		}
	}
	return nil
}

func summary(results []result, which func(result) bool) string {
	var g []float64
	for _, r := range results {
		if which(r) {
			g = append(g, 100*r.report.Goodput)
		}
	}
	if len(g) == 0 {
		return "-"
	}
	slices.Sort(g)
	return fmt.Sprintf("%.0f / %.0f", g[0], g[len(g)/2])
}
