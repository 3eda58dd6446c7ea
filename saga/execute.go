package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// execution drives one saga of a session, in one goroutine.
type execution struct {
	r    *Runner
	s    *session
	def  AnyDefinition
	plan *plan
	rec  Record // as last read or written

	created  chan struct{} // nil, or closed when Create has returned
	failures int           // calls of the current step that failed
	pending  []Event       // to be recorded with the next write
	unsure   bool          // rec may be out of date: read it before the next call
	term     int           // of the session's lease in which the saga was known to be ours
	overdue  bool          // the overrun has been reported
	poke     chan struct{} // buffered: the record has changed, as by Cancel

	mu   sync.Mutex
	stop context.CancelCauseFunc // of the call in flight that Cancel may end; else nil
}

// newExecution takes the term of before the saga became the session's.
func (r *Runner) newExecution(s *session, term int, rec Record) *execution {
	d := r.defs[rec.Shape]
	return &execution{r: r, s: s, def: d, plan: d.plan(), rec: rec, failures: rec.Attempt, term: term, poke: make(chan struct{}, 1)}
}

// run returns when the saga has ended, is parked, is no longer ours, or the
// session stops. Ctx is that of the calls: it ends when the session has drained.
func (x *execution) run(ctx context.Context) {
	defer func() {
		x.r.mu.Lock()
		if x.r.held[x.rec.ID] == x {
			delete(x.r.held, x.rec.ID)
		}
		x.r.mu.Unlock()
	}()
	if x.created != nil {
		<-x.created
	}
	for x.rec.Status.Active() {
		if x.stopping() {
			x.write(ctx, func(*Record) {}, true)
			return
		}
		if !x.round(ctx) {
			return
		}
	}
}

// round makes one call and records what it brought. It returns false when the
// saga is no longer ours.
func (x *execution) round(ctx context.Context) bool {
	if ready, ours := x.ready(ctx); !ready {
		return ours
	}
	select {
	case x.r.slots <- struct{}{}:
	case <-x.s.stopping:
		return true
	case <-x.poke:
		x.unsure = true
		return true
	}
	// The wait for the slot may have outlived the lease, or the saga's time.
	if ready, ours := x.ready(ctx); !ready {
		<-x.r.slots
		return ours
	}
	i := x.plan.index(x.rec.Step)
	p := x.call(ctx, i)
	<-x.r.slots

	st := x.plan.steps[i]
	switch p.kind {
	case replyDone:
		return x.advance(ctx, "done", func(r *Record) { x.plan.done(r, p.state, p.result, time.Now()) })
	case replyRejected:
		return x.advance(ctx, "rejected: "+p.err.Error(), func(r *Record) { x.plan.refused(r, p.err) })
	case replyOngoing:
		x.failures = 0
		return x.wait(ctx, p.after)
	}
	if ctx.Err() != nil {
		return true // ended by us, not by the step; its next owner calls it again
	}
	if x.failures++; p.permanent || x.failures >= st.opts.attempts(st.kind, x.rec.Op) {
		why := fmt.Sprintf("unknown outcome after %d attempts: %v", x.failures, p.err)
		return x.advance(ctx, why, func(r *Record) { x.plan.unknown(r, why) })
	}
	x.noteFailure(p.err)
	return x.wait(ctx, max(p.after, st.opts.backoff(st.kind, x.rec.Op).Delay(x.failures)))
}

// ready reports whether the current step is to be called now. If not, the saga
// may have turned back or ended, and ours is false if it is another's.
func (x *execution) ready(ctx context.Context) (ready, ours bool) {
	select {
	case <-x.poke:
		x.unsure = true
	default:
	}
	if term, held := x.r.lease(x.s); (x.unsure || !held || term != x.term) && !x.reload(ctx) {
		return false, false
	}
	if !x.rec.Status.Active() || x.stopping() {
		return false, true
	}
	if why := x.plan.giveUp(&x.rec, time.Now()); why != "" {
		// The step may have run before a crash, or in a call that was given up.
		return false, x.advance(ctx, why, func(r *Record) { x.plan.unknown(r, why) })
	}
	x.reportOverrun(ctx, x.plan.index(x.rec.Step))
	return true, true
}

