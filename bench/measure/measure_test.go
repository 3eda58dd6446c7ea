package measure_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/bench/measure"
)

var sink []byte

func group() measure.Group {
	return measure.Group{
		Name: "work",
		Cases: []measure.Case{
			{Name: "short", Run: func(n int) {
				for range n {
					time.Sleep(time.Millisecond)
				}
			}},
			{Name: "long", Run: func(n int) {
				for range n {
					time.Sleep(20 * time.Millisecond)
					for range 10 {
						sink = make([]byte, 1<<10)
					}
				}
			}},
		},
		Goals: []measure.Goal{
			{Case: "short", Against: "long", AtMost: 0.9},
			{Case: "long", Against: "short", AtMost: 1.5},
			{Case: "long", Against: "long", AtMost: 1, NoAllocs: true},
		},
	}
}

func TestRun(t *testing.T) {
	results, verdicts, err := measure.Run(group(), measure.Options{Rounds: 3, Each: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	short, long := results[0], results[1]
	if short.Ns < 1e6 || long.Ns < 20e6 || short.Ratio != 1 || short.Median != 1 || long.Ratio <= 1 || long.Median <= 1 {
		t.Errorf("%+v", results)
	}
	if long.Allocs < 10 || long.Allocs > 100 || long.Bytes < 10<<10 {
		t.Errorf("%+v, want about 10 allocations of 1 KiB", long)
	}
	for i, want := range []bool{true, false, false} {
		if verdicts[i].Met != want {
			t.Errorf("%+v, want met: %v", verdicts[i], want)
		}
	}
}

// What the runtime allocates meanwhile is nothing among many operations.
func TestNoAllocs(t *testing.T) {
	n := 0
	_, verdicts, err := measure.Run(measure.Group{
		Name: "quick", Cases: []measure.Case{{Name: "add", Run: func(times int) {
			for range times {
				n++
			}
		}}},
		Goals: []measure.Goal{{Case: "add", AtMostNs: 1e9, NoAllocs: true}},
	}, measure.Options{Rounds: 3})
	if err != nil || !verdicts[0].Met || n == 0 {
		t.Fatalf("%+v, %v after %d", verdicts, err, n)
	}
}

// A time may be promised, alone or beside a ratio; then one of them is enough.
func TestTimesArePromised(t *testing.T) {
	g := group()
	g.Goals = []measure.Goal{
		{Case: "short", AtMostNs: 10e9},
		{Case: "short", AtMostNs: 1},
		{Case: "long", AtMostNs: 10e9, NoAllocs: true},
		{Case: "long", Against: "short", AtMost: 1.5, AtMostNs: 10e9},
		{Case: "short", Against: "long", AtMost: 0.9, AtMostNs: 1},
		{Case: "long", Against: "short", AtMost: 1.5, AtMostNs: 1},
	}
	_, verdicts, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true, true, false} {
		if verdicts[i].Met != want || verdicts[i].Ns < 1e6 {
			t.Errorf("%+v, want met: %v", verdicts[i], want)
		}
	}
	var b strings.Builder
	if unmet, err := measure.Report(&b, []measure.Group{g}, measure.Options{Rounds: 1, Each: time.Millisecond}); err != nil || unmet != 3 {
		t.Fatal(unmet, err)
	}
	for _, want := range []string{"10000000000 ns  ", "1.50 or 10000000000 ns", "1.00 ns"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// What a layer adds is a promise of its own.
func TestWhatIsBeyondAnotherIsPromised(t *testing.T) {
	g := group()
	g.Goals = []measure.Goal{
		{Case: "long", Against: "short", BeyondNs: 10e9, BeyondAllocs: 1000},
		{Case: "long", Against: "short", BeyondNs: 10e9, BeyondAllocs: 1},
		{Case: "long", Against: "short", BeyondNs: 1, BeyondAllocs: 1000},
		{Case: "short", Against: "long", BeyondNs: 1},
	}
	_, verdicts, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true} {
		if v := verdicts[i]; v.Met != want || (i < 3) != (v.MoreNs > 10e6) || (i < 3) != (v.MoreAllocs > 0) {
			t.Errorf("%d: %+v", i, v)
		}
	}
	var b strings.Builder
	if unmet, err := measure.Report(&b, []measure.Group{g}, measure.Options{Rounds: 1, Each: time.Millisecond}); err != nil || unmet != 2 {
		t.Fatal(unmet, err)
	}
	for _, want := range []string{"+10000000000 ns", "may be +1000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestUnits(t *testing.T) {
	g := group()
	g.Units = 10
	results, _, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r := results[1]; r.Ns < 2e6 || r.Allocs < 1 || r.Allocs > 10 {
		t.Errorf("%+v", r)
	}
}

func TestParallelSharesTheWork(t *testing.T) {
	var done atomic.Int64
	calls := make(chan int, 1000)
	_, _, err := measure.Run(measure.Group{Name: "p", Cases: []measure.Case{{Name: "c", Parallel: true, Run: func(n int) {
		done.Add(int64(n))
		calls <- n
		time.Sleep(time.Millisecond)
	}}}}, measure.Options{Rounds: 1, Each: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	close(calls)
	sum := 0
	for n := range calls {
		sum += n
	}
	if sum == 0 || int64(sum) != done.Load() {
		t.Errorf("%d of %d", sum, done.Load())
	}
}

func TestMistakesAreRefused(t *testing.T) {
	for name, change := range map[string]func(*measure.Group){
		"no cases":  func(g *measure.Group) { g.Cases, g.Goals = nil, nil },
		"same name": func(g *measure.Group) { g.Cases[1].Name = "short" },
		"nil":       func(g *measure.Group) { g.Cases[0].Run = nil },
		"base":      func(g *measure.Group) { g.Base = "nobody" },
		"no goal":   func(g *measure.Group) { g.Goals[0].Against = "" },
		"goal":      func(g *measure.Group) { g.Goals[0].Against = "nobody" },
	} {
		g := group()
		change(&g)
		if _, _, err := measure.Run(g, measure.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	unmet, err := measure.Report(&b, []measure.Group{group()}, measure.Options{Rounds: 1, Each: time.Millisecond})
	if err != nil || unmet != 2 {
		t.Fatal(unmet, err)
	}
	for _, want := range []string{"\nwork\n", "× short", "long", "NOT MET", "may be 0"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestOpenAndPrepare(t *testing.T) {
	open, prepared, ended := false, 0, 0
	g := measure.Group{
		Name: "opened", Each: 4 * time.Millisecond,
		Open: func() (func(), error) {
			open = true
			return func() { open, ended = false, ended+1 }, nil
		},
		Cases: []measure.Case{{
			Name:    "one",
			Prepare: func(n int) { prepared = n; time.Sleep(20 * time.Millisecond) },
			Run: func(n int) {
				if !open || prepared != n {
					t.Errorf("open is %v and %d are prepared of %d", open, prepared, n)
				}
				time.Sleep(time.Duration(n) * time.Millisecond)
			},
		}},
	}
	_, _, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Microsecond})
	if err != nil || ended != 1 || open {
		t.Fatalf("%v, ended %d times", err, ended)
	}
	g.Open = func() (func(), error) { return nil, errors.New("no server") }
	if _, _, err := measure.Run(g, measure.Options{}); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("%v", err)
	}
}
