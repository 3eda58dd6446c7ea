package mlserve_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/mlserve"
)

// twoOrMore serves versions 0..n-1, the last as the primary.
func twoOrMore(t require.TestingT, n int) *mlserve.Server {
	s := mlserve.New(nil)
	for i := range n {
		require.NoError(t, s.AddModel("m", fmt.Sprint(i), newVersioned(float64(i)), &mlserve.ModelOptions{Policy: mlserve.All()}))
	}
	return s
}

func arms(weights ...float64) []mlserve.Arm {
	out := make([]mlserve.Arm, len(weights))
	for i, w := range weights {
		out[i] = mlserve.Arm{Name: fmt.Sprintf("arm-%d", i), Version: fmt.Sprint(i), Weight: w}
	}
	return out
}

func assignments(t require.TestingT, s *mlserve.Server, keys int) []string {
	out := make([]string, keys)
	for i := range out {
		resp, err := s.Predict(bg, "m", mlserve.Request{Key: fmt.Sprint("customer-", i), Input: rows(1)})
		require.NoError(t, err)
		out[i] = resp.Arm
	}
	return out
}

// Raising the weight of a challenger moves keys from the control to it and
// nowhere else, with one challenger always, with more while none of them
// exceeds its even share.
func TestRaisingAWeightOnlyMovesKeysFromTheControl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		others := rapid.IntRange(1, 4).Draw(t, "challengers")
		weights := make([]float64, others+1)
		left := 1.0
		for i := 1; i <= others; i++ {
			weights[i] = rapid.Float64Range(0, 1/float64(others)).Draw(t, "weight")
			left -= weights[i]
		}
		weights[0] = max(left, 0)
		raised := rapid.IntRange(1, others).Draw(t, "raised")
		by := rapid.Float64Range(0, min(weights[0], 1/float64(others)-weights[raised])).Draw(t, "by")
		salt := rapid.StringN(0, 8, 8).Draw(t, "salt")
		if weights[0] == 0 {
			return
		}
		s := twoOrMore(t, others+1)
		require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(weights...), Salt: salt}))
		before := assignments(t, s, 300)
		require.Equal(t, before, assignments(t, s, 300), "sticky")
		weights[0] -= by
		weights[raised] += by
		require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(weights...), Salt: salt}))
		for i, after := range assignments(t, s, 300) {
			if after != before[i] {
				require.Equal(t, "arm-0", before[i])
				require.Equal(t, fmt.Sprintf("arm-%d", raised), after)
			}
		}
	})
}

func TestSharesAndPropensities(t *testing.T) {
	s := twoOrMore(t, 3)
	require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(6, 3, 1)}))
	count, propensity := map[string]int{}, map[string]float64{}
	for i := range 30_000 {
		key := fmt.Sprint("customer-", i)
		if i%2 == 0 {
			key = "" // by chance, in the same shares
		}
		resp, err := s.Predict(bg, "m", mlserve.Request{Key: key, Input: rows(1)})
		require.NoError(t, err)
		count[resp.Arm]++
		propensity[resp.Arm] = resp.Propensity
		require.Len(t, resp.ID, 32)
	}
	require.Equal(t, map[string]float64{"arm-0": 0.6, "arm-1": 0.3, "arm-2": 0.1}, propensity)
	for arm, p := range propensity {
		require.InDelta(t, 30_000*p, count[arm], 400, "%s; five standard deviations are 424 at most", arm)
	}
}

// Replicas and releases must agree on who is where: these assignments are for
// ever.
// As a few lines of Python find them: FNV-1a of salt, zero byte and key, the
// finalizer of SplitMix64, the upper 32 bits times 10,000 over 2^32, below 3,000.
var stableCanaries = []int{0, 4, 10, 17, 20}

func TestAssignmentIsStable(t *testing.T) {
	s := twoOrMore(t, 2)
	require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(0.7, 0.3), Salt: "spring"}))
	var canary []int
	for i, arm := range assignments(t, s, 30) {
		if arm == "arm-1" {
			canary = append(canary, i)
		}
	}
	require.Equal(t, stableCanaries, canary)
}

