package concurrency

import (
	"math"
	"time"
)

// The constants of [Admission]; docs/decisions/0016 says where they come from.
const (
	firstUnits = 10 // may be in flight before anything is known

	aim    = 0.25 // of a call's time is what it may need without a question
	spare  = 0.4  // less than that: more may be in flight
	brink  = 0.7  // more than that: fewer
	raise  = 1.1
	lower  = 0.7
	relax  = 0.9 // when nobody was refused
	gain   = 0.5 // of a window's rate
	many   = 0.3 // late, of those that came back
	little = 0.2

	enough   = 16 // results make a window
	judges   = 6  // calls that say how long it takes
	shortest = 10 * time.Millisecond
	longest  = 500 * time.Millisecond
)

// pace is how many units [Admission] lets be in flight for the time a call has
// left, and what it learns that from. Times are on the clock of its owner, rates
// are per nanosecond.
type pace struct {
	perTime float64 // units in flight per nanosecond left; 0: nothing is known
	rate    float64 // units that come back, while more are asked for
	latency float64 // mean of the last window
	cut     time.Duration
	idle    time.Duration
	window  paceWindow
}

// paceWindow is what came back since it began.
type paceWindow struct {
	began   time.Duration
	refused int64   // calls
	results int64   // of the callee
	late    int64   // calls
	came    int64   // units that came back
	good    int64   // those without an error
	latency float64 // sum over the good

	// Of the calls that were admitted since the last cut:
	judged, judgedLate int64
	took, had          float64 // no more than it had; the time until the deadline
}

// room is how many units may be in flight when a call with so much time left
// is among them.
func (p *pace) room(left time.Duration) float64 {
	if p.perTime == 0 {
		return firstUnits
	}
	return max(p.perTime*float64(left), 1)
}

// pause and resume take the time in which nothing is in flight out of the window.
func (p *pace) pause(now time.Duration)  { p.idle = now }
func (p *pace) resume(now time.Duration) { p.window.began += now - p.idle }

// came counts n units that the callee is done with.
func (p *pace) came(n int64) {
	p.window.results++
	p.window.came += n
}

// good counts a call without an error, late or not.
func (p *pace) good(n int64, now, admitted, until time.Duration) {
	p.window.good += n
	p.window.latency += float64(now-admitted) * float64(n)
	p.judge(float64(now-admitted), admitted, until, now > until)
}

// late counts a call whose caller left at its deadline.
func (p *pace) late(admitted, until time.Duration) {
	p.judge(math.Inf(1), admitted, until, true)
}

func (p *pace) judge(took float64, admitted, until time.Duration, late bool) {
	w := &p.window
	if late {
		w.late++
	}
	if admitted < p.cut {
		return // under another pace
	}
	w.judged++
	if late {
		w.judgedLate++
	}
	had := float64(max(until-admitted, 1))
	w.had += had
	w.took += min(took, had)
}

// roll learns from the window if it is over.
func (p *pace) roll(now time.Duration, inFlight int64) {
	w := &p.window
	elapsed := now - w.began
	if inFlight == 0 || w.results == 0 || elapsed < shortest {
		return
	}
	if elapsed < longest && (w.results < enough || float64(elapsed) < p.latency) {
		return
	}
	p.learn(float64(elapsed), now)
	if w.good > 0 {
		p.latency = w.latency / float64(w.good)
	}
	p.window = paceWindow{began: now}
}

func (p *pace) learn(elapsed float64, now time.Duration) {
	w := &p.window
	saturated := w.refused > 0 || float64(w.late) > many*float64(w.results)
	p.track(float64(w.good)/elapsed, float64(w.came)/elapsed, saturated)
	if p.perTime == 0 {
		p.perTime = aim * p.rate
		return
	}
	judged := w.judged >= judges
	share, late := w.took/max(w.had, 1), float64(w.judgedLate)/float64(max(w.judged, 1))
	least := lower * p.perTime
	if saturated && !(judged && share < spare) {
		p.perTime = min(p.perTime, max(brink*p.rate, least))
	}
	switch {
	case judged && (late > many || share > brink):
		p.perTime = least
		p.cut = now
	case !saturated:
		p.perTime *= relax
	case judged && late < little && share < spare:
		p.perTime *= raise
	}
	p.perTime = max(p.perTime, aim*p.rate)
}

// track follows the rate: up always, down only if more was asked for.
func (p *pace) track(good, came float64, saturated bool) {
	weight := gain * min(1, float64(p.window.results)/enough)
	switch {
	case p.rate == 0:
		p.rate = good
	case good > p.rate:
		p.rate += weight * (good - p.rate)
	case saturated && came < p.rate:
		p.rate += weight * (came - p.rate)
	}
}
