package concurrency

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	minDelay    = time.Millisecond // below that a second run costs more than it saves
	minRuns     = 20               // before a quantile means anything
	refreshed   = 32               // runs between two looks at the quantiles
	mostTokens  = 10.0
	bestGuess   = 0.5 // the quantile that a second run is expected to need
	mostNeeded  = generation
	defQuantile = 0.95
	defRatio    = 0.05
)

var errOutrun = errors.New("concurrency: Hedge: the other run has succeeded")

// Hedger decides when [Hedge] starts a second run: when the first has taken
// longer than most, as the last 1000 to 2000 first runs tell, and while second
// runs are few. The zero Hedger is ready to use. Use one per dependency and
// kind of request, since it learns how long they take. It is safe for
// concurrent use, starts no goroutine of its own and must not be copied after
// first use.
type Hedger struct {
	// Quantile is the share of runs that are fast enough to be waited for; a
	// second run starts once the first has taken longer than that, and not
	// before 1 ms. A value not between 0 and 1 means 0.95. Set it before first
	// use.
	Quantile float64
	// Ratio is how many second runs there may be for each first run in the
	// long run; at most 10 are saved up. 0 or less means 0.05. Set it before
	// first use.
	Ratio float64

	delay   atomic.Int64 // nanoseconds; 0: not known yet
	typical atomic.Int64 // nanoseconds

	mu      sync.Mutex
	runs    latencies
	unread  int // runs that delay and typical do not know yet
	tokens  float64
	running int64
	counts  counts
}

// Delay returns how long a first run may take at present before a second one
// starts, 0 while too few runs are known for there to be any: fewer than 20, or
// than it takes for one to be above the quantile.
func (h *Hedger) Delay() time.Duration { return time.Duration(h.delay.Load()) }

// Stats returns what happened so far. Admitted counts second runs, InFlight
// those under way. Rejected counts those that were due but more than Ratio or
// the [Budget] allows, and Failed those that were in vain: the first run
// succeeded before them, or they failed. Limit, Waiting and Open have no
// meaning.
func (h *Hedger) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{InFlight: h.running, Admitted: h.counts.admitted, Rejected: h.counts.rejected, Failed: h.counts.failed}
}

// Hedge runs op, and a second time beside it if the first run takes longer
// than most do; h says when, and how often. The first success wins. The other
// run is cancelled, with a cause that says so, and Hedge returns when it has
// returned: what does not notice its cancellation delays the caller, and gains
// nothing by being hedged.
//
// The first run is on the calling goroutine. If it fails before a second one
// has started, its value and error are the result: Hedge is no [Retry]. After
// that an error loses to a success, however late that is, unless it is
// [Permanent]; if both fail, the value is that of the first run, and the error
// matches both.
//
// There is no second run if ctx ends before it could be expected to be done, or
// if the [Budget] of ctx, see [WithBudget], allows none. If ctx is done op is
// not run.
//
// A run's context ends when Hedge returns, also that of the winner. A value
// that depends on it, or that must be closed, such as an HTTP response, is
// therefore to be used up within op; package concurrencyhttp hedges requests. A
// panic in op cancels the other run, waits for it, and panics in the caller,
// as a [*PanicError] if it was in the second run. [runtime.Goexit] ends the
// calling goroutine likewise. Hedge panics if h is nil.
func Hedge[R any](ctx context.Context, h *Hedger, op Op[R]) (R, error) {
	var zero R
	if h == nil {
		panic("concurrency: Hedge: nil Hedger: nothing that knows when")
	}
	if err := op.refusal(); err != nil {
		return zero, err
	}
	if ctx.Err() != nil {
		return zero, endOf(ctx)
	}
	budget := firstRun(ctx)
	start := time.Now()
	delay := h.due(ctx, start)
	if delay == 0 {
		v, err := op.run(ctx)
		h.learn(time.Since(start), err)
		return v, withCause(ctx, err)
	}
	c := &hedged[R]{h: h, op: op, budget: budget, first: attempt{Context: ctx}}
	return c.run(start, delay)
}

