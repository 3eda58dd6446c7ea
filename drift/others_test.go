package drift

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// What other libraries do by default, written down again from their documentation, on the same
// windows as a monitor: the two tables of docs/drift.md, printed with -v. It is
// asserted that the monitor keeps its budget and finds what is large, and that the rules do
// fire as often without drift as the page says.

// rule says of a window whether it has drifted.
type rule struct {
	name string
	says func(ref, cur []float64) bool // ref is ascending
}

var numberRules = []rule{
	{"evidently: Wasserstein / sd >= 0.1", func(ref, cur []float64) bool {
		mean, squares := 0.0, 0.0
		for _, x := range ref {
			mean += x / float64(len(ref))
		}
		for _, x := range ref {
			squares += (x - mean) * (x - mean) / float64(len(ref))
		}
		return earthMoved(ref, cur)/max(math.Sqrt(squares), 0.001) >= 0.1
	}},
	{"evidently, alibi-detect: KS p < 0.05", func(ref, cur []float64) bool { return KS(ref, cur).P < 0.05 }},
	{"rule of thumb: PSI > 0.1, 10 bins", func(ref, cur []float64) bool { return tenBins(ref, cur) > 0.1 }},
	{"rule of thumb: PSI > 0.2, 10 bins", func(ref, cur []float64) bool { return tenBins(ref, cur) > 0.2 }},
}

var categoryRules = []rule{
	{"evidently: Jensen-Shannon >= 0.1", func(ref, cur []float64) bool {
		p, q := shares(ref), shares(cur)
		sum := 0.0
		for k := range p {
			mid := (p[k] + q[k]) / 2
			for _, x := range []float64{p[k], q[k]} {
				if x > 0 {
					sum += x * math.Log(x/mid) / 2
				}
			}
		}
		return math.Sqrt(sum) >= 0.1
	}},
	{"evidently: chi-square to the reference, p < 0.05", func(ref, cur []float64) bool {
		p, q := shares(ref), shares(cur)
		stat, cells := 0.0, 0
		for k := range p {
			if p[k] > 0 {
				stat += float64(len(cur)) * (q[k] - p[k]) * (q[k] - p[k]) / p[k]
				cells++
			}
		}
		return chiSquareTail(stat, float64(cells-1)) < 0.05
	}},
}

// earthMoved is the area between the two distribution functions.
func earthMoved(ref, cur []float64) float64 {
	cur = slices.Sorted(slices.Values(cur))
	area, i, j := 0.0, 0, 0
	last := min(ref[0], cur[0])
	for i < len(ref) || j < len(cur) {
		x := math.Inf(1)
		if i < len(ref) {
			x = ref[i]
		}
		if j < len(cur) {
			x = min(x, cur[j])
		}
		area += (x - last) * math.Abs(float64(i)/float64(len(ref))-float64(j)/float64(len(cur)))
		last = x
		for i < len(ref) && ref[i] == x {
			i++
		}
		for j < len(cur) && cur[j] == x {
			j++
		}
	}
	return area
}

// tenBins is PSI with an empty bin taken as 1e-4.
func tenBins(ref, cur []float64) float64 {
	psi, n := 0.0, len(ref)
	below := 0.0
	for k := 1; k <= 10; k++ {
		upto := float64(len(cur))
		if k < 10 {
			upto = 0
			for _, x := range cur {
				if x <= ref[k*n/10-1] {
					upto++
				}
			}
		}
		q := max((upto-below)/float64(len(cur)), 1e-4)
		psi += (q - 0.1) * math.Log(q/0.1)
		below = upto
	}
	return psi
}

const categories = 20

func shares(values []float64) []float64 {
	p := make([]float64, categories)
	for _, x := range values {
		p[int(x)] += 1 / float64(len(values))
	}
	return p
}

func TestOtherRules(t *testing.T) {
	reps := 50
	switch {
	case soak:
		reps = 2000
	case brief():
		reps = 5
	}
	t.Logf("share of windows that alarm, %d references of 5,000 rows; Mainstay: two windows in a row, a budget of one false alert in 1,000 windows", reps)
	for _, kind := range []struct {
		name  string
		rules []rule
		draw  func(r *rand.Rand, by float64) float64
		fit   func(ref []float64) Column
	}{
		{"normal values", numberRules, func(r *rand.Rand, by float64) float64 { return r.NormFloat64() + by },
			func(ref []float64) Column { return Numbers("x", ref) }},
		{"20 categories", categoryRules, func(r *rand.Rand, by float64) float64 {
			if r.Float64() < by/2 {
				return 0 // one of them grows
			}
			return float64(r.IntN(categories))
		}, func(ref []float64) Column { return Categories("x", texts(ref)) }},
	} {
		for _, rows := range []int{100, 200, 500, 1000} {
			for _, by := range []float64{0, 0.3, 0.6} {
				fired := make(map[string]int)
				r := rand.New(rand.NewPCG(uint64(rows), 8))
				for range reps {
					draws := func(n int, by float64) []float64 {
						v := make([]float64, n)
						for i := range v {
							v[i] = kind.draw(r, by)
						}
						return v
					}
					ref := draws(5000, 0)
					slices.Sort(ref)
					first, second := draws(rows, by), draws(rows, by)
					for _, rule := range kind.rules {
						if rule.says(ref, first) {
							fired[rule.name]++
						}
					}
					if alerts(t, kind.fit(ref), first, second) {
						fired["Mainstay"]++
					}
				}
				line := fmt.Sprintf("%s, windows of %d, drift %.1f:", kind.name, rows, by)
				for _, name := range slices.Sorted(maps.Keys(fired)) {
					line += fmt.Sprintf("  %s %.1f%%", name, 100*float64(fired[name])/float64(reps))
				}
				t.Log(line)
				check(t, kind.name, rows, by, reps, fired)
			}
		}
	}
}

