package concurrencytest

import (
	"context"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// all admits everything.
type all struct{}

func (all) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	return concurrency.Permit{}, ctx.Err()
}

func admitAll() concurrency.Limiter { return all{} }

const ms = time.Millisecond

func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*want) {
		t.Errorf("%s is %.4g, want %.4g ± %.0f %%", what, got, want, 100*tolerance)
	}
}

// The sojourn time in M/M/1 is exponential with mean S/(1-ρ).
func TestSimulateIsAQueueOfOneWorker(t *testing.T) {
	const load = 0.7
	r := Simulate(t, Scenario{Seed: 1, Workers: 1, Phases: []Phase{
		{For: 4000 * time.Second, Rate: load * 50, Service: Exponential(0, 20*ms)},
	}}, admitAll)[0]
	mean := float64(20*ms) / (1 - load)
	within(t, "p50", float64(r.P50), mean*math.Log(2), 0.05)
	within(t, "p99", float64(r.P99), mean*math.Log(100), 0.05)
	within(t, "calls", float64(r.Offered), 4000*load*50, 0.01)
	if r.Goodput != 1 || r.InTime != r.Offered || r.Achievable != float64(r.Offered) {
		t.Errorf("without deadlines all are in time: %v, achievable %v", r, r.Achievable)
	}
}

// In M/M/k a call waits with the probability of Erlang's C formula, and those
// that do wait S/(k-a) on average.
func TestSimulateIsAQueueOfSeveralWorkers(t *testing.T) {
	const workers, offered = 10, 8.0 // Erlang
	r := Simulate(t, Scenario{Seed: 2, Workers: workers, Phases: []Phase{
		{For: 400 * time.Second, Rate: offered * 50, Service: Exponential(0, 20*ms)},
	}}, admitAll)[0]
	term, sum := 1.0, 1.0
	for i := 1; i < workers; i++ {
		term *= offered / float64(i)
		sum += term
	}
	term *= offered / workers / (1 - offered/workers)
	var waited, total float64
	for _, c := range r.Calls {
		if w := c.Latency - c.Service; w > 0 {
			waited++
			total += float64(w)
		}
	}
	within(t, "the share that waits", waited/float64(r.Offered), term/(sum+term), 0.05)
	within(t, "the mean wait", total/waited, float64(20*ms)/(workers-offered), 0.06)
}

// steady is half a minute of one load.
func steady(seed uint64, load float64, deadline time.Duration) Scenario {
	return Scenario{Seed: seed, Workers: 4, Phases: []Phase{
		{Name: "steady", For: 30 * time.Second, Rate: load * 200, Service: Exponential(15*ms, 5*ms), Deadline: Exponential(deadline, 0)},
	}}
}

func TestSimulateGoodput(t *testing.T) {
	if r := Simulate(t, steady(1, 0.7, 200*ms), admitAll)[0]; r.Goodput < 0.999 || r.Rejected != 0 {
		t.Errorf("below the capacity: %v", r)
	}
	r := Simulate(t, steady(1, 2, 200*ms), admitAll)[0]
	if r.Goodput > 0.05 || r.P50 < 5*time.Second {
		t.Errorf("a queue that grows for 30 s serves nobody in time: %v", r)
	}
	within(t, "what is achievable at twice the capacity", r.Achievable, 30*200, 0.02)
	r = Simulate(t, steady(1, 2, 200*ms), func() concurrency.Limiter { return concurrency.NewSemaphore(8, concurrency.NoWait) })[0]
	if r.Goodput < 0.97 || r.Late != 0 || r.P99 > 100*ms {
		t.Errorf("two calls for each worker: %v", r)
	}
	if r.InTime+r.Late+r.Rejected != r.Offered || len(r.Calls) != r.Offered {
		t.Errorf("calls are missing: %v", r)
	}
	within(t, "goodput", r.Goodput, float64(r.InTime)/r.Achievable, 1e-9)
}

// A fifth of the calls can never be in time. Who cannot tell which serves them, too.
func TestSimulateAchievableKnowsHopelessCalls(t *testing.T) {
	s := steady(3, 2, 200*ms)
	s.Phases[0].Service = func(u float64) time.Duration {
		if u < 0.2 {
			return 210 * ms
		}
		return 10 * ms
	}
	r := Simulate(t, s, func() concurrency.Limiter { return concurrency.NewSemaphore(4, concurrency.NoWait) })[0]
	within(t, "achievable", r.Achievable, 4*30/0.050*0.8, 0.05)
	if r.Late == 0 || r.Goodput < 0.8 {
		t.Errorf("%v", r)
	}
}