// due returns after how long a second run may start, 0 if it may not.
func (h *Hedger) due(ctx context.Context, now time.Time) time.Duration {
	delay := h.Delay()
	if delay == 0 {
		return 0
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(now) <= delay+time.Duration(h.typical.Load()) {
		return 0
	}
	return delay
}

// learn takes in how long a first run took. A failure only says something if it
// was slow: that a success would have been, too. The same holds of a run that
// was cancelled because the second one succeeded.
func (h *Hedger) learn(took time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ratio := h.Ratio
	if !(ratio > 0) {
		ratio = defRatio
	}
	h.tokens = min(h.tokens+ratio, mostTokens)
	if delay := h.Delay(); err != nil && (delay == 0 || took <= delay) {
		return
	}
	h.runs.add(took)
	if h.unread++; h.unread < refreshed && h.delay.Load() != 0 {
		return
	}
	q := h.Quantile
	if !(q > 0 && q < 1) {
		q = defQuantile
	}
	needed := min(max(minRuns, int(math.Ceil(1/(1-q)))), mostNeeded)
	if h.runs.len() < needed {
		return
	}
	h.unread = 0
	typical, high := h.runs.quantiles(min(bestGuess, q), q)
	h.typical.Store(int64(typical))
	h.delay.Store(int64(max(high, minDelay)))
}

// start asks for a second run.
func (h *Hedger) start(budget scope) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens < 1 || !budget.extraRun() {
		h.counts.rejected++
		return false
	}
	h.tokens--
	h.running++
	h.counts.admitted++
	return true
}

// end takes back what start gave.
func (h *Hedger) end(inVain bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running--
	if inVain {
		h.counts.failed++
	}
}

// hedged is one call of Hedge that may have a second run.
type hedged[R any] struct {
	h      *Hedger
	op     Op[R]
	budget scope
	first  attempt // the context of the first run

	mu     sync.Mutex
	over   bool                    // the first run has returned
	won    bool                    // the second succeeded while the first was running
	cancel context.CancelCauseFunc // ends the second; nil: it has not started
	joined chan struct{}           // closed when the second is over

	// The outcome of the second run, to be read once joined is closed.
	value    R
	err      error
	panicked *PanicError
	goexit   bool
}

func (c *hedged[R]) run(start time.Time, delay time.Duration) (R, error) {
	timer := time.AfterFunc(delay, c.second)
	returned := false
	defer func() {
		if !returned { // a panic or Goexit, which goes on after this
			timer.Stop()
			if c.join(errReturned) {
				c.h.end(true)
			}
			c.first.finish()
		}
	}()
	v, err := c.op.run(&c.first)
	took := time.Since(start)
	returned = true
	timer.Stop()
	var stop error
	if err == nil {
		stop = errOutrun
	} else if permanent, _ := Advice(err); permanent {
		stop = err
	}
	second := c.join(stop)
	c.first.finish()
	c.h.learn(took, err)
	if !second {
		return v, withCause(c.first.Context, err)
	}
	succeeded := c.won || err != nil && c.err == nil && c.panicked == nil && !c.goexit
	c.h.end(!succeeded)
	switch {
	case c.panicked != nil:
		panic(c.panicked)
	case c.goexit:
		runtime.Goexit()
	case succeeded:
		return c.value, nil
	case err == nil:
		return v, nil
	case c.first.Context.Err() != nil:
		return v, withCause(c.first.Context, err)
	}
	return v, fmt.Errorf("%w; and the second run: %w", err, c.err)
}

// join keeps the second run from starting, or waits for it, having cancelled it
// if stop says why. It reports whether there was one.
func (c *hedged[R]) join(stop error) bool {
	c.mu.Lock()
	c.over = true
	joined, cancel := c.joined, c.cancel
	c.mu.Unlock()
	if joined == nil {
		return false
	}
	if stop != nil {
		cancel(stop)
	}
	<-joined
	return true
}

// second is called when the delay has passed, on a goroutine of its own.
func (c *hedged[R]) second() {
	ctx := c.begin()
	if ctx == nil {
		return
	}
	c.goexit = true
	defer func() {
		if v := recover(); v != nil {
			c.panicked, c.goexit = newPanicError(v), false
		}
		c.leave()
	}()
	c.value, c.err = c.op.run(ctx)
	c.goexit = false
}

// begin returns the context of the second run, nil if there is to be none.
func (c *hedged[R]) begin() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	caller := c.first.Context
	if c.over || caller.Err() != nil || !c.h.start(c.budget) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(c.budget.mark(caller))
	c.cancel, c.joined = cancel, make(chan struct{})
	return ctx
}

// leave ends the second run, and the first if this one succeeded before it.
func (c *hedged[R]) leave() {
	var stop error
	succeeded := false
	switch {
	case c.panicked != nil:
		stop = c.panicked
	case c.goexit:
		stop = errGoexit
	case c.err == nil:
		stop, succeeded = errOutrun, true
	}
	c.mu.Lock()
	c.won = succeeded && !c.over
	c.mu.Unlock()
	if stop != nil {
		c.first.cancel(stop)
	}
	c.cancel(errReturned)
	close(c.joined)
}
