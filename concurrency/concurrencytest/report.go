package concurrencytest

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Report is what became of the calls that arrived in a [Phase].
type Report struct {
	// Phase is its name.
	Phase string
	// Offered is how many calls arrived: those in time, late and rejected.
	Offered, InTime, Late, Rejected int
	// Achievable is how many of them could have been in time by a limiter that
	// cannot tell them apart: those the workers have the time for, or all if
	// that is more, times the share of calls whose service fits their deadline
	// at all:
	//
	//	min(Offered, Workers · For / mean(Service)) · share(Service ≤ Deadline)
	//
	// A phase that inherits a queue from the one before, or leaves one to the
	// next, and a limiter that finds out which calls are short, may deviate from
	// it in both directions.
	Achievable float64
	// Goodput is InTime / Achievable; 1 if no call was achievable.
	Goodput float64
	// P50 and P99 are quantiles of the latency of the calls that were admitted,
	// late ones too; with [Scenario.Leave] no latency exceeds its deadline. 0 if
	// there were none.
	P50, P99 time.Duration
	// Calls are the calls, in the order of their arrival, for figures of one's
	// own.
	Calls []Call
}

// String returns the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("%s: goodput %.0f %%, %d offered, %d in time, %d late, %d rejected, p50 %v, p99 %v", r.Phase, 100*r.Goodput,
		r.Offered, r.InTime, r.Late, r.Rejected, r.P50.Round(time.Millisecond), r.P99.Round(time.Millisecond))
}

func report(p Phase, workers int, calls []Call) Report {
	r := Report{Phase: p.Name, Offered: len(calls), Calls: calls}
	var work time.Duration
	fit := 0
	var latencies []time.Duration
	for _, c := range calls {
		work += c.Service
		if c.Deadline == 0 || c.Service <= c.Deadline {
			fit++
		}
		switch c.Outcome {
		case InTime:
			r.InTime++
		case Late:
			r.Late++
		case Rejected:
			r.Rejected++
		}
		if c.Outcome != Rejected {
			latencies = append(latencies, c.Latency)
		}
	}
	possible := 1.0 // the share the workers have the time for
	if capacity := float64(workers) * float64(p.For); float64(work) > capacity {
		possible = capacity / float64(work)
	}
	r.Achievable = possible * float64(fit)
	r.Goodput = 1
	if r.Achievable > 0 {
		r.Goodput = float64(r.InTime) / r.Achievable
	}
	slices.Sort(latencies)
	r.P50, r.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	return r
}

// quantile returns the least value that a share q of all do not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

// Exponential returns a service time, or a deadline, that is least plus an
// exponentially distributed time with the given mean. With a mean of 0 it is
// least always.
func Exponential(least, mean time.Duration) func(u float64) time.Duration {
	return func(u float64) time.Duration {
		return least + time.Duration(-math.Log1p(-u)*float64(mean))
	}
}
