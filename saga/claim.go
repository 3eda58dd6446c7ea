package saga

import (
	"context"
	"time"
)

const heldPerSlot = 16

// claimEvery is how often a runner looks for sagas that others left or that
// are due; what its own process starts or resumes does not wait for it.
const claimEvery = time.Second

// searchFor is how long after a lost answer a runner still looks for sagas that
// became its own by it: a store may apply late what a caller gave up.
const searchFor = time.Hour

func (r *Runner) keepClaiming(ctx, calls context.Context, s *session) {
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.adopt(ctx, s)
		r.claim(ctx, calls, s)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-r.nudge:
		}
	}
}

// lookNow makes Run look for sagas to claim.
func (r *Runner) lookNow() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

func (r *Runner) claim(ctx, calls context.Context, s *session) {
	for ctx.Err() == nil {
		// What is claimed without a heartbeat is anybody's again at once.
		term, held := r.lease(s)
		room := min(r.room(), 256)
		if !held || room <= 0 {
			return
		}
		// Not ctx: a claim whose answer is thrown away would stay claimed.
		bounded, cancel := context.WithTimeout(calls, r.opts.Lease)
		records, err := r.store.Claim(bounded, s.owner, r.shapes, room)
		cancel()
		if err != nil {
			r.opts.Logger.WarnContext(ctx, "saga: claiming failed", "error", err)
			r.doubt(s)
			return
		}
		for _, rec := range records {
			x := r.newExecution(s, term, rec)
			r.mu.Lock()
			r.held[rec.ID] = x
			r.mu.Unlock()
			s.launch(x)
		}
		if len(records) < room {
			return
		}
	}
}

// room is how many more sagas may be held.
func (r *Runner) room() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opts.Concurrency*heldPerSlot - len(r.held)
}

// doubt notes that sagas may be the session's without its knowing, now or later:
// the answer of a Create or a Claim is lost. Nobody else would execute them while
// its heart beats.
func (r *Runner) doubt(s *session) {
	r.mu.Lock()
	s.doubted = time.Now()
	r.mu.Unlock()
}

// searchDue reports whether it is time to look for such sagas: at first once in a
// lease, then ever more seldom.
func (r *Runner) searchDue(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !s.doubted.IsZero() && time.Since(s.searched) >= max(r.opts.Lease, s.searched.Sub(s.doubted))
}

// adopt executes what is the session's without its knowing.
func (r *Runner) adopt(ctx context.Context, s *session) {
	term, held := r.lease(s)
	if !held || r.room() <= 0 || !r.searchDue(s) {
		return
	}
	now := time.Now()
	r.mu.Lock()
	s.searched = now
	r.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, max(r.opts.Lease, time.Minute)) // it may read all that ever ended
	defer cancel()
	for rec, err := range r.store.Scan(bounded, Query{Status: []Status{Running, RollingBack}}) {
		if err != nil {
			if ctx.Err() == nil {
				r.opts.Logger.WarnContext(ctx, "saga: searching for sagas whose claim was not answered failed", "error", err)
			}
			return
		}
		if rec.Owner != s.owner {
			continue
		}
		x := r.newExecution(s, term, rec)
		x.unsure = true // it may have changed since it was read
		if !r.keep(s, x) {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(s.doubted) > searchFor {
		s.doubted = time.Time{}
	}
}

// keep executes an adopted saga, unless it is known. It returns false, and has
// the search repeated, if there is no room.
func (r *Runner) keep(s *session, x *execution) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.held[x.rec.ID]; known {
		return true
	}
	if len(r.held) >= r.opts.Concurrency*heldPerSlot {
		s.searched = time.Time{}
		return false
	}
	r.held[x.rec.ID] = x
	s.launch(x)
	return true
}
