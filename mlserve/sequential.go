package mlserve

import (
	"math"
	"sync"
)

// Sequential is a [Judge] that may be asked at any time, after every outcome
// if need be, without losing its guarantee: a candidate that is not worse than
// the control is rolled back with a probability of at most FalseRollback,
// however often one looks and whenever one stops. The zero value is ready. Set
// the fields before use and do not copy it; take a new one for each stage of a
// rollout. It is safe for concurrent use.
//
// # What is counted
//
// Every metric is turned into good and bad. The unit is the key: the first
// outcome of a key counts, in whichever arm it came, and later ones do not,
// since the requests of one customer succeed and fail together and would pass
// for independent evidence. Outcomes without a key are units of their own. The
// candidate is every arm but the first. Shadow outcomes are not counted: they
// come from the same keys as the control's. Up to a million keys are
// remembered (about 40 MB); further ones are not counted.
//
// # How it decides
//
// Units are gathered into blocks; a block ends with the first unit that leaves
// it with at least one of each arm. Let block j have n0 units of the control,
// b0 of them bad, and n1, b1 of the candidate. For a null hypothesis H about
// the shares of bad keys (p0, p1) that is a convex set, for any alternative
// (q0, q1) chosen before the block, and (r0, r1) the point of H closest to it,
// that is with the least n0·KL(q0‖r0) + n1·KL(q1‖r1),
//
//	E_j = (q0/r0)^b0 · ((1-q0)/(1-r0))^(n0-b0) · (q1/r1)^b1 · ((1-q1)/(1-r1))^(n1-b1)
//
// has an expectation of at most 1 under H: the logarithm of its expectation is
// concave in (p0, p1), 0 at (r0, r1), and does not rise from there into H,
// because (r0, r1) is closest. So the product over blocks is a test
// supermartingale, and by Ville's inequality exceeds 1/a with probability at
// most a. The same holds for a mixture of such products. Blocks for two streams
// are from Turner, Ly and Grünwald, "Generic E-variables for exact sequential
// k-sample tests that allow for optional stopping" (2021, arXiv:2106.02693);
// convex nulls from Turner and Grünwald (2022, arXiv:2203.09785).
//
// Rollback: H is p1 <= p0. The alternatives are q0 as estimated from the
// control's units before the block, and q1 with odds 1.5, 2, 3, 5, 10 and 30
// times as high, mixed with equal weights. One metric whose product reaches
// len(Metrics)/FalseRollback rolls back, for good.
//
// Promote: H is p1 >= p0 + Margin, the alternative that both shares are as
// estimated from both arms. All metrics must have reached 1/FalseRollback, with
// at least MinKeys keys of each arm counted: a candidate that is worse by more
// than the margin in some metric is promoted with a probability of at most
// FalseRollback. That no alarm rang is not evidence: without traffic the
// verdict is [Hold].
//
// The guarantee needs keys to be assigned by chance, as a [Traffic] does, and
// the order in which outcomes arrive not to depend on whether they are bad.
type Sequential struct {
	// FalseRollback is the probability of rolling back a candidate that is not
	// worse, over all metrics and looks, and of promoting one that is worse by
	// more than a margin; 0 means 0.05.
	FalseRollback float64
	// Metrics to judge. Empty means MetricErrors with a margin of 0.02, and
	// MetricLatency over 0.1 s with a margin of 0.05. At most 64.
	Metrics []Metric
	// MinKeys is how many keys of each arm must be counted before a promotion;
	// 0 means 1,000. A rollback needs no minimum.
	MinKeys int

	mu    sync.Mutex
	tests []test
	keys  map[uint64]uint64 // hash of the key → the metrics it has been counted in
	bad   bool
}

// Metric says when a value is bad.
type Metric struct {
	// Name of the outcomes, MetricErrors, MetricLatency or one's own.
	Name string
	// Margin is by how much the candidate's share of bad keys may exceed the
	// control's and still be promoted, above 0; 0 means 0.02.
	Margin float64
	// Over is the limit, in the metric's unit: a value above it is bad. An
	// error is 1, so that 0 suits it.
	Over float64
	// More says that more is better: a value above Over is good, others bad.
	More bool
}

const (
	maxKeys    = 1 << 20
	maxMetrics = 64
)

// lifts are the odds ratios of the alternatives to H: p1 <= p0.
var lifts = [...]float64{1.5, 2, 3, 5, 10, 30}

// test is the state of one metric. Products are kept as logarithms.
type test struct {
	Metric

	units, bads [2]int // of the finished blocks, control and candidate
	n, b        [2]int // of the block being gathered
	worse       [len(lifts)]float64
	fine        float64 // evidence for non-inferiority
	fineMax     float64
	worseMax    float64
}

func (q *Sequential) level() float64 {
	if q.FalseRollback > 0 && q.FalseRollback < 1 {
		return q.FalseRollback
	}
	return 0.05
}

