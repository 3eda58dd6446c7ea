package drift

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// How often each rule alarms without drift, and how long it takes after one: ours beside the defaults of
// evidently and river, written down again from their documentation. TestDelays prints the tables of docs/drift.md:
// MAINSTAY_SOAK=1 go test ./drift -run TestDelays -v.

// delayRule makes a rule from a fresh reference; what it returns takes one value and reports an alarm.
type delayRule struct {
	name  string
	ours  bool // on a budget of one false alarm in budgetRows
	ref   int
	start func(t *testing.T, ref []float64, r *rand.Rand) func(x float64) bool
}

const budgetRows = 100_000

// inWindows is a rule that looks at so many rows at a time.
func inWindows(rows int, says func(ref, cur []float64) bool) func(*testing.T, []float64, *rand.Rand) func(float64) bool {
	return func(_ *testing.T, ref []float64, _ *rand.Rand) func(float64) bool {
		slices.Sort(ref)
		var cur []float64
		return func(x float64) bool {
			if cur = append(cur, x); len(cur) < rows {
				return false
			}
			yes := says(ref, cur)
			cur = cur[:0]
			return yes
		}
	}
}

func detecting(build func(ref []float64) (Detector, error)) func(*testing.T, []float64, *rand.Rand) func(float64) bool {
	return func(t *testing.T, ref []float64, _ *rand.Rand) func(float64) bool {
		d, err := build(ref)
		if err != nil {
			t.Fatal(err)
		}
		return func(x float64) bool {
			if d.Observe(x) != Drift {
				return false
			}
			if s, ok := d.(*SlidingKS); ok {
				s.Reset() // it would go on to say so
			}
			return true
		}
	}
}

// monitoring is a Monitor as it is, but for the budget.
func monitoring(window Window, fit func([]float64) Column) func(*testing.T, []float64, *rand.Rand) func(float64) bool {
	return func(t *testing.T, ref []float64, _ *rand.Rand) func(float64) bool {
		t.Helper()
		clk := newClock()
		m := monitor(t, fitted(t, fit(ref)), &MonitorOptions{Window: window, FalseAlarm: budgetRows * time.Second, Now: clk.Now})
		var observe func(float64)
		if n, err := m.Numeric("x"); err == nil {
			observe = n.Observe
		} else {
			c, err := m.Categorical("x")
			if err != nil {
				t.Fatal(err)
			}
			observe = func(x float64) { c.Observe(text(x)) }
		}
		return func(x float64) bool {
			clk.now = clk.now.Add(time.Second)
			observe(x)
			return len(taken(m)) > 0
		}
	}
}

// riverKSWIN compares the newest 30 values with 30 drawn from the 70 before them: an alarm if p <= 0.005 and D > 0.1,
// and then it begins anew.
func riverKSWIN(_ *testing.T, _ []float64, r *rand.Rand) func(float64) bool {
	const size, recent, alpha = 100, 30, 0.005
	least := int64(1)
	for ksEqual(recent, least, twoSided) > alpha {
		least++
	}
	var window []float64
	return func(x float64) bool {
		if window = append(window, x); len(window) < size {
			return false
		}
		window = window[len(window)-size:]
		newest, older := slices.Clone(window[size-recent:]), make([]float64, recent)
		for i, k := range r.Perm(size - recent)[:recent] {
			older[i] = window[k]
		}
		slices.Sort(newest)
		slices.Sort(older)
		if above, below, _ := maxGap(older, newest); max(above, below) < least {
			return false
		}
		window = window[:0]
		return true
	}
}

func evidently(name string) func(ref, cur []float64) bool {
	for _, r := range slices.Concat(numberRules, categoryRules) {
		if strings.HasPrefix(r.name, name) {
			return r.says
		}
	}
	return nil
}

func numberColumn(v []float64) Column   { return Numbers("x", v) }
func categoryColumn(v []float64) Column { return Categories("x", texts(v)) }

// change is what happens to the values: a drift of one size.
type change struct {
	name string
	draw func(r *rand.Rand) float64
}