// noteFailure remembers the first failures of a step; a step that fails for
// hours should not fill its history.
func (x *execution) noteFailure(err error) {
	if x.failures <= 10 {
		x.pending = append(x.pending, x.event("failed: "+err.Error(), x.failures))
	}
}

func (x *execution) event(text string, attempt int) Event {
	return Event{Time: time.Now(), Step: x.rec.Step, Op: x.rec.Op, Attempt: attempt, Fence: x.rec.Fence, Note: shorten(text)}
}

// shorten keeps an error's text from filling the store.
func shorten(s string) string {
	const limit = 2000
	if len(s) <= limit {
		return s
	}
	return s[:limit] + " …"
}

func (x *execution) reportOverrun(ctx context.Context, i int) {
	if x.overdue || x.plan.reversible(i) || x.rec.Status != Running || !x.plan.overdue(&x.rec, time.Now()) {
		return
	}
	x.overdue = true
	x.r.tel.overdue.Add(ctx, 1, withDefinition(x.plan.name))
	x.r.opts.Logger.WarnContext(ctx, "saga: past its deadline, and past the point of return",
		"saga", x.rec.ID, "definition", x.plan.name, "step", x.rec.Step, "deadline", x.plan.deadline)
}

type replyKind int

const (
	replyDone replyKind = iota + 1
	replyRejected
	replyUnknown
	replyOngoing
)

var replyNames = []string{"", "done", "rejected", "unknown", "ongoing"}

func (k replyKind) String() string { return enumName("reply", replyNames, int(k)) }

// reply is what one call brought.
type reply struct {
	kind          replyKind
	state, result json.RawMessage
	err           error
	permanent     bool
	after         time.Duration
}

var errNoCall = errors.New("Options.Intercept returned nil, and next had not succeeded")

// call calls the step once.
func (x *execution) call(ctx context.Context, i int) reply {
	st, rec := x.plan.steps[i], &x.rec
	c := Call{
		Saga: rec.ID, Step: rec.Step, Op: rec.Op, Attempt: x.failures + 1, Fence: rec.Fence,
		Key: keyOf(x.plan.name, rec.ID, rec.Step, rec.Op),
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(st.opts.Timeout, defaultTimeout))
	defer cancel()
	if rec.Op == Action && x.plan.reversible(i) {
		if x.plan.deadline > 0 {
			var end context.CancelFunc
			ctx, end = context.WithDeadline(ctx, rec.Started.Add(x.plan.deadline))
			defer end()
		}
		var stop context.CancelCauseFunc
		ctx, stop = context.WithCancelCause(ctx)
		defer stop(nil)
		x.letCancel(stop)
		defer x.letCancel(nil)
	}
	ctx, finish := x.r.tel.call(ctx, x.plan.name, c)

	var p reply
	state, result := rec.State, rec.Results[rec.Step]
	next := func(ctx context.Context) (err error) {
		p = reply{}
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		if c.Op == Compensation {
			err = x.def.undo(ctx, c, i, state, result)
		} else {
			p.state, p.result, err = x.def.do(ctx, c, i, state)
		}
		if err == nil {
			p.kind = replyDone
		}
		return err
	}
	var err error
	if x.r.opts.Intercept == nil {
		err = next(ctx)
	} else if err = intercept(ctx, x.r.opts.Intercept, c, next); err == nil && p.kind != replyDone {
		err = concurrency.Permanent(errNoCall)
	}
	if err != nil {
		p = classify(err)
	}
	finish(p)
	return p
}

func intercept(
	ctx context.Context, f func(context.Context, Call, func(context.Context) error) error, c Call, next func(context.Context) error,
) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in Options.Intercept: %v\n%s", v, debug.Stack())
		}
	}()
	return f(ctx, c, next)
}

func classify(err error) reply {
	if _, ok := errors.AsType[*rejection](err); ok {
		return reply{kind: replyRejected, err: err}
	}
	if o, ok := errors.AsType[*ongoing](err); ok {
		return reply{kind: replyOngoing, err: err, after: o.after}
	}
	p := reply{kind: replyUnknown, err: err}
	p.permanent, p.after = concurrency.Advice(err)
	return p
}

func (x *execution) letCancel(stop context.CancelCauseFunc) {
	x.mu.Lock()
	x.stop = stop
	x.mu.Unlock()
}

