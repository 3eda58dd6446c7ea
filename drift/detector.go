package drift

import "math"

// Detector watches a stream, one value at a time. [ADWIN], [PageHinkley], [KSWIN]
// and [EProcess] are for values of any kind, [DDM], [EDDM], [HDDMA] and [HDDMW] for
// errors (1 wrong, 0 right). All are ready as zero values; their exported fields are settings,
// to be made before the first Observe, where zero, NaN and what is out of range mean the
// default. [SlidingKS] needs a reference and is made by [NewSlidingKS].
//
// Observe takes the next value and says how things stand: [Insufficient] while
// too few values have been seen, [Stable], [Warning] (only the detectors of errors),
// and [Drift] at the value that raises an alarm. The next call of Observe begins
// anew: ADWIN keeps the newer part of its window, EProcess its reference, the
// others forget all. So every Drift is one alarm. SlidingKS is the exception: it
// keeps on saying Drift while its window differs from the reference.
//
// NaN is a missing value and is passed over. No value makes a detector panic or
// compute a NaN. Observe allocates nothing, after its first call and, with an EProcess
// that learns its reference, the call at which it has. A detector belongs to one goroutine at a time.
//
// # Which one
//
// Against training data: SlidingKS (exact, and shows how far the window is off) or
// EProcess (looks at every value, and its rate of false alarms holds all the same). A change
// within the stream, of no known reference: PageHinkley for the mean, and
// ADWIN for the mean with a window that fits itself; KSWIN for the shape. Errors of a
// model: HDDMA for sudden and HDDMW for gradual change; DDM and EDDM are the classics.
type Detector interface {
	// Observe takes the next value and returns the new Verdict.
	Observe(x float64) Verdict
	// Verdict returns what the last Observe did, before the first [Insufficient].
	Verdict() Verdict
	// Reset forgets what was observed, and keeps the settings and the reference.
	Reset()
}

// hugest bounds what enters a sum of squares, so that it stays finite.
const hugest = 1e140

// magnitude returns x within what can be squared and summed, and false for
// what has no magnitude: NaN and the infinities.
func magnitude(x float64) (float64, bool) {
	if x-x != 0 {
		return 0, false
	}
	return min(max(x, -hugest), hugest), true
}

// loss returns x as an error between 0 and 1, and false for NaN.
func loss(x float64) (float64, bool) { return min(max(x, 0), 1), x == x }

// positive returns v, or def where v is no positive number.
func positive(v, def float64) float64 {
	if v > 0 && !math.IsInf(v, 1) {
		return v
	}
	return def
}

// share returns v, or def where v is not between 0 and 1.
func share(v, def float64) float64 {
	if v > 0 && v < 1 {
		return v
	}
	return def
}

// atLeast returns v, or def where v is less than least.
func atLeast(v, least, def int) int {
	if v >= least {
		return v
	}
	return def
}

// average is a running mean.
type average struct {
	n    float64
	mean float64
}

func (a *average) add(x float64) {
	a.n++
	a.mean += (x - a.mean) / a.n
}
