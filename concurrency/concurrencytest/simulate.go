package concurrencytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Scenario is calls that arrive over time, and the callee they are for: some
// workers behind a first-in, first-out queue without bounds. It is a value that
// [Simulate] only reads.
type Scenario struct {
	// Seed decides every arrival, service time, deadline and priority.
	Seed uint64
	// Workers is how many calls the callee serves at a time. It must be
	// positive.
	Workers int
	// Leave has callers give up at their deadline, with
	// [context.DeadlineExceeded] as the result. The callee does not learn of it
	// and still serves them. If false, callers wait for the end and the result
	// is nil, late or not, as it is of a handler that ignores its context.
	Leave bool
	// Phases follow each other. There must be one at least.
	Phases []Phase
}

// Phase is a part of a [Scenario]. Its functions turn a random number, uniform
// in [0, 1), into the value of one call; they must be pure, and for the same
// number give the same value. A call belongs to the phase it arrives in, also
// if it is served later.
type Phase struct {
	// Name is for the reports.
	Name string
	// For is how long the phase lasts. It must be positive.
	For time.Duration
	// Rate is the mean number of calls per second, which arrive independently
	// (Poisson). It must not be negative.
	Rate float64
	// Service is how long a worker takes for a call; see [Exponential]. It must
	// not be nil, nor the result negative.
	Service func(u float64) time.Duration
	// Deadline is how long after its arrival a call is of use to its caller. Nil,
	// or a result that is not positive, means no deadline: such a call is in
	// time whenever it ends.
	Deadline func(u float64) time.Duration
	// Priority is given to [concurrency.WithPriority]. Nil: none is.
	Priority func(u float64) int
}

// Outcome is what became of a [Call].
type Outcome int

const (
	// InTime is a call that ended before its deadline.
	InTime Outcome = iota + 1
	// Late is a call that was admitted and did not.
	Late
	// Rejected is a call that was not admitted, at once or after a wait.
	Rejected
)

// Call is one call of a [Scenario]. At, Service, Deadline and Priority follow
// from the scenario alone and are the same for every limiter.
type Call struct {
	At       time.Duration // arrival, since the beginning of the first phase
	Service  time.Duration
	Deadline time.Duration // since At; 0 is none
	Priority int

	Outcome Outcome
	Waited  time.Duration // in Acquire
	Latency time.Duration // from At to the result or, with Scenario.Leave, the deadline
}

// Simulate puts the limiter that l makes between the calls of s and their
// callee, and returns a report for each phase. The limiter is a real one, asked
// by a goroutine for each call, one unit a time; the time is virtual
// ([testing/synctest]), so that minutes take a second, and whatever the
// limiter starts has to end, or t fails. It also fails if an Acquire fails with
// an error that matches neither [concurrency.ErrRejected] nor the error of its
// context, and at once if s makes no sense. Simulations may run in parallel, in
// parallel tests.
//
// The calls are the same for the same scenario, on every machine, and nothing
// depends on the speed of the machine. What happens at the same nanosecond, such as
// an admission and the wait it ends, happens in an order of the Go scheduler's
// choice. With service times from a continuous distribution that is seldom, and
// then changes the reports in a few calls; do not compare them exactly.
func Simulate(t *testing.T, s Scenario, l func() concurrency.Limiter) []Report {
	t.Helper()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	phases := s.calls()
	synctest.Test(t, func(t *testing.T) {
		sim := simulation{
			t: t, start: time.Now(), limiter: l(), leave: s.Leave,
			callee: callee{free: make([]time.Duration, s.Workers)},
		}
		var running sync.WaitGroup
		for i, calls := range phases {
			prioritized := s.Phases[i].Priority != nil
			for j := range calls {
				c := &calls[j]
				sim.sleepUntil(c.At)
				running.Go(func() { sim.call(c, prioritized) })
			}
		}
		running.Wait()
	})
	reports := make([]Report, len(phases))
	for i, calls := range phases {
		reports[i] = report(s.Phases[i], s.Workers, calls)
	}
	return reports
}