func (q *Sequential) start() {
	if q.tests != nil {
		return
	}
	metrics := q.Metrics
	if len(metrics) == 0 {
		metrics = []Metric{{Name: MetricErrors, Margin: 0.02}, {Name: MetricLatency, Over: 0.1, Margin: 0.05}}
	}
	metrics = metrics[:min(len(metrics), maxMetrics)]
	for _, m := range metrics {
		if !(m.Margin > 0) {
			m.Margin = 0.02
		}
		q.tests = append(q.tests, test{Metric: m})
	}
	q.keys = map[uint64]uint64{}
}

// Observe counts an outcome if it is the first of its key and metric. NaN is
// bad, whatever the metric.
func (q *Sequential) Observe(o Outcome) {
	if o.Shadow {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.start()
	for n := range q.tests {
		t := &q.tests[n]
		if t.Name != o.Metric || o.Key != "" && !q.first(o.Key, n) {
			continue
		}
		arm := 1
		if o.Control {
			arm = 0
		}
		t.n[arm]++
		if over := o.Value > t.Over; over != t.More || math.IsNaN(o.Value) {
			t.b[arm]++
		}
		if t.n[0] > 0 && t.n[1] > 0 {
			t.finish()
			q.bad = q.bad || t.worseMax >= math.Log(float64(len(q.tests))/q.level())
		}
	}
}

// first says whether a key is new to a metric, and takes note.
func (q *Sequential) first(key string, metric int) bool {
	h := mix(hashString(fnvOffset, key))
	seen, known := q.keys[h]
	if seen&(1<<metric) != 0 || !known && len(q.keys) >= maxKeys {
		return false
	}
	q.keys[h] = seen | 1<<metric
	return true
}

// finish multiplies the block's evidence in and begins the next one.
func (t *test) finish() {
	q0 := share(t.bads[0], t.units[0])
	for i, lift := range lifts {
		odds := lift * q0 / (1 - q0)
		q1 := odds / (1 + odds)
		// The closest point of p1 <= p0 is where both are the mean share.
		r := (float64(t.n[0])*q0 + float64(t.n[1])*q1) / float64(t.n[0]+t.n[1])
		t.worse[i] += t.evidence(q0, q1, r, r)
	}
	q := share(t.bads[0]+t.bads[1], t.units[0]+t.units[1])
	if r := t.closest(q); r > 0 {
		t.fine += t.evidence(q, q, r, r+t.Margin)
	}
	t.worseMax = max(t.worseMax, logMean(t.worse[:]))
	t.fineMax = max(t.fineMax, t.fine)
	for arm := range t.n {
		t.units[arm] += t.n[arm]
		t.bads[arm] += t.b[arm]
	}
	t.n, t.b = [2]int{}, [2]int{}
}

// share estimates the share of bad units: as if 20 had been seen before,
// half of one of them bad. It is never 0 or 1.
func share(bad, units int) float64 {
	return (float64(bad) + 0.5) / (float64(units) + 20)
}

// evidence is log E of the block.
func (t *test) evidence(q0, q1, r0, r1 float64) float64 {
	b0, g0 := float64(t.b[0]), float64(t.n[0]-t.b[0])
	b1, g1 := float64(t.b[1]), float64(t.n[1]-t.b[1])
	return b0*math.Log(q0/r0) + g0*math.Log((1-q0)/(1-r0)) + b1*math.Log(q1/r1) + g1*math.Log((1-q1)/(1-r1))
}

// closest finds r so that (r, r+Margin) is the point of p1 >= p0+Margin
// closest to (q, q). The distance is convex in r: its slope is 0 there. It is
// 0 if the margin leaves no such point.
func (t *test) closest(q float64) float64 {
	lo, hi := 0.0, min(q, 1-t.Margin)
	if hi <= 0 {
		return 0
	}
	for range 60 {
		r := (lo + hi) / 2
		s := r + t.Margin
		if float64(t.n[0])*(r-q)/(r*(1-r))+float64(t.n[1])*(s-q)/(s*(1-s)) > 0 {
			hi = r
		} else {
			lo = r
		}
	}
	return (lo + hi) / 2
}

// logMean is log(mean(exp(x))).
func logMean(x []float64) float64 {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum/float64(len(x)))
}

// Verdict says what can be concluded now. [Rollback] is final; EValue is the
// evidence that the candidate is worse, of which len(Metrics)/FalseRollback in
// one metric is enough.
func (q *Sequential) Verdict() Verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.start()
	v := Verdict{Decision: Promote}
	minKeys := positive(q.MinKeys, 1000)
	for n := range q.tests {
		t := &q.tests[n]
		units := [2]int{t.units[0] + t.n[0], t.units[1] + t.n[1]}
		bads := [2]int{t.bads[0] + t.b[0], t.bads[1] + t.b[1]}
		v.Evidence = append(v.Evidence, Evidence{
			Metric: t.Name, Control: ratio(bads[0], units[0]), Candidate: ratio(bads[1], units[1]),
			Keys: units[1], EValue: math.Min(math.Exp(logMean(t.worse[:])), math.MaxFloat64),
		})
		if t.fineMax < math.Log(1/q.level()) || min(units[0], units[1]) < minKeys {
			v.Decision = Hold
		}
	}
	if q.bad {
		v.Decision = Rollback
	}
	return v
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
