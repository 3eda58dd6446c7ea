// Package measure times contenders beside each other on a machine that others
// use as well.
//
// What disturbs a machine lasts for longer than a measurement, so contenders
// that are measured one after another are not comparable. Here a round measures
// each contender of a group once, for some milliseconds, and there are many
// rounds. The cost of a contender is its fastest round, which is what it costs
// when it is left alone; a ratio is that of two such costs. Beside it stands the
// median of the ratios within the rounds, which must tell the same story.
package measure

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Group is contenders that do the same work.
type Group struct {
	// Name says what the work is.
	Name string
	// Units is how many units one operation has: times and allocations are per
	// unit. 0 means 1.
	Units int
	// Each is the least that one measurement takes, where [Options] says less:
	// through a server, 20 ms say nothing.
	Each time.Duration
	// Open makes what the cases need, before the first is run; the function it
	// returns ends it after the last. Nil: nothing is needed.
	Open func() (end func(), err error)
	// Base names the case that the ratios refer to; empty: the first.
	Base string
	// Cases are the contenders, Mainstay's and others.
	Cases []Case
	// Goals are what was promised.
	Goals []Goal
}

// Case is one contender.
type Case struct {
	// Name is unique in its group.
	Name string
	// Run performs n operations.
	Run func(n int)
	// Prepare is called before Run with the same n, outside of the time that is
	// measured; nil: nothing is to be prepared.
	Prepare func(n int)
	// Parallel calls Run on GOMAXPROCS goroutines, with n shared among them.
	Parallel bool
}

// Goal is a promise about a case.
type Goal struct {
	// Case and Against name two cases of the group. Against is empty where
	// nothing but AtMostNs is promised.
	Case, Against string
	// AtMost is the largest ratio of their times that keeps the promise.
	AtMost float64
	// AtMostNs is the longest time per unit that keeps the promise, 0 if none
	// does. With Against as well, one of the two is enough.
	AtMostNs float64
	// NoAllocs demands that Case allocates nothing.
	NoAllocs bool
	// BeyondNs and BeyondAllocs are the most that Case may take and allocate per
	// unit beyond what Against does; AtMost and AtMostNs do not count then.
	BeyondNs, BeyondAllocs float64
}

// Result is what was measured of one case.
type Result struct {
	Case string
	// Ns, Allocs and Bytes are those of the fastest round, per unit.
	Ns, Allocs, Bytes float64
	// Ratio is Ns to that of the base; Median is the median of the ratios of
	// the rounds.
	Ratio, Median float64
}

// Verdict is what became of a goal.
type Verdict struct {
	Goal Goal
	// Ratio and Median are as in [Result], against Goal.Against; 0 without.
	Ratio, Median float64
	// Ns of the case, per unit.
	Ns float64
	// Allocs of the case, per unit.
	Allocs float64
	// MoreNs and MoreAllocs are what the case costs beyond Goal.Against.
	MoreNs, MoreAllocs float64
	Met                bool
}

// Options say how long to measure.
type Options struct {
	// Rounds is how often each case is measured. 0 or less means 15.
	Rounds int
	// Each is how long one measurement should take. 0 or less means 20 ms. An
	// operation that takes longer is run once.
	Each time.Duration
}

type sample struct{ ns, allocs, bytes float64 }

