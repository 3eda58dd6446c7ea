package saga

import (
	"context"
	"time"
)

// keepBeating renews the session's lease until ctx ends.
func (r *Runner) keepBeating(ctx context.Context, s *session) {
	tick := time.NewTicker(r.opts.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.heartbeat(ctx, s); err != nil && ctx.Err() == nil {
			r.opts.Logger.WarnContext(ctx, "saga: heartbeat failed; others may claim this runner's sagas", "error", err)
		}
	}
}

func (r *Runner) heartbeat(ctx context.Context, s *session) error {
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.opts.Lease/3)
	defer cancel()
	if err := r.store.Beat(ctx, s.owner, r.opts.Lease); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.holds(time.Now(), r.opts.Lease) {
		s.term++ // others could claim before this beat
	}
	s.beat = sent
	return nil
}

// lease returns the number of the session's lease, and whether it holds: if so,
// nobody else has claimed what was the session's in that same lease.
func (r *Runner) lease(s *session) (term int, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.term, s.holds(time.Now(), r.opts.Lease)
}

// holds asks both clocks: where a machine is suspended the monotonic one stands
// still, and where the wall clock is set back the lease would hold by that one.
func (s *session) holds(now time.Time, lease time.Duration) bool {
	return now.Sub(s.beat) < lease && now.Round(0).Sub(s.beat.Round(0)) < lease
}
