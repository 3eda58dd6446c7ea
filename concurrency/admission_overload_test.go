package concurrency_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// What the whole of the rule is worth. The larger grid, beside other limiters,
// is bench/overload.

// weather is a phase of a callee of 10 workers that take 20 ms each, in calm.
func weather(name string, d time.Duration, load, slower float64, uneven bool, deadline time.Duration) concurrencytest.Phase {
	p := concurrencytest.Phase{
		Name: name, For: d, Rate: load * 500,
		Deadline: func(float64) time.Duration { return deadline },
	}
	even := concurrencytest.Exponential(15*ms, 5*ms)
	p.Service = func(u float64) time.Duration {
		s := even(u)
		if uneven { // a tenth costs ten times as much
			switch v := 10 * u; {
			case v < 1:
				s = 10 * even(v) * 10 / 19
			default:
				s = even((v-1)/9) * 10 / 19
			}
		}
		return time.Duration(slower * float64(s))
	}
	return p
}

func admission() concurrency.Limiter { return &concurrency.Admission{} }

func TestAdmissionUnderOverload(t *testing.T) {
	for _, leave := range []bool{false, true} {
		for _, uneven := range []bool{false, true} {
			for _, deadline := range []time.Duration{200 * ms, time.Second} {
				t.Run(fmt.Sprintf("leave %v, uneven %v, %v", leave, uneven, deadline), func(t *testing.T) {
					t.Parallel()
					for _, r := range concurrencytest.Simulate(t, concurrencytest.Scenario{Seed: 5, Workers: 10, Leave: leave, Phases: []concurrencytest.Phase{
						weather("calm", 5*time.Second, 0.7, 1, uneven, deadline),
						weather("twice the load", 10*time.Second, 2, 1, uneven, deadline),
						weather("after it", 5*time.Second, 0.7, 1, uneven, deadline),
						weather("slow callee", 20*time.Second, 0.7, 5, uneven, deadline),
						weather("recovery", 5*time.Second, 0.7, 1, uneven, deadline),
						weather("burst", time.Second, 5, 1, uneven, deadline),
						weather("after the burst", 5*time.Second, 0.7, 1, uneven, deadline),
					}}, admission) {
						if r.Goodput < 0.75 {
							t.Error(r)
						}
					}
				})
			}
		}
	}
}

// Without a limit the queue of an overload is there long after it: every call is
// served, and too late.
func TestAdmissionAfterOverload(t *testing.T) {
	s := concurrencytest.Scenario{Seed: 6, Workers: 10, Phases: []concurrencytest.Phase{
		weather("overload", 20*time.Second, 2, 1, false, 200*ms),
		weather("after it", 20*time.Second, 0.7, 1, false, 200*ms),
	}}
	without := concurrencytest.Simulate(t, s, func() concurrency.Limiter { return everybody{} })[1]
	with := concurrencytest.Simulate(t, s, admission)[1]
	if without.Goodput > 0.01 || with.Goodput < 0.95 {
		t.Errorf("without a limit: %v\nwith Admission: %v", without, with)
	}
}

type everybody struct{}

func (everybody) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	return concurrency.Permit{}, ctx.Err()
}

// A limiter that compares with the usual latency gets used to a long incident, and
// takes the queue for normal.
func TestAdmissionDoesNotGetUsedToAnIncident(t *testing.T) {
	for _, r := range concurrencytest.Simulate(t, concurrencytest.Scenario{Seed: 7, Workers: 10, Phases: []concurrencytest.Phase{
		weather("calm", 10*time.Second, 0.7, 1, false, 400*ms),
		weather("slow", time.Minute, 0.7, 5, false, 400*ms),
		weather("still slow", time.Minute, 0.7, 5, false, 400*ms),
		weather("slow as ever", 3*time.Minute, 0.7, 5, false, 400*ms),
	}}, admission) {
		if r.Goodput < 0.85 {
			t.Error(r)
		}
	}
}

// Nor must it be blind to constant timeouts: callers that time out leave one after the other, so that little
// is in flight, all of it hopeless.
func TestAdmissionSeesConstantTimeouts(t *testing.T) {
	s := concurrencytest.Scenario{Seed: 8, Workers: 4, Leave: true, Phases: []concurrencytest.Phase{
		weather("calm", 10*time.Second, 0.3, 1, false, 200*ms),
		weather("slow", time.Minute, 0.3, 5, false, 200*ms),
		weather("recovery", 10*time.Second, 0.3, 1, false, 200*ms),
	}}
	for _, r := range concurrencytest.Simulate(t, s, admission) {
		if r.Goodput < 0.8 {
			t.Error(r)
		}
	}
}

func TestAdmissionServesTheImportantFirst(t *testing.T) {
	over := weather("twice the load", time.Minute, 2, 1, false, 400*ms)
	over.Priority = func(u float64) int {
		if u < 0.4 { // 0.8 of what the workers can do
			return 1
		}
		return 0
	}
	r := concurrencytest.Simulate(t, concurrencytest.Scenario{Seed: 9, Workers: 10, Phases: []concurrencytest.Phase{over}}, admission)[0]
	var offered, inTime [2]float64
	for _, c := range r.Calls {
		offered[c.Priority]++
		if c.Outcome == concurrencytest.InTime {
			inTime[c.Priority]++
		}
	}
	if high := inTime[1] / offered[1]; high < 0.97 {
		t.Errorf("%.1f %% of the important calls are in time: %v", 100*high, r)
	}
	if low := inTime[0] / offered[0]; low > 0.25 || low < 0.1 {
		t.Errorf("%.1f %% of the others are in time, there is room for a sixth: %v", 100*low, r)
	}
	if r.Goodput < 0.95 {
		t.Error(r)
	}
}

// A program of several deadlines does not lose the short ones altogether while
// nothing is overloaded.
func TestAdmissionIsNotInTheWayBelowCapacity(t *testing.T) {
	for seed := range uint64(3) {
		p := weather("calm", 30*time.Second, 0.8, 1, false, 0)
		p.Deadline = func(u float64) time.Duration { return []time.Duration{150 * ms, 400 * ms, 0}[int(3*u)] }
		if r := concurrencytest.Simulate(t, concurrencytest.Scenario{Seed: seed, Workers: 10, Phases: []concurrencytest.Phase{p}}, admission)[0]; r.Goodput < 0.98 {
			t.Error(r)
		}
	}
}