func TestSplitRefusesWhatMakesNoSense(t *testing.T) {
	s := twoOrMore(t, 2)
	before := mlserve.Traffic{Arms: arms(1, 1)}
	require.NoError(t, s.Split("m", before))
	for name, tr := range map[string]mlserve.Traffic{
		"negative":  {Arms: arms(1, -1)},
		"no weight": {Arms: arms(0, 0)},
		"same name": {Arms: []mlserve.Arm{{Name: "a", Version: "0", Weight: 1}, {Name: "a", Version: "1", Weight: 1}}},
	} {
		require.ErrorIs(t, s.Split("m", tr), mlserve.ErrInput, name)
	}
	require.ErrorIs(t, s.Split("m", mlserve.Traffic{Arms: arms(1, 1, 1)}), mlserve.ErrNotFound)
	require.ErrorIs(t, s.Split("m", mlserve.Traffic{Shadow: []string{"7"}}), mlserve.ErrNotFound)
	require.ErrorIs(t, s.Split("n", mlserve.Traffic{}), mlserve.ErrNotFound)
	require.Equal(t, before, s.Traffic("m"), "a refused split changes nothing")
	require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(0, 1)}))
	for _, arm := range assignments(t, s, 100) {
		require.Equal(t, "arm-1", arm)
	}
}

// tally is a judge that remembers.
type tally struct {
	mu   sync.Mutex
	seen []mlserve.Outcome
}

func (j *tally) Observe(o mlserve.Outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, o)
}

func (j *tally) Verdict() mlserve.Verdict { return mlserve.Verdict{} }

func (j *tally) take() []mlserve.Outcome {
	j.mu.Lock()
	defer j.mu.Unlock()
	seen := j.seen
	j.seen = nil
	return seen
}

func TestJudgeHearsEveryOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(nil)
		o := &mlserve.ModelOptions{Policy: mlserve.All(), Timeout: 100 * time.Millisecond}
		admit := true
		o.Limiter = limiterFunc(func(context.Context) (concurrency.Permit, error) {
			if !admit {
				return concurrency.Permit{}, concurrency.ErrRejected
			}
			return concurrency.Permit{}, nil
		})
		require.NoError(t, s.AddModel("m", "0", newVersioned(0), o))
		mood := func(context.Context) error { return nil }
		moody := newAnswering(nil)
		moody.f = func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
			if err := mood(ctx); err != nil {
				return nil, err
			}
			return moody.versioned.Predict(ctx, in)
		}
		require.NoError(t, s.AddModel("m", "1", moody, nil))
		j := &tally{}
		require.NoError(t, s.Split("m", mlserve.Traffic{Arms: arms(0, 1), Judge: j}))
		ask := func() error {
			_, err := s.Predict(bg, "m", mlserve.Request{ID: "r", Key: "k", Input: rows(1)})
			return err
		}
		outcomes := func(bad float64, took time.Duration) []mlserve.Outcome {
			o := mlserve.Outcome{ID: "r", Arm: "arm-1", Key: "k", Metric: mlserve.MetricErrors, Value: bad}
			l := o
			l.Metric, l.Value = mlserve.MetricLatency, took.Seconds()
			return []mlserve.Outcome{o, l}
		}
		mood = func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }
		require.NoError(t, ask())
		require.Equal(t, outcomes(0, 20*time.Millisecond), j.take())
		mood = func(context.Context) error { return errBroken }
		require.ErrorIs(t, ask(), errBroken)
		require.Equal(t, outcomes(1, 0), j.take())
		mood = func(ctx context.Context) error { <-ctx.Done(); return errors.New("interrupted") }
		require.ErrorIs(t, ask(), context.DeadlineExceeded)
		require.Equal(t, outcomes(1, 100*time.Millisecond), j.take())

		// What is the caller's own doing, or was never admitted, says nothing about the version.
		_, err := s.Predict(bg, "m", mlserve.Request{Key: "k", Input: mlserve.Rows([]float64{1})})
		require.ErrorIs(t, err, mlserve.ErrInput)
		ctx, cancel := context.WithCancel(bg)
		time.AfterFunc(time.Millisecond, cancel)
		_, err = s.Predict(ctx, "m", mlserve.Request{Key: "k", Input: rows(1)})
		require.Error(t, err)
		admit = false
		require.ErrorIs(t, ask(), concurrency.ErrRejected)
		require.Empty(t, j.take())

		// Later news about a request.
		require.NoError(t, s.Observe("m", mlserve.Outcome{ID: "r", Key: "k", Metric: "click", Value: 1}))
		require.Equal(t, []mlserve.Outcome{{ID: "r", Arm: "arm-1", Key: "k", Metric: "click", Value: 1}}, j.take())
		require.NoError(t, s.Observe("m", mlserve.Outcome{Arm: "arm-0", Metric: "click"}))
		require.True(t, j.take()[0].Control)
		require.ErrorIs(t, s.Observe("m", mlserve.Outcome{Arm: "gone", Metric: "click"}), mlserve.ErrInput)
		require.ErrorIs(t, s.Observe("m", mlserve.Outcome{Metric: "click"}), mlserve.ErrInput)
		require.ErrorIs(t, s.Observe("n", mlserve.Outcome{}), mlserve.ErrNotFound)
	})
}

