package concurrency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Admission is a [Limiter] that admits a call if it will probably be answered
// before its deadline, and finds out by itself how much its callee can do.
// There is no capacity to be told. Use one in front of one dependency, or of
// one's own handlers; several callers of one dependency in several processes
// each have their own, which find their shares.
//
// # The rule
//
// A call with the time d left is admitted if what is in flight, with it, is at
// most p·d. The pace p, units in flight for each second that is left, is
// learned from what comes back, over windows of 16 results or half a second:
//
//   - rate is the units per second that come back. A higher one counts at once. A
//     lower one counts only from a window in which somebody was refused, or
//     three calls in ten were late; otherwise nobody may have asked for more.
//   - By Little's law what is in flight takes inflight/rate to come back. So p is at
//     least rate/4: nobody is refused who will need a quarter of his time. And it
//     is lowered to rate·0.7, by at most 30 % a window, when somebody was refused
//     and calls do take more than two fifths of their time.
//   - In between it is raised by a tenth while somebody is refused and calls need less than
//     two fifths of their time, and lowered by 30 % when they need seven tenths or three in
//     ten are late; calls that were admitted before the last such step do not count.
//     It does not follow the rate: fewer calls in flight bring a lower rate, which
//     would admit fewer still.
//
// A call that is late counts as one that took all of its time. With nothing in
// flight one call is admitted always, so an Admission that has seen only
// failures finds out when that ends. One that has seen nothing yet admits 10 units.
//
// A result that is [context.DeadlineExceeded] says that the caller has left. The callee
// may not have noticed: the call counts as in flight until a later one has come back. Other
// errors count as work done, but neither raise the rate nor say how
// long a call takes; those that match [ErrRejected] say nothing. Nor do those of a
// caller that was cancelled ([Permit.Done]).
//
// # Its limits
//
// Calls are not told apart by what they cost, unless they say so in units. If
// the service alone takes longer than the deadline, nearly nothing is admitted, as
// nothing would be in time. It does not know fairness: callers with more time left
// are admitted where those with less are not. And it needs some results to go
// by: a callee that is asked once a second is not protected.
//
// The zero Admission is ready to use. It is safe for concurrent use, starts no
// goroutine and, unless it waits, allocates only for errors. Set the fields
// before first use; it must not be copied afterwards.
type Admission struct {
	// MaxWaiting is how many calls may wait for room, those of a higher priority
	// first, then first come, first served. Who waits uses up its deadline. 0 or less:
	// nobody does, who is not admitted is refused at once.
	MaxWaiting int
	// NoDeadline is how long a call whose context has no deadline is taken to
	// have. 0 or less means 1 s. A callee that needs longer than that for a single
	// call needs a longer one here, or gets little to do.
	NoDeadline time.Duration

	most int64 // units in flight; 0: as many as can be counted. Lowered by tests.

	mu        sync.Mutex
	clock     clock
	pace      pace
	ranks     ranks
	slots     slots
	inFlight  int64
	abandoned int64         // units of callers that left at their deadline; the callee may be busy with them
	leftAt    time.Duration // when the youngest of those was admitted
	waiters   []*applicant  // in the order in which they are served
	counts    counts
}

var _ Limiter = (*Admission)(nil)

// applicant is one call of Acquire. answer is sent to once, by whoever takes it off the queue.
type applicant struct {
	ctx      context.Context //nolint:containedctx // that of the call, which waits for the answer
	n        int64
	until    time.Duration // the deadline, on the clock
	priority int
	answer   chan Permit
}

// Acquire implements [Limiter]. It is refused at once, with an error that
// matches [ErrRejected], if there is no room for n units within the deadline
// of ctx and it may not wait. A call of more units than p·d is admitted only
// while nothing is in flight. If n is not positive it is refused for good, with an error
// that is marked [Permanent].
func (a *Admission) Acquire(ctx context.Context, n int64) (Permit, error) {
	ended := ctx.Err() != nil
	deadline, limited := ctx.Deadline()
	priority := priorityOf(ctx)
	if held := a.lent(ctx); held > 0 && n > 0 {
		if n > held {
			return a.refuse(refusal("admission: cannot lend %d units from a permit of %d", n, held))
		}
		return Permit{}, nil
	}
	a.mu.Lock()
	if n <= 0 || n > a.bound() {
		a.mu.Unlock()
		return a.refuse(refusal("admission: cannot ever admit %d units of %d", n, a.bound()))
	}
	if ended {
		a.mu.Unlock()
		return a.refuse(fmt.Errorf("concurrency: admission not asked: %w", endOf(ctx)))
	}
	a.clock.begin()
	now := a.clock.now()
	asked := applicant{ctx: ctx, n: n, until: now + a.noDeadline(), priority: priority}
	if limited {
		asked.until = deadline.Sub(a.clock.start)
	}
	a.ranks.see(priority, now)
	a.pace.roll(now, a.inFlight)
	a.dispatch(now)
	if !a.overtakes(priority) && a.fits(&asked, now) {
		p := a.admit(&asked, now)
		a.mu.Unlock()
		return p, nil
	}
	a.pace.window.refused++
	if len(a.waiters) >= a.MaxWaiting || float64(n) > a.room(&asked, now) {
		inFlight := a.inFlight + a.abandoned
		a.mu.Unlock()
		return a.refuse(fmt.Errorf("%w: admission: %d units in flight leave no room for %d within %v",
			ErrRejected, inFlight, n, (asked.until - now).Round(time.Microsecond)))
	}
	w := asked // moves to the heap only here
	w.answer = make(chan Permit, 1)
	a.enqueue(&w)
	a.mu.Unlock()
	return a.wait(&w, now, limited)
}