func check(t *testing.T, kind string, rows int, by float64, reps int, fired map[string]int) {
	t.Helper()
	share := func(rule string) float64 { return float64(fired[rule]) / float64(reps) }
	if by == 0 {
		if most := atMost(2 * float64(reps) / 1000); fired["Mainstay"] > most {
			t.Errorf("%s, %d rows: %d false alerts of %d, at most %d by the budget", kind, rows, fired["Mainstay"], reps, most)
		}
		if !brief() && rows == 100 && (kind == "normal values" && share("evidently: Wasserstein / sd >= 0.1") < 0.5 ||
			kind == "20 categories" && share("evidently: Jensen-Shannon >= 0.1") < 0.9) {
			t.Errorf("%s: the page says that these fire more often than not: %v of %d", kind, fired, reps)
		}
		return
	}
	if !brief() && by == 0.6 && rows >= 200 && share("Mainstay") < 0.95 {
		t.Errorf("%s, %d rows: a large drift is found in %d of %d", kind, rows, fired["Mainstay"], reps)
	}
}

// alerts reports whether a monitor alerts in two windows.
func alerts(t *testing.T, c Column, windows ...[]float64) bool {
	t.Helper()
	ref, err := Fit(c)
	if err != nil {
		t.Fatal(err)
	}
	clk := newClock()
	rows := len(windows[0])
	m := monitor(t, ref, &MonitorOptions{Window: Tumbling(rows), FalseAlarm: time.Duration(1000*rows) * time.Second, Now: clk.Now})
	var observe func(x float64)
	if n, err := m.Numeric("x"); err == nil {
		observe = n.Observe
	} else {
		c, err := m.Categorical("x")
		if err != nil {
			t.Fatal(err)
		}
		observe = func(x float64) { c.Observe(text(x)) }
	}
	for _, w := range windows {
		for _, x := range w {
			clk.now = clk.now.Add(time.Second)
			observe(x)
		}
	}
	return m.Report().Features[0].Alerted
}

func text(x float64) string { return string(rune('a' + int(x))) }

func texts(values []float64) []string {
	out := make([]string, len(values))
	for i, x := range values {
		out[i] = text(x)
	}
	return out
}

// Detectors at river's defaults beside ours: alarms in 10,000 values without drift, and how
// long a shift of one standard deviation takes.
func TestOtherDetectors(t *testing.T) {
	reps := 10
	switch {
	case soak:
		reps = 200
	case brief():
		reps = 1
	}
	for _, c := range []struct {
		name string
		make func(r *rand.Rand, sd float64) Detector
	}{
		{"river PageHinkley", func(*rand.Rand, float64) Detector {
			return &PageHinkley{Raw: true, Delta: 0.005, Lambda: 50, Fade: 0.9999, Min: 30}
		}},
		{"PageHinkley", func(*rand.Rand, float64) Detector { return &PageHinkley{} }},
		{"river KSWIN", func(*rand.Rand, float64) Detector { return &KSWIN{Alpha: 0.005, Window: 100, Recent: 30} }},
		{"KSWIN", func(*rand.Rand, float64) Detector { return &KSWIN{} }},
		{"river ADWIN, and ours", func(*rand.Rand, float64) Detector { return &ADWIN{} }},
		{"EProcess", func(r *rand.Rand, sd float64) Detector {
			ref := draws(r, 10_000)
			for i := range ref {
				ref[i] *= sd
			}
			return &EProcess{Reference: ref}
		}},
	} {
		for _, sd := range []float64{0.1, 1, 10, 100} {
			alarms, found, sum := 0, 0, 0.0
			for rep := range reps {
				r := rand.New(rand.NewPCG(uint64(rep), 21))
				d := c.make(r, sd)
				for range 10_000 {
					if d.Observe(r.NormFloat64()*sd) == Drift {
						alarms++
					}
				}
				if n := firstAlarm(d, 2000, func() float64 { return (r.NormFloat64() + 1) * sd }); n <= 2000 {
					found++
					sum += float64(n)
				}
			}
			per := float64(alarms) / float64(reps)
			t.Logf("%-22s sd %5.1f: %.1f alarms in 10,000 values; a shift of one sd found %d times of %d, after %.0f values", c.name, sd, per, found, reps, sum/float64(max(1, found)))
			switch {
			case brief():
			case c.name == "EProcess" && alarms > atMost(float64(reps)*10_000/100_000):
				t.Errorf("EProcess, sd %v: %d alarms in %d times 10,000 values", sd, alarms, reps)
			case c.name == "PageHinkley" && (per > 1 || found < reps):
				t.Errorf("PageHinkley, sd %v: %v alarms, a shift found %d times of %d", sd, per, found, reps)
			case c.name == "river PageHinkley" && sd == 100 && per < 100:
				t.Errorf("the page says that this one alarms all the time: %v", per)
			}
		}
	}
}
