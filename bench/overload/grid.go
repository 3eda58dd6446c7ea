package main

import (
	"fmt"
	"math"
	"time"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

const (
	ms   = time.Millisecond
	mean = 20 * ms // of the service times, in calm weather
)

// cell is one callee and its callers.
type cell struct {
	workers  int
	deadline time.Duration // 0: mixed
	uneven   bool          // a tenth of the calls costs ten times as much as the others
	leave    bool          // callers give up at their deadline, the callee goes on
}

func (c cell) String() string {
	deadline, cost, who := "mixed", "even", "stay"
	if c.deadline > 0 {
		deadline = c.deadline.String()
	}
	if c.uneven {
		cost = "uneven"
	}
	if c.leave {
		who = "leave"
	}
	return fmt.Sprintf("%d workers, %s, %s, %s", c.workers, deadline, cost, who)
}

func grid() []cell {
	var all []cell
	for _, leave := range []bool{false, true} {
		for _, uneven := range []bool{false, true} {
			for _, workers := range []int{4, 10, 64} {
				for _, deadline := range []time.Duration{200 * ms, 400 * ms, time.Second, 0} {
					all = append(all, cell{workers, deadline, uneven, leave})
				}
			}
		}
	}
	return all
}

// phases are the names of those of a scenario.
var phases = []string{"0.7x", "2x", "after", "slow", "after slow", "burst", "after burst"}

func (c cell) scenario(seed uint64) concurrencytest.Scenario {
	capacity := float64(c.workers) / mean.Seconds()
	phase := func(load float64, slower float64, d time.Duration) concurrencytest.Phase {
		return concurrencytest.Phase{
			For: d, Rate: load * capacity, Deadline: c.deadlines,
			Service: func(u float64) time.Duration { return time.Duration(slower * float64(c.cost(u))) },
		}
	}
	s := concurrencytest.Scenario{Seed: seed, Workers: c.workers, Leave: c.leave, Phases: []concurrencytest.Phase{
		phase(0.7, 1, 10*time.Second),
		phase(2, 1, 20*time.Second),
		phase(0.7, 1, 10*time.Second),
		phase(0.7, 5, 20*time.Second),
		phase(0.7, 1, 10*time.Second),
		phase(5, 1, 2*time.Second),
		phase(0.7, 1, 10*time.Second),
	}}
	for i := range s.Phases {
		s.Phases[i].Name = phases[i]
	}
	return s
}

func (c cell) deadlines(u float64) time.Duration {
	if c.deadline > 0 {
		return c.deadline
	}
	return []time.Duration{200 * ms, 400 * ms, time.Second}[int(3*u)]
}

// cost has the mean mean.
func (c cell) cost(u float64) time.Duration {
	if !c.uneven {
		return concurrencytest.Exponential(15*ms, 5*ms)(u)
	}
	least, tail := 5*ms, 5.526*float64(ms)
	if u = 10 * u; u >= 9 {
		least, tail, u = 50*ms, 55.26*float64(ms), 10*(u-9) // ten times the others
	} else {
		u /= 0.9
	}
	return least + time.Duration(-math.Log1p(-u/10)*tail)
}