// overtakes reports whether to admit this priority now would pass over somebody who waits.
func (a *Admission) overtakes(priority int) bool {
	return len(a.waiters) > 0 && a.waiters[0].priority >= priority
}

// fits reports whether there is room.
func (a *Admission) fits(c *applicant, now time.Duration) bool {
	used := a.inFlight + a.abandoned + c.n
	return a.inFlight == 0 && c.until > now || used <= a.bound() && float64(used) <= a.room(c, now)
}

// room is how many units may be in flight with this call among them.
func (a *Admission) room(c *applicant, now time.Duration) float64 {
	return a.pace.room(c.until-now) * a.ranks.share(c.priority, now)
}

// bound keeps sums of units from overflowing.
func (a *Admission) bound() int64 {
	if a.most > 0 {
		return a.most
	}
	return 1 << 40
}

func (a *Admission) admit(c *applicant, now time.Duration) Permit {
	if a.inFlight == 0 {
		a.pace.resume(now)
	}
	a.inFlight += c.n
	a.counts.admitted++
	p := a.slots.issue(c.ctx, a, c.n)
	p.slot.note.admitted, p.slot.note.until = now, c.until
	return p
}

func (a *Admission) refuse(err error) (Permit, error) {
	a.mu.Lock()
	a.counts.rejected++
	a.mu.Unlock()
	return Permit{}, err
}

// settle implements owner.
func (a *Admission) settle(s *slot, n int64, known bool, err error) {
	left := known && errors.Is(err, context.DeadlineExceeded)
	rejected := known && errors.Is(err, ErrRejected)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.now()
	admitted, until := s.note.admitted, s.note.until
	a.slots.put(s)
	if known && err != nil {
		a.counts.failed++
	}
	switch {
	case !known || rejected:
	case left:
		a.abandoned += n
		a.leftAt = max(a.leftAt, admitted)
		a.pace.late(admitted, until)
	default:
		done := n
		if admitted >= a.leftAt { // the callee has come past those
			done += a.abandoned
			a.abandoned = 0
		}
		a.pace.came(done)
		if err == nil {
			a.pace.good(n, now, admitted, until)
		}
	}
	a.pace.roll(now, a.inFlight)
	a.inFlight -= n
	if a.inFlight == 0 {
		a.pace.pause(now)
	}
	a.dispatch(now)
}

// mark implements owner: only who may wait can wait for itself.
func (a *Admission) mark() any {
	if a.MaxWaiting <= 0 {
		return nil
	}
	return admissionMark{a}
}

type admissionMark struct{ *Admission }

func (a *Admission) lent(ctx context.Context) int64 {
	if a.MaxWaiting <= 0 {
		return 0
	}
	return lent(ctx, a.mark())
}

func (a *Admission) enqueue(w *applicant) {
	i := len(a.waiters)
	for i > 0 && a.waiters[i-1].priority < w.priority {
		i--
	}
	a.waiters = slices.Insert(a.waiters, i, w)
}

// dispatch admits those who wait, as far as there is room.
func (a *Admission) dispatch(now time.Duration) {
	for len(a.waiters) > 0 && a.fits(a.waiters[0], now) {
		w := a.waiters[0]
		a.waiters = slices.Delete(a.waiters, 0, 1)
		w.answer <- a.admit(w, now)
	}
}

func (a *Admission) wait(w *applicant, since time.Duration, limited bool) (Permit, error) {
	var over <-chan time.Time
	if !limited {
		timer := time.NewTimer(w.until - since)
		defer timer.Stop()
		over = timer.C
	}
	var p Permit
	select {
	case p = <-w.answer:
	case <-w.ctx.Done():
	case <-over:
	}
	a.mu.Lock()
	if i := slices.Index(a.waiters, w); i >= 0 {
		a.waiters = slices.Delete(a.waiters, i, i+1)
		a.dispatch(a.clock.now()) // those behind may fit now
	} else if p.slot == nil {
		p = <-w.answer // just before the lock was ours
	}
	waited := (a.clock.now() - since).Round(time.Microsecond)
	a.mu.Unlock()
	if p.slot != nil && w.ctx.Err() == nil {
		return p, nil
	}
	p.Done(nil) // nobody is left to use it
	if w.ctx.Err() == nil {
		return a.refuse(fmt.Errorf("%w: admission: no room for %d units after %v", ErrRejected, w.n, waited))
	}
	return a.refuse(fmt.Errorf("concurrency: admission: waited %v: %w", waited, endOf(w.ctx)))
}

func (a *Admission) noDeadline() time.Duration {
	if a.NoDeadline > 0 {
		return a.NoDeadline
	}
	return time.Second
}

// Stats returns the present state and the counts so far. Limit is how many
// units may be in flight for a call of the highest priority that has NoDeadline left.
func (a *Admission) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Stats{
		Limit: min(int64(a.pace.room(a.noDeadline())), a.bound()), InFlight: a.inFlight, Waiting: int64(len(a.waiters)),
		Admitted: a.counts.admitted, Rejected: a.counts.rejected, Failed: a.counts.failed,
	}
}
