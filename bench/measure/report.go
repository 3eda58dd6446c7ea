package measure

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report runs the groups, prints a table of each as soon as it is measured and
// the goals at the end, and returns how many goals were not met.
func Report(w io.Writer, groups []Group, o Options) (unmet int, err error) {
	type judged struct {
		group string
		v     Verdict
	}
	var all []judged
	for _, g := range groups {
		results, verdicts, err := Run(g, o)
		if err != nil {
			return unmet, err
		}
		base := g.Base
		if base == "" {
			base = g.Cases[0].Name
		}
		fmt.Fprintf(w, "\n%s\n", g.Name)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(t, "\tns\tallocs\tbytes\t× %s\tmedian\t\n", base)
		for _, r := range results {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f\t%.2f\t\n", r.Case, short(r.Ns), short(r.Allocs), short(r.Bytes), r.Ratio, r.Median)
		}
		if err := t.Flush(); err != nil {
			return unmet, err
		}
		for _, v := range verdicts {
			all = append(all, judged{g.Name, v})
		}
	}
	if len(all) == 0 {
		return 0, nil
	}
	fmt.Fprintf(w, "\nGoals\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tis\tmay be\tmedian\tallocs\twhat\tagainst\twhere")
	for _, j := range all {
		word := "met"
		if !j.v.Met {
			word = "NOT MET"
			unmet++
		}
		allocs := short(j.v.Allocs)
		if j.v.Goal.NoAllocs {
			allocs += ", may be 0"
		}
		is, mayBe, median, against := short(j.v.Ns)+" ns", short(j.v.Goal.AtMostNs)+" ns", "-", "-"
		if j.v.Goal.Against != "" {
			ratio, most := fmt.Sprintf("%.2f", j.v.Ratio), fmt.Sprintf("%.2f", j.v.Goal.AtMost)
			if j.v.Goal.AtMostNs > 0 {
				ratio, most = ratio+" or "+is, most+" or "+mayBe
			}
			is, mayBe, median, against = ratio, most, fmt.Sprintf("%.2f", j.v.Median), j.v.Goal.Against
		}
		if j.v.Goal.BeyondNs > 0 {
			is, mayBe, median = "+"+short(j.v.MoreNs)+" ns", "+"+short(j.v.Goal.BeyondNs)+" ns", "-"
			allocs = fmt.Sprintf("+%s, may be +%s", short(j.v.MoreAllocs), short(j.v.Goal.BeyondAllocs))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			word, is, mayBe, median, allocs, j.v.Goal.Case, against, j.group)
	}
	return unmet, t.Flush()
}

// short writes three digits that matter.
func short(v float64) string {
	switch {
	case v < 0.005:
		return "0"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
