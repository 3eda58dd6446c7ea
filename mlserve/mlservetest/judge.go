package mlservetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mainstay-go/mainstay/mlserve"
)

const (
	judgeRuns  = 300
	judgeUnits = 3000
	healthy    = 0.01 // share of bad keys of the control
)

// world is simulated traffic: keys that come once or often, some of them bad.
type world struct {
	control, candidate float64 // share of bad keys
	share              float64 // of keys that the candidate gets
	units              int     // keys
}

// TestJudge checks a judge of [mlserve.MetricErrors] and
// [mlserve.MetricLatency] against what a rollout relies on:
//
//   - calibration: over many runs of a candidate that equals the control, it
//     rolls back in no more than falseRollback of them, though it is asked after
//     every few outcomes;
//   - power: it does roll back a candidate that fails much more often;
//   - sticky keys: one customer whose requests all fail is not evidence;
//   - silence: no outcomes, or those of one arm only, are a Hold;
//   - shadows alone promote nothing.
//
// open gives a fresh judge, which must look at errors with at most 1,000 keys
// needed for any verdict. Runs are seeded.
func TestJudge(t *testing.T, falseRollback float64, open func() mlserve.Judge) {
	t.Helper()
	t.Run("calibration", func(t *testing.T) {
		for _, share := range []float64{0.5, 0.1} {
			wrong := 0
			for run := range judgeRuns {
				w := world{control: healthy, candidate: healthy, share: share, units: judgeUnits}
				if w.play(open(), uint64(run)) == mlserve.Rollback {
					wrong++
				}
			}
			// The count may exceed its expectation by chance: three standard deviations.
			limit := judgeRuns*falseRollback + 3*math.Sqrt(judgeRuns*falseRollback*(1-falseRollback))
			if float64(wrong) > limit {
				t.Errorf("candidate equal to the control, %v of the keys: %d of %d runs rolled back; promised is a share of %v", share, wrong, judgeRuns, falseRollback)
			}
			t.Logf("share %v: %d of %d equal candidates rolled back", share, wrong, judgeRuns)
		}
	})
	t.Run("power", func(t *testing.T) {
		missed := 0
		for run := range 50 {
			w := world{control: healthy, candidate: 0.2, share: 0.1, units: judgeUnits}
			if w.play(open(), uint64(run)) != mlserve.Rollback {
				missed++
			}
		}
		if missed > 0 {
			t.Errorf("candidate with 20 %% errors against 1 %%: not rolled back in %d of 50 runs with %d keys", missed, judgeUnits/10)
		}
	})
	t.Run("sticky keys", func(t *testing.T) {
		j := open()
		for i := range 1000 {
			observe(j, fmt.Sprintf("good-%d", i), true, 0)
			observe(j, "one angry customer", false, 1)
			if d := j.Verdict().Decision; d != mlserve.Hold {
				t.Fatalf("verdict %v after %d failures of a single key; the unit is the key", d, i+1)
			}
		}
	})
	t.Run("silence", func(t *testing.T) {
		j := open()
		if d := j.Verdict().Decision; d != mlserve.Hold {
			t.Errorf("verdict %v without any outcome; want hold", d)
		}
		for i := range 2000 {
			observe(j, fmt.Sprintf("key-%d", i), true, 0)
		}
		if d := j.Verdict().Decision; d != mlserve.Hold {
			t.Errorf("verdict %v without an outcome of the candidate; want hold", d)
		}
	})
	t.Run("shadow", func(t *testing.T) {
		j := open()
		for i := range 2000 {
			key := fmt.Sprintf("key-%d", i)
			observe(j, key, true, 0)
			for _, metric := range []string{mlserve.MetricErrors, mlserve.MetricLatency} {
				j.Observe(mlserve.Outcome{Key: key, Arm: "shadow", Shadow: true, Metric: metric})
			}
		}
		if d := j.Verdict().Decision; d == mlserve.Promote {
			t.Errorf("verdict %v on answers that nobody got", d)
		}
	})
}

func observe(j mlserve.Judge, key string, control bool, bad float64) {
	arm := "candidate"
	if control {
		arm = "control"
	}
	j.Observe(mlserve.Outcome{Key: key, Arm: arm, Control: control, Metric: mlserve.MetricErrors, Value: bad})
	j.Observe(mlserve.Outcome{Key: key, Arm: arm, Control: control, Metric: mlserve.MetricLatency, Value: 0.001})
}

// play feeds the judge and returns its first verdict to roll back, else the
// last one. Every tenth key comes back, with the fate it had.
func (w world) play(j mlserve.Judge, seed uint64) mlserve.Decision {
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range w.units {
		control := rng.Float64() >= w.share
		p, bad := w.candidate, 0.0
		if control {
			p = w.control
		}
		if rng.Float64() < p {
			bad = 1
		}
		key := fmt.Sprintf("key-%d", i)
		observe(j, key, control, bad)
		if i%10 == 0 {
			observe(j, key, control, bad)
		}
		if i%20 == 19 {
			if d := j.Verdict().Decision; d == mlserve.Rollback {
				return d
			}
		}
	}
	return j.Verdict().Decision
}