var delayTables = []struct {
	what    string
	none    func(r *rand.Rand) float64
	changes []change
	rules   []delayRule
}{
	{
		"normal values", (*rand.Rand).NormFloat64,
		[]change{
			{"mean + 0.1 sd", func(r *rand.Rand) float64 { return r.NormFloat64() + 0.1 }},
			{"+ 0.25", func(r *rand.Rand) float64 { return r.NormFloat64() + 0.25 }},
			{"+ 0.5", func(r *rand.Rand) float64 { return r.NormFloat64() + 0.5 }},
			{"+ 1", func(r *rand.Rand) float64 { return r.NormFloat64() + 1 }},
			{"spread × 1.5", func(r *rand.Rand) float64 { return r.NormFloat64() * 1.5 }},
		},
		[]delayRule{
			{"evidently, reference of 5,000: Wasserstein ≥ 0.1, windows of 200", false, 5000, inWindows(200, evidently("evidently: Wasserstein"))},
			{"… windows of 1,000", false, 5000, inWindows(1000, evidently("evidently: Wasserstein"))},
			{"evidently, reference of 1,000: KS, p < 0.05, windows of 200", false, 1000, inWindows(200, evidently("evidently, alibi-detect: KS"))},
			{"… windows of 1,000", false, 1000, inWindows(1000, evidently("evidently, alibi-detect: KS"))},
			{"river: ADWIN", false, 1, detecting(func([]float64) (Detector, error) { return &ADWIN{}, nil })},
			{"river: KSWIN", false, 1, riverKSWIN},
			{"river: PageHinkley", false, 1, detecting(func([]float64) (Detector, error) {
				return &PageHinkley{Raw: true, Delta: 0.005, Lambda: 50, Fade: 0.9999, Min: 30}, nil
			})},
			{"`Monitor`, `Tumbling(200)`", true, 5000, monitoring(Tumbling(200), numberColumn)},
			{"`Monitor`, `Tumbling(1000)`", true, 5000, monitoring(Tumbling(1000), numberColumn)},
			{"`Monitor`, `Sliding(1000)`", true, 10_000, monitoring(Sliding(1000), numberColumn)},
			{"`EProcess`", true, 10_000, detecting(func(ref []float64) (Detector, error) { return &EProcess{Reference: ref, RunLength: budgetRows}, nil })},
			{"`SlidingKS`, window of 500, alpha 0.0005", true, 10_000, detecting(func(ref []float64) (Detector, error) { return NewSlidingKS(ref, 500, 0.0005) })},
			{"`PageHinkley`", true, 1, detecting(func([]float64) (Detector, error) { return &PageHinkley{}, nil })},
		},
	},
	{
		"20 even categories, one of which grows", func(r *rand.Rand) float64 { return float64(r.IntN(categories)) },
		[]change{
			{"by 5 % of the rows", grows(0.05)}, {"10 %", grows(0.1)}, {"25 %", grows(0.25)},
		},
		[]delayRule{
			{"evidently, reference of 5,000: Jensen-Shannon ≥ 0.1, windows of 200", false, 5000, inWindows(200, evidently("evidently: Jensen"))},
			{"… windows of 1,000", false, 5000, inWindows(1000, evidently("evidently: Jensen"))},
			{"evidently, reference of 1,000: chi-square of fit, p < 0.05, windows of 200", false, 1000, inWindows(200, evidently("evidently: chi"))},
			{"… windows of 1,000", false, 1000, inWindows(1000, evidently("evidently: chi"))},
			{"`Monitor`, `Tumbling(200)`", true, 5000, monitoring(Tumbling(200), categoryColumn)},
			{"`Monitor`, `Tumbling(1000)`", true, 5000, monitoring(Tumbling(1000), categoryColumn)},
			{"`Monitor`, `Sliding(1000)`", true, 10_000, monitoring(Sliding(1000), categoryColumn)},
		},
	},
}

func grows(by float64) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		if r.Float64() < by {
			return 0
		}
		return float64(r.IntN(categories))
	}
}

// delays are the rows from the change to the alarm of each run that came to one.
type delays struct {
	rows []int
	runs int
}

func (d *delays) String() string {
	if 2*len(d.rows) < d.runs {
		return "–"
	}
	slices.Sort(d.rows)
	s := fmt.Sprintf("%d", d.rows[len(d.rows)/2])
	if len(d.rows) < d.runs {
		s += fmt.Sprintf(" (%.0f %%)", 100*float64(len(d.rows))/float64(d.runs))
	}
	return s
}

func TestDelays(t *testing.T) {
	before, after, reps := 10_000, 20_000, 1
	switch {
	case soak:
		reps = 60
	case brief():
		before, after = 1000, 6000
	}
	for _, table := range delayTables {
		head := fmt.Sprintf("\n| %s: | false alarms in %d rows |", table.what, budgetRows)
		for _, c := range table.changes {
			head += " " + c.name + " |"
		}
		head += "\n|---|---|" + strings.Repeat("---|", len(table.changes))
		for _, rule := range table.rules {
			found := make([]delays, len(table.changes))
			false0, rows := 0, 0
			for k, c := range table.changes {
				for rep := range reps {
					r := rand.New(rand.NewPCG(uint64(rep), uint64(k)))
					ref := make([]float64, rule.ref)
					for i := range ref {
						ref[i] = table.none(r)
					}
					alarm := rule.start(t, ref, r)
					undrifted := before + r.IntN(1000) // the change comes anywhere in a window
					for range undrifted {
						false0 += int(number(alarm(table.none(r))))
					}
					rows += undrifted
					found[k].runs++
					for i := range after {
						if alarm(c.draw(r)) {
							found[k].rows = append(found[k].rows, i+1)
							break
						}
					}
				}
			}
			per := float64(false0) / float64(rows) * budgetRows
			head += fmt.Sprintf("\n| %s | %s |", rule.name, rate(per))
			for k := range found {
				head += fmt.Sprintf(" %s |", &found[k])
			}
			if most := atMost(2 * float64(rows) / budgetRows); rule.ours && false0 > most {
				t.Errorf("%s, %s: %d false alarms in %d rows, on a budget of one in %d", table.what, rule.name, false0, rows, budgetRows)
			}
			// Whatever the reference, what is large is found.
			if big := found[min(len(found)-1, 3)]; rule.ours && len(big.rows) < big.runs {
				t.Errorf("%s, %s: a large change was found in %d runs of %d", table.what, rule.name, len(big.rows), big.runs)
			}
			if soak && rule.ours && per > 1.5 {
				t.Errorf("%s, %s: %.2f false alarms in %d rows", table.what, rule.name, per, budgetRows)
			}
		}
		t.Log(head)
	}
}

func rate(per float64) string {
	if per >= 10 {
		return fmt.Sprintf("%.0f", per)
	}
	return fmt.Sprintf("%.1f", per)
}