func TestSimulateLeave(t *testing.T) {
	s := steady(1, 2, 200*ms)
	s.Leave = true
	var late int
	var failed atomic.Int64
	count := func() concurrency.Limiter { return counter{&failed} }
	r := Simulate(t, s, count)[0]
	for _, c := range r.Calls {
		if c.Latency > c.Deadline {
			t.Fatalf("a caller has left %v after its deadline: %+v", c.Latency-c.Deadline, c)
		}
		if c.Outcome == Late {
			late++
		}
	}
	if late != r.Late || int(failed.Load()) != late || r.Goodput > 0.05 {
		t.Errorf("%d late calls, %d results were failures; what was left is served still: %v", late, failed.Load(), r)
	}
	s.Leave = false
	failed.Store(0)
	if Simulate(t, s, count); failed.Load() != 0 {
		t.Errorf("%d results of callers that stayed were failures", failed.Load())
	}
}

// counter counts failures.
type counter struct{ failed *atomic.Int64 }

func (c counter) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	return concurrency.NewPermit(ctx, func(known bool, err error) {
		if known && err != nil {
			c.failed.Add(1)
		}
	}), nil
}

func TestSimulateIsDeterministic(t *testing.T) {
	s := steady(7, 2, 200*ms)
	s.Phases = append(s.Phases, s.Phases[0])
	s.Phases[0].Priority = func(u float64) int { return int(3 * u) }
	lifo := func() concurrency.Limiter { return concurrency.NewSemaphore(4, concurrency.NoWait) }
	a, b := Simulate(t, s, lifo), Simulate(t, s, lifo)
	for i := range a {
		if !slices.Equal(a[i].Calls, b[i].Calls) {
			t.Errorf("phase %d: two runs with one seed differ: %v, %v", i, a[i], b[i])
		}
	}
	if slices.Equal(a[0].Calls, a[1].Calls) {
		t.Error("two phases have the same calls")
	}
	trace := func(r Report) (all []Call) {
		for _, c := range r.Calls {
			all = append(all, Call{At: c.At, Service: c.Service, Deadline: c.Deadline, Priority: c.Priority})
		}
		return all
	}
	if !slices.Equal(trace(Simulate(t, s, admitAll)[1]), trace(a[1])) {
		t.Error("the calls depend on the limiter")
	}
	s.Phases[1].Deadline = nil
	without := Simulate(t, s, admitAll)[1]
	for i, c := range without.Calls {
		if c.At != a[1].Calls[i].At || c.Service != a[1].Calls[i].Service || c.Deadline != 0 {
			t.Fatalf("call %d: a change to the deadlines has changed the rest: %+v, %+v", i, c, a[1].Calls[i])
		}
	}
	s.Seed++
	if slices.Equal(trace(Simulate(t, s, admitAll)[0]), trace(a[0])) {
		t.Error("two seeds have the same calls")
	}
}

func TestSimulateCallee(t *testing.T) {
	c := callee{free: make([]time.Duration, 3)}
	var got []time.Duration
	for _, call := range []struct{ now, service time.Duration }{{0, 30}, {0, 10}, {0, 20}, {5, 5}, {6, 1}, {16, 1}, {50, 3}} {
		got = append(got, c.serve(call.now, call.service))
	}
	if want := []time.Duration{30, 10, 20, 15, 16, 17, 53}; !slices.Equal(got, want) {
		t.Errorf("calls end at %d, want %d", got, want)
	}
}

// TestBrokenScenario fails by design; it runs only below TestSimulateRefuses.
func TestBrokenScenario(t *testing.T) {
	s := steady(1, 1, 200*ms)
	l := admitAll
	switch os.Getenv(brokenRule) {
	case "":
		t.Skip("run by TestSimulateRefuses")
	case "0 workers":
		s.Workers = 0
	case "0 phases":
		s.Phases = nil
	case "For is 0s":
		s.Phases[0].For = 0
	case "Rate is NaN":
		s.Phases[0].Rate = math.NaN()
	case "Service must not be nil":
		s.Phases[0].Service = nil
	case "the error of Acquire":
		l = func() concurrency.Limiter { return &broken{rule: "CancelEndsWaiting", own: own{size: 1}} }
	}
	Simulate(t, s, l)
}

func TestSimulateRefuses(t *testing.T) {
	for _, rule := range []string{"0 workers", "0 phases", "For is 0s", "Rate is NaN", "Service must not be nil", "the error of Acquire"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenScenario$")
		cmd.Env = append(os.Environ(), brokenRule+"="+rule)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), rule) || !strings.Contains(string(out), "--- FAIL: TestBrokenScenario") {
			t.Errorf("%s: %v:\n%s", rule, err, out)
		}
	}
}
