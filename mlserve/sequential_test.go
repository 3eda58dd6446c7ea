package mlserve_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/mlservetest"
)

func TestSequentialKeepsTheJudgesContract(t *testing.T) {
	mlservetest.TestJudge(t, 0.05, func() mlserve.Judge { return &mlserve.Sequential{} })
}

// run feeds arms of bad shares p0 and p1 until a verdict, and returns it with
// the candidate's keys then.
func run(q *mlserve.Sequential, seed uint64, p0, p1, share float64, most int) (mlserve.Decision, int) {
	rng, keys := rand.New(rand.NewPCG(seed, 0)), 0
	for i := range most {
		o := mlserve.Outcome{Key: fmt.Sprint(i), Metric: mlserve.MetricErrors, Control: rng.Float64() >= share}
		p := p0
		if !o.Control {
			p = p1
			keys++
		}
		if rng.Float64() < p {
			o.Value = 1
		}
		q.Observe(o)
		if d := q.Verdict().Decision; d != mlserve.Hold {
			return d, keys
		}
	}
	return mlserve.Hold, keys
}

func errorsOnly(minKeys int) *mlserve.Sequential {
	return &mlserve.Sequential{MinKeys: minKeys, Metrics: []mlserve.Metric{{Name: mlserve.MetricErrors, Margin: 0.02}}}
}

// A candidate as good as the control is promoted; one worse by the margin or
// more is promoted no more often than the level says.
func TestSequentialPromotesByNonInferiority(t *testing.T) {
	const runs = 200
	promoted, wrong, keys := 0, 0, 0
	for seed := range uint64(runs) {
		d, n := run(errorsOnly(200), seed, 0.01, 0.01, 0.5, 20_000)
		if d == mlserve.Promote {
			promoted++
			keys += n
		}
		if d, _ := run(errorsOnly(200), seed, 0.01, 0.03, 0.5, 4_000); d == mlserve.Promote {
			wrong++
		}
	}
	t.Logf("promoted: %d of %d equal candidates, after %d keys on average; %d of those at the margin", promoted, runs, keys/max(promoted, 1), wrong)
	require.GreaterOrEqual(t, promoted, runs*9/10)
	require.LessOrEqual(t, float64(wrong), runs*0.05+3*math.Sqrt(runs*0.05*0.95))
}

func TestSequentialNeedsItsKeysToPromote(t *testing.T) {
	q := errorsOnly(500)
	for i := range 499 {
		q.Observe(mlserve.Outcome{Key: fmt.Sprint("a", i), Metric: mlserve.MetricErrors, Control: true})
		q.Observe(mlserve.Outcome{Key: fmt.Sprint("b", i), Metric: mlserve.MetricErrors})
	}
	require.Equal(t, mlserve.Hold, q.Verdict().Decision)
	q.Observe(mlserve.Outcome{Key: "a", Metric: mlserve.MetricErrors, Control: true})
	q.Observe(mlserve.Outcome{Key: "b", Metric: mlserve.MetricErrors})
	v := q.Verdict()
	require.Equal(t, mlserve.Promote, v.Decision)
	require.Equal(t, 500, v.Evidence[0].Keys)
	require.Zero(t, v.Evidence[0].Candidate)
}

func TestSequentialPower(t *testing.T) {
	for _, c := range []struct {
		p1   float64
		most int // keys of the candidate, median
	}{{0.05, 300}, {0.2, 60}} {
		var keys []int
		for seed := range uint64(50) {
			d, n := run(&mlserve.Sequential{MinKeys: 1 << 30, Metrics: []mlserve.Metric{{Name: mlserve.MetricErrors}}}, seed, 0.01, c.p1, 0.1, 50_000)
			require.Equal(t, mlserve.Rollback, d, "errors of %v, seed %d", c.p1, seed)
			keys = append(keys, n)
		}
		t.Logf("1 %% against %v %%: median %d keys of the candidate", 100*c.p1, median(keys))
		require.LessOrEqual(t, median(keys), c.most)
	}
}

func median(x []int) int {
	best := 0
	for _, v := range x {
		below := 0
		for _, w := range x {
			if w <= v {
				below++
			}
		}
		if 2*below >= len(x) && (best == 0 || v < best) {
			best = v
		}
	}
	return best
}

// The e-value of one block against the formula worked out by hand: one unit of
// each arm, control good, candidate bad, no history, so q0 = 0.5/20 = 0.025.
func TestSequentialEvidenceByHand(t *testing.T) {
	q := errorsOnly(0)
	q.Observe(mlserve.Outcome{Key: "a", Metric: mlserve.MetricErrors, Control: true})
	q.Observe(mlserve.Outcome{Key: "b", Metric: mlserve.MetricErrors, Value: 1})
	// Lift 3: q1 = (3·0.025/0.975)/(1+3·0.025/0.975) = 1/14 = 0.0714286, r = 0.0482143,
	// E = (0.975/0.9517857)·(0.0714286/0.0482143) = 1.024390·1.481481 = 1.517615.
	// The e-value is the mean over the six lifts.
	want := 0.0
	for _, q1 := range []float64{1.5 / 40.5, 2 / 41.0, 3 / 42.0, 5 / 44.0, 10 / 49.0, 30 / 69.0} {
		r := (0.025 + q1) / 2
		want += (1 - 0.025) / (1 - r) * q1 / r / 6
	}
	v := q.Verdict()
	require.InDelta(t, want, v.Evidence[0].EValue, 1e-12)
	require.InDelta(t, 1.0, v.Evidence[0].Candidate, 0)
	require.Equal(t, mlserve.Hold, v.Decision)
}

func TestSequentialMetrics(t *testing.T) {
	q := &mlserve.Sequential{Metrics: []mlserve.Metric{{Name: "click", More: true}, {Name: mlserve.MetricLatency, Over: 0.1}}}
	q.Observe(mlserve.Outcome{Key: "a", Metric: "click", Value: 1, Control: true})
	q.Observe(mlserve.Outcome{Key: "b", Metric: "click", Value: 0})
	q.Observe(mlserve.Outcome{Key: "a", Metric: mlserve.MetricLatency, Value: 0.2, Control: true})
	q.Observe(mlserve.Outcome{Key: "b", Metric: mlserve.MetricLatency, Value: 0.1})
	q.Observe(mlserve.Outcome{Key: "c", Metric: mlserve.MetricLatency, Value: math.NaN()})
	q.Observe(mlserve.Outcome{Key: "c", Metric: "unheard of", Value: 1})
	e := q.Verdict().Evidence
	require.Equal(t, []float64{0, 1}, []float64{e[0].Control, e[0].Candidate})
	require.Equal(t, []float64{1, 0.5}, []float64{e[1].Control, e[1].Candidate})
	require.Equal(t, 2, e[1].Keys)
}
