package mlserve_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/mlservetest"
)

// slowed is a version that takes d and obeys its context.
func slowed(number float64, d time.Duration, errorRate float64) *mlservetest.Faulty {
	return &mlservetest.Faulty{Model: newVersioned(number), Delay: d, ErrorRate: errorRate}
}

func popular(d time.Duration, err error) func(context.Context, mlserve.Request) (mlserve.Batch, error) {
	return func(ctx context.Context, _ mlserve.Request) (mlserve.Batch, error) {
		if d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float64{-1}}}, err
	}
}

func TestLadder(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		model    *mlservetest.Faulty
		ladder   []mlserve.Rung
		limiter  concurrency.Limiter
		caller   time.Duration // deadline of the caller's own
		degraded string
		took     time.Duration
		is       error
	}{
		"in time":             {model: slowed(1, 90*ms, 0), ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}, took: 90 * ms},
		"late, cut off early": {model: slowed(1, 99*ms, 0), ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}, degraded: "popular: late", took: 95 * ms},
		"late, rung needs":    {model: slowed(1, 99*ms, 0), ladder: []mlserve.Rung{{Name: "small", Answer: popular(25*ms, nil), Needs: 30 * ms}}, degraded: "small: late", took: 95 * ms},
		"failing":             {model: slowed(1, 10*ms, 1), ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}, degraded: "popular: failed", took: 10 * ms},
		"rung fails, too": {model: slowed(1, 10*ms, 1), ladder: []mlserve.Rung{
			{Name: "small", Answer: popular(0, errBroken)}, {Name: "popular", Answer: popular(ms, nil)},
		}, degraded: "popular: failed", took: 11 * ms},
		"rung is late, too": {model: slowed(1, time.Second, 0), ladder: []mlserve.Rung{
			{Name: "small", Answer: popular(time.Second, nil), Needs: 20 * ms}, {Name: "popular", Answer: popular(0, nil), Needs: 10 * ms},
		}, degraded: "popular: late", took: 90 * ms},
		"rung panics": {model: slowed(1, 0, 1), ladder: []mlserve.Rung{
			{Name: "small", Answer: func(context.Context, mlserve.Request) (mlserve.Batch, error) { panic("small") }},
			{Name: "popular", Answer: popular(0, nil)},
		}, degraded: "popular: failed"},
		"rung answers nonsense": {model: slowed(1, 0, 1), ladder: []mlserve.Rung{{Name: "odd", Answer: func(context.Context, mlserve.Request) (mlserve.Batch, error) {
			return mlserve.Batch{{Name: "y", Shape: []int{3}, Data: []float64{1}}}, nil
		}}}, is: mlserve.ErrOutput},
		"nothing answers":    {model: slowed(1, 0, 1), ladder: []mlserve.Rung{{Name: "small", Answer: popular(0, errBroken)}}, is: mlservetest.ErrFaulty},
		"no ladder, late":    {model: slowed(1, time.Second, 0), is: context.DeadlineExceeded, took: 100 * ms},
		"not admitted":       {model: slowed(1, 0, 0), limiter: refusing{}, ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}, degraded: "popular: rejected"},
		"not admitted, bare": {model: slowed(1, 0, 0), limiter: refusing{}, is: concurrency.ErrRejected},
		"the caller's deadline is earlier": {model: slowed(1, time.Second, 0), caller: 40 * ms,
			ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}, degraded: "popular: late", took: 35 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := mlserve.New(nil)
				require.NoError(t, s.AddModel("m", "1", c.model, &mlserve.ModelOptions{Timeout: 100 * ms, Ladder: c.ladder, Limiter: c.limiter}))
				ctx, cancel := context.WithTimeout(bg, time.Hour)
				if c.caller > 0 {
					ctx, cancel = context.WithTimeout(bg, c.caller)
				}
				defer cancel()
				resp, err := s.Predict(ctx, "m", mlserve.Request{Input: rows(1)})
				require.Equal(t, c.took, resp.Took)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.degraded, resp.Degraded)
				require.Equal(t, "primary", resp.Arm)
				if c.degraded == "" {
					require.Equal(t, "1", resp.Version)
					require.Equal(t, []float64{1}, resp.Output[0].Data)
				} else {
					require.Empty(t, resp.Version, "no version gave this answer")
					require.Equal(t, []float64{-1}, resp.Output[0].Data)
				}
			})
		})
	}
}

type refusing struct{}

func (refusing) Acquire(context.Context, int64) (concurrency.Permit, error) {
	return concurrency.Permit{}, concurrency.ErrRejected
}

// The limiter learns what came of the work it admitted.
func TestLimiterLearns(t *testing.T) {
	var results []error
	s := mlserve.New(nil)
	limiter := limiterFunc(func(ctx context.Context) (concurrency.Permit, error) {
		return concurrency.NewPermit(ctx, func(known bool, err error) {
			require.True(t, known)
			results = append(results, err)
		}), nil
	})
	faulty := slowed(1, 0, 0)
	require.NoError(t, s.AddModel("m", "1", faulty, &mlserve.ModelOptions{Limiter: limiter}))
	answer(t, s, "")
	faulty.ErrorRate = 1
	_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(1)})
	require.ErrorIs(t, err, mlservetest.ErrFaulty)
	require.Equal(t, []error{nil, mlservetest.ErrFaulty}, results)
}

type limiterFunc func(context.Context) (concurrency.Permit, error)

func (f limiterFunc) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) { return f(ctx) }

// Two versions of different latency share one deadline: the quick one answers,
// the slow one's keys get the ladder, nobody waits longer than promised.
func TestTwoVersionsUnderOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(nil)
		o := &mlserve.ModelOptions{Policy: mlserve.All(), Timeout: 100 * time.Millisecond, Ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}}}
		require.NoError(t, s.AddModel("m", "0", slowed(0, 20*time.Millisecond, 0), o))
		require.NoError(t, s.AddModel("m", "1", slowed(1, 300*time.Millisecond, 0), nil))
		require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(0.75, 0.25)}))
		start := time.Now()
		rep := mlservetest.Drive(bg, s, "m", mlservetest.Traffic{Rate: 200, For: 10 * time.Second, Input: func(string) mlserve.Batch { return rows(2) }})
		require.Less(t, time.Since(start), 11*time.Second)
		require.NoError(t, rep.Err)
		require.Equal(t, 2000, rep.Requests)
		require.Zero(t, rep.Errors)
		require.Equal(t, rep.ByArm["arm-1"], rep.Degraded)
		require.Equal(t, map[string]int{"0": 2000 - rep.Degraded}, rep.ByVersion)
		require.InDelta(t, 500, rep.Degraded, 130)
		require.Equal(t, 20*time.Millisecond, rep.P50)
		require.Equal(t, 95*time.Millisecond, rep.P99)
	})
}

// The caller's own end is its own: no rung is asked.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := false
		s := mlserve.New(nil)
		require.NoError(t, s.AddModel("m", "1", slowed(1, time.Second, 0), &mlserve.ModelOptions{Ladder: []mlserve.Rung{{
			Name: "popular", Answer: func(context.Context, mlserve.Request) (mlserve.Batch, error) { asked = true; return nil, nil },
		}}}))
		ctx, cancel := context.WithCancel(bg)
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := s.Predict(ctx, "m", mlserve.Request{Input: rows(1)})
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, asked)
	})
}
