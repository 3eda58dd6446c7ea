package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/saga"
)

const (
	minPoll     = 20 * time.Millisecond
	maxPoll     = 5 * time.Second
	minPatience = time.Minute
)

// trial is the judge of one stage, and knows which stage it is of and when that
// began. It lives in the server's traffic, so it ends with the traffic: a server
// that was restarted has neither, and the stage begins anew with fresh evidence.
type trial struct {
	key   idempotency.Key // of the step's action
	since time.Time
	judge mlserve.Judge // nil: time alone decides
}

// Observe hands the outcome to the judge.
func (t *trial) Observe(o mlserve.Outcome) {
	if t.judge != nil {
		t.judge.Observe(o)
	}
}

// Verdict is the judge's.
func (t *trial) Verdict() mlserve.Verdict {
	if t.judge == nil {
		return mlserve.Verdict{}
	}
	return t.judge.Verdict()
}

// stage returns the action of a stage: 0 is the shadow, n is Canary[n-1]. Each
// call makes sure of the split and looks at the judge.
func (r *rollout) stage(n int) func(context.Context, saga.Call, State) (mlserve.Verdict, error) {
	st := r.Shadow
	if n > 0 {
		st = r.Canary[n-1]
	}
	poll := min(max(st.For/20, minPoll), maxPoll)
	return func(ctx context.Context, c saga.Call, s State) (mlserve.Verdict, error) {
		now, err := r.aliased(ctx, champion)
		if err != nil {
			return mlserve.Verdict{}, err
		}
		if now != s.Previous {
			return r.stop(s, fmt.Errorf("the champion is %q now; the rollout began with %q", now, s.Previous))
		}
		t, err := r.ensure(ctx, c.Key, r.traffic(n, s))
		if stop, ok := errors.AsType[*stopError](err); ok {
			return r.stop(s, stop.err)
		}
		if err != nil {
			return mlserve.Verdict{}, err
		}
		verdict := t.Verdict()
		took := time.Since(t.since)
		switch patience := r.patience(st); {
		case verdict.Decision == mlserve.Rollback:
			return r.stop(s, fmt.Errorf("the judge found the candidate worse: %s", describe(verdict)))
		case took < st.For:
			return mlserve.Verdict{}, saga.Ongoing(min(poll, st.For-took))
		case n == 0 || t.judge == nil || verdict.Decision == mlserve.Promote:
			return finite(verdict), nil
		case took >= st.For+patience:
			return r.stop(s, fmt.Errorf("the judge could not decide within %v: %s", st.For+patience, describe(verdict)))
		}
		return mlserve.Verdict{}, saga.Ongoing(poll)
	}
}

func (r *rollout) patience(st Stage) time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return max(10*st.For, minPatience)
}

// traffic is the split of a stage, without its judge.
func (r *rollout) traffic(n int, s State) mlserve.Traffic {
	v := s.Candidate.Manifest.Version
	if n == 0 {
		return mlserve.Traffic{Shadow: []string{v}}
	}
	share := r.Canary[n-1].Share
	return mlserve.Traffic{Arms: []mlserve.Arm{
		{Name: champion, Version: s.Previous, Weight: 1 - share},
		{Name: challenger, Version: v, Weight: share},
	}}
}

// ensure puts the split in place if it is not, and returns its trial.
func (r *rollout) ensure(ctx context.Context, key idempotency.Key, want mlserve.Traffic) (*trial, error) {
	now := r.server.Traffic(r.Model)
	t, ours := now.Judge.(*trial)
	switch {
	case ours && t.key == key && slices.Equal(now.Arms, want.Arms) && slices.Equal(now.Shadow, want.Shadow):
		return t, nil
	case ours && t.key.ID != key.ID:
		return nil, &stopError{fmt.Errorf("the traffic belongs to the rollout %q", t.key.ID)}
	}
	version := want.Shadow
	for _, a := range want.Arms {
		version = append(version, a.Version)
	}
	for _, v := range version {
		err := r.server.Load(ctx, r.Model, v)
		if errors.Is(err, mlserve.ErrModelFile) || errors.Is(err, mlserve.ErrInput) || errors.Is(err, mlserve.ErrOutput) {
			return nil, &stopError{err}
		}
		if err != nil {
			return nil, err
		}
	}
	t = &trial{key: key, since: time.Now()}
	if r.Judge != nil {
		t.judge = r.Judge()
	}
	want.Judge = t
	return t, r.server.Split(r.Model, want)
}

// stopError is a reason to end the rollout at this stage.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// stop rejects the stage. A rejection says that there is no effect, so the
// traffic is put back first.
func (r *rollout) stop(s State, why error) (mlserve.Verdict, error) {
	if err := r.clearTraffic(s); err != nil {
		return mlserve.Verdict{}, fmt.Errorf("%w; and the traffic could not be put back: %w", why, err)
	}
	return mlserve.Verdict{}, saga.Reject(why)
}

// restore is the compensation of every stage.
func (r *rollout) restore(_ context.Context, _ saga.Call, s State, _ saga.Outcome[mlserve.Verdict]) error {
	return r.clearTraffic(s)
}

// clearTraffic sends everything to the primary, which is the champion, unless
// the split is one of another rollout.
func (r *rollout) clearTraffic(s State) error {
	v := s.Candidate.Manifest.Version
	now := r.server.Traffic(r.Model)
	if len(now.Arms) == 0 && len(now.Shadow) == 0 {
		return nil
	}
	named := slices.Contains(now.Shadow, v) || slices.ContainsFunc(now.Arms, func(a mlserve.Arm) bool { return a.Version == v })
	if !named {
		return nil
	}
	return r.server.Split(r.Model, mlserve.Traffic{})
}

// finite makes a verdict fit for JSON: an e-value may be infinite.
func finite(v mlserve.Verdict) mlserve.Verdict {
	v.Evidence = slices.Clone(v.Evidence)
	cut := func(f *float64) {
		if math.IsNaN(*f) {
			*f = 0
		}
		*f = min(max(*f, -math.MaxFloat64), math.MaxFloat64)
	}
	for i := range v.Evidence {
		e := &v.Evidence[i]
		cut(&e.Control)
		cut(&e.Candidate)
		cut(&e.EValue)
	}
	return v
}

func describe(v mlserve.Verdict) string {
	if len(v.Evidence) == 0 {
		return v.Decision.String() + ", without evidence"
	}
	parts := make([]string, 0, len(v.Evidence))
	for _, e := range v.Evidence {
		parts = append(parts, fmt.Sprintf("%s: champion %.4g, candidate %.4g, %d keys", e.Metric, e.Control, e.Candidate, e.Keys))
	}
	return v.Decision.String() + "; " + strings.Join(parts, "; ")
}

func permanent(err error) error { return concurrency.Permanent(err) }