// A shadow sees every request and nobody sees it: not its answers, not its
// failures, not its slowness. It gets a copy of the input.
func TestShadowIsNeverReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(nil)
		o := &mlserve.ModelOptions{Policy: mlserve.All(), Timeout: time.Second}
		shadow := newAnswering(nil)
		var mu sync.Mutex
		var inputs []float32
		warm := 0
		shadow.f = func(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
			mu.Lock()
			defer mu.Unlock()
			if warm++; warm <= 3 {
				return shadow.versioned.Predict(bg, in)
			}
			inputs = append(inputs, in[0].Data.([]float32)...)
			in[0].Data.([]float32)[0] = 99 // a rude model
			if warm%2 == 0 {
				panic("shadow")
			}
			return nil, errBroken
		}
		require.NoError(t, s.AddModel("m", "7", shadow, o))
		require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
		j := &tally{}
		require.NoError(t, s.Split("m", mlserve.Traffic{Shadow: []string{"7"}, Judge: j}))
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		data := []float32{3, 4}
		for range 20 {
			resp, err := s.Predict(bg, "m", mlserve.Request{Key: "k", Input: mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: data}}})
			require.NoError(t, err)
			require.Equal(t, "1", resp.Version)
			require.Equal(t, []float64{1}, resp.Output[0].Data)
			require.Zero(t, resp.Took)
		}
		synctest.Wait()
		require.Equal(t, []float32{3, 4}, data)
		require.Len(t, inputs, 40)
		counts := map[bool]int{}
		for _, o := range j.take() {
			counts[o.Shadow]++
			if o.Shadow {
				require.Equal(t, "shadow", o.Arm)
				require.False(t, o.Control)
				require.True(t, o.Metric == mlserve.MetricLatency || o.Value == 1)
			}
		}
		require.Equal(t, map[bool]int{false: 40, true: 40}, counts)
		cancel()
		require.NoError(t, <-ended)
	})
}

// A stuck shadow costs a bounded queue, not the requests.
func TestStuckShadowHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(nil)
		stuck := newAnswering(nil)
		calls := 0
		stuck.f = func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
			if calls++; calls > 3 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return stuck.versioned.Predict(ctx, in)
		}
		require.NoError(t, s.AddModel("m", "7", stuck, &mlserve.ModelOptions{Policy: mlserve.All()}))
		require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
		require.NoError(t, s.Split("m", mlserve.Traffic{Shadow: []string{"7"}}))
		start := time.Now()
		for range 1000 { // nobody runs the shadows at all
			_, resp := answer(t, s, "")
			require.Equal(t, "1", resp.Version)
		}
		require.Zero(t, time.Since(start))
	})
}