func (s Scenario) check() error {
	if s.Workers <= 0 || len(s.Phases) == 0 {
		return fmt.Errorf("concurrencytest: Simulate: %d workers and %d phases, must be positive", s.Workers, len(s.Phases))
	}
	for i, p := range s.Phases {
		if p.For <= 0 || !(p.Rate >= 0) || p.Service == nil {
			return fmt.Errorf("concurrencytest: Simulate: phase %d, %q: For is %v and must be positive, Rate is %v and must not be negative, Service must not be nil",
				i, p.Name, p.For, p.Rate)
		}
	}
	return nil
}

// calls draws the calls of each phase. Every quantity has a source of its own,
// so that a change to one leaves the others as they are.
func (s Scenario) calls() [][]Call {
	phases := make([][]Call, len(s.Phases))
	var start time.Duration
	for i, p := range s.Phases {
		source := func(quantity uint64) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, uint64(i)<<8|quantity)) }
		arrival, service, deadline, priority := source(0), source(1), source(2), source(3)
		end := start + p.For
		for at := start; p.Rate > 0; {
			at += time.Duration(arrival.ExpFloat64() / p.Rate * float64(time.Second))
			if at >= end {
				break
			}
			c := Call{At: at, Service: p.Service(service.Float64())}
			if p.Deadline != nil {
				c.Deadline = max(p.Deadline(deadline.Float64()), 0)
			}
			if p.Priority != nil {
				c.Priority = p.Priority(priority.Float64())
			}
			phases[i] = append(phases[i], c)
		}
		start = end
	}
	return phases
}

// simulation is a run within a bubble.
type simulation struct {
	t       *testing.T
	start   time.Time
	limiter concurrency.Limiter
	leave   bool
	callee  callee
}

func (s *simulation) sleepUntil(at time.Duration) { time.Sleep(time.Until(s.start.Add(at))) }

// call is what the goroutine of a caller does.
func (s *simulation) call(c *Call, prioritized bool) {
	ctx, cancel := context.Background(), func() {}
	if c.Deadline > 0 {
		ctx, cancel = context.WithDeadline(ctx, s.start.Add(c.At+c.Deadline))
	}
	defer cancel()
	asked := ctx
	if prioritized {
		asked = concurrency.WithPriority(ctx, c.Priority)
	}
	p, err := s.limiter.Acquire(asked, 1)
	admitted := time.Since(s.start)
	c.Waited = admitted - c.At
	if err != nil {
		c.Outcome, c.Latency = Rejected, c.Waited
		if !errors.Is(err, concurrency.ErrRejected) && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
			s.t.Errorf("concurrencytest: Simulate: the error of Acquire must match ErrRejected or ctx.Err(), it is: %v", err)
		}
		return
	}
	end := s.callee.serve(admitted, c.Service)
	c.Outcome = InTime
	if c.Deadline > 0 && end > c.At+c.Deadline {
		c.Outcome = Late
		if s.leave {
			end, err = max(admitted, c.At+c.Deadline), context.DeadlineExceeded
		}
	}
	s.sleepUntil(end)
	c.Latency = end - c.At
	p.Done(&err)
}

// callee is workers that take calls in the order of their arrival. As the
// service times are known, so is the end of a call when it arrives.
type callee struct {
	mu   sync.Mutex
	free []time.Duration // when each worker will be; a heap, the first is the least
}

// serve returns when a call that arrives now will end.
func (c *callee) serve(now, service time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := max(now, c.free[0]) + service
	i := 0
	for {
		least := 2*i + 1
		if least >= len(c.free) {
			break
		}
		if right := least + 1; right < len(c.free) && c.free[right] < c.free[least] {
			least = right
		}
		if end <= c.free[least] {
			break
		}
		c.free[i] = c.free[least]
		i = least
	}
	c.free[i] = end
	return end
}