// changed tells the execution that somebody else wrote the record.
func (x *execution) changed(why error) {
	select {
	case x.poke <- struct{}{}:
	default:
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stop != nil {
		x.stop(why)
	}
}

func (x *execution) stopping() bool {
	select {
	case <-x.s.stopping:
		return true
	default:
		return false
	}
}

// wait pauses before the next call of the same step. A pause longer than the
// lease is stored, and the saga given up until it is over.
func (x *execution) wait(ctx context.Context, d time.Duration) bool {
	x.unsure = true
	now := time.Now()
	i := x.plan.index(x.rec.Step)
	if x.plan.deadline > 0 && x.rec.Op == Action && x.plan.reversible(i) {
		d = min(d, x.rec.Started.Add(x.plan.deadline).Sub(now))
	}
	if d >= x.r.opts.Lease {
		cancelled := false
		x.write(ctx, func(r *Record) {
			if cancelled = x.plan.giveUp(r, now) != ""; !cancelled {
				r.Wake = now.Add(d)
			}
		}, true)
		if cancelled {
			x.r.lookNow()
		}
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.poke:
	case <-x.s.stopping:
	}
	return true
}

// advance records a transition.
func (x *execution) advance(ctx context.Context, text string, change func(*Record)) bool {
	attempt := x.failures
	if text == "done" {
		attempt++
	}
	x.pending = append(x.pending, x.event(text, attempt))
	before := x.rec.Status
	if !x.write(ctx, change, false) {
		return false
	}
	x.failures = x.rec.Attempt
	if before != x.rec.Status {
		x.announce(ctx)
	}
	return true
}

// announce tells whoever wants to know that the status has changed.
func (x *execution) announce(ctx context.Context) {
	r := &x.rec
	x.r.tel.changed.Add(ctx, 1, withStatus(x.plan.name, r.Status))
	if r.Status == Parked {
		x.r.opts.Logger.ErrorContext(ctx, "saga: parked; it waits for Resume or Resolve",
			"saga", r.ID, "definition", x.plan.name, "step", r.Step, "op", r.Op.String(), "error", r.Err)
	}
	if !r.Status.Active() {
		x.r.wakeWatchers(r.ID)
	}
}

// write stores the record after change and the pending events. It returns true
// when that is durable and the saga still ours, false when another runner owns
// it or the session ended first. With release, the saga is given up.
func (x *execution) write(ctx context.Context, change func(*Record), release bool) bool {
	for try := 1; ; try++ {
		next := x.rec.Clone()
		next.Attempt = x.failures
		change(&next)
		next.Updated = time.Now()
		note(&next, x.pending...)
		release := release || !next.Status.Active()
		err := x.r.commit.apply(ctx, Change{Record: next, Rev: x.rec.Rev, Fence: x.rec.Fence, Release: release}, x.r.opts.Lease)
		if err == nil {
			next.Rev, next.Fence = x.rec.Rev+1, x.rec.Fence
			x.rec, x.pending = next, nil
			return true
		}
		if errors.Is(err, ErrNotFound) {
			return false
		}
		if !errors.Is(err, ErrStale) {
			x.r.opts.Logger.WarnContext(ctx, "saga: the store failed; trying again", "saga", x.rec.ID, "error", err)
			if !x.pause(ctx, try) {
				return false
			}
		}
		// Somebody else wrote, or an earlier try of ours arrived unseen.
		was := x.rec
		if !x.reload(ctx) {
			return false
		}
		if x.rec.Status != was.Status || x.rec.Step != was.Step || x.rec.Op != was.Op {
			x.pending = nil
			return true
		}
	}
}

// reload reads the record, however often it takes. It returns false if the saga
// is no longer ours.
func (x *execution) reload(ctx context.Context) bool {
	for try := 1; ; try++ {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.r.opts.Lease)
		term, _ := x.r.lease(x.s)
		rec, err := x.r.store.Load(bounded, x.rec.ID)
		cancel()
		switch {
		case err == nil:
			if rec.Fence != x.rec.Fence || rec.Status.Active() && rec.Owner != x.s.owner {
				return false
			}
			x.rec, x.unsure, x.term = rec, false, term
			return true
		case errors.Is(err, ErrNotFound):
			return false
		}
		if !x.pause(ctx, try) {
			return false
		}
	}
}

// pause waits before the store is tried again, and returns false once the
// session's time is over.
func (x *execution) pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(concurrency.Backoff{}.Delay(try))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