// Run measures the group. Cases run in order, round after round.
func Run(g Group, o Options) ([]Result, []Verdict, error) {
	if o.Rounds <= 0 {
		o.Rounds = 15
	}
	if o.Each <= 0 {
		o.Each = 20 * time.Millisecond
	}
	if err := check(g); err != nil {
		return nil, nil, err
	}
	o.Each = max(o.Each, g.Each)
	if g.Open != nil {
		end, err := g.Open()
		if err != nil {
			return nil, nil, fmt.Errorf("measure: %s: %w", g.Name, err)
		}
		defer end()
	}
	counts := make([]int, len(g.Cases))
	for i, c := range g.Cases {
		counts[i] = calibrate(c, o.Each)
	}
	samples := make([][]sample, len(g.Cases))
	for range o.Rounds {
		for i, c := range g.Cases {
			samples[i] = append(samples[i], once(c, counts[i], max(g.Units, 1)))
		}
	}
	base := index(g, g.Base)
	results := make([]Result, len(g.Cases))
	for i, c := range g.Cases {
		best := fastest(samples[i])
		results[i] = Result{Case: c.Name, Ns: best.ns, Allocs: best.allocs, Bytes: best.bytes}
		results[i].Ratio, results[i].Median = compare(samples[i], samples[base])
	}
	verdicts := make([]Verdict, len(g.Goals))
	for i, goal := range g.Goals {
		c := index(g, goal.Case)
		v := Verdict{Goal: goal, Ns: results[c].Ns, Allocs: results[c].Allocs}
		if goal.Against != "" {
			against := index(g, goal.Against)
			v.Ratio, v.Median = compare(samples[c], samples[against])
			v.Met = v.Ratio <= goal.AtMost
			v.MoreNs, v.MoreAllocs = v.Ns-results[against].Ns, v.Allocs-results[against].Allocs
		}
		if goal.BeyondNs > 0 {
			v.Met = v.MoreNs <= goal.BeyondNs && v.MoreAllocs <= goal.BeyondAllocs
			verdicts[i] = v
			continue
		}
		v.Met = (v.Met || v.Ns <= goal.AtMostNs) && (!goal.NoAllocs || v.Allocs < 0.01)
		verdicts[i] = v
	}
	return results, verdicts, nil
}

func check(g Group) error {
	seen := make(map[string]bool)
	for _, c := range g.Cases {
		if c.Run == nil || seen[c.Name] {
			return fmt.Errorf("measure: %s: case %q has nothing to run or is not the only one of its name", g.Name, c.Name)
		}
		seen[c.Name] = true
	}
	if len(g.Cases) == 0 {
		return errors.New("measure: " + g.Name + ": no cases")
	}
	names := []string{g.Base}
	for _, goal := range g.Goals {
		if goal.Case == "" || goal.Against == "" && !(goal.AtMostNs > 0) {
			return fmt.Errorf("measure: %s: a goal promises nothing: %+v", g.Name, goal)
		}
		names = append(names, goal.Case, goal.Against)
	}
	for _, name := range names {
		if name != "" && !seen[name] {
			return fmt.Errorf("measure: %s: there is no case %q", g.Name, name)
		}
	}
	return nil
}

func index(g Group, name string) int {
	return max(0, slices.IndexFunc(g.Cases, func(c Case) bool { return c.Name == name }))
}

// calibrate finds how many operations take about as long as wanted. It is the
// warm-up, too.
func calibrate(c Case, wanted time.Duration) int {
	c.prepare(1)
	c.run(1) // first calls pay for what later ones find made
	for n := 1; ; n *= 2 {
		c.prepare(n)
		start := time.Now()
		c.run(n)
		if took := time.Since(start); took >= wanted/4 || n >= 1<<30 {
			return max(1, int(float64(n)*float64(wanted)/float64(max(took, 1))))
		}
	}
}

func once(c Case, n, units int) sample {
	c.prepare(n)
	runtime.GC() // what others left behind is not this one's cost
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	c.run(n)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	per := 1 / float64(n) / float64(units)
	return sample{
		ns:     float64(took.Nanoseconds()) * per,
		allocs: float64(after.Mallocs-before.Mallocs) * per,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) * per,
	}
}

func (c Case) prepare(n int) {
	if c.Prepare != nil {
		c.Prepare(n)
	}
}

func (c Case) run(n int) {
	if !c.Parallel {
		c.Run(n)
		return
	}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		share := n / workers
		if w < n%workers {
			share++
		}
		wg.Go(func() { c.Run(share) })
	}
	wg.Wait()
}

func fastest(s []sample) sample {
	return slices.MinFunc(s, func(a, b sample) int {
		if a.ns < b.ns {
			return -1
		}
		return 1
	})
}

// compare gives the ratio of the fastest rounds and the median of the ratios.
func compare(a, b []sample) (ratio, median float64) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].ns / b[i].ns
	}
	slices.Sort(ratios)
	n := len(ratios)
	return fastest(a).ns / fastest(b).ns, (ratios[(n-1)/2] + ratios[n/2]) / 2
}
