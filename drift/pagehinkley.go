package drift

import "math"

// Side is the direction of a change that a detector looks for.
type Side int

// The directions.
const (
	Both Side = iota // up or down; the default
	Up               // only a mean that rises
	Down             // only a mean that falls
)

// PageHinkley raises an alarm when the mean moves away from what it has been since the
// last alarm (Page 1954, Hinkley 1971): it sums what each value is above that mean,
// less Delta, and compares the sum with its least so far; and likewise below.
//
//	up   = Fade*up + z - Delta      alarm if up - min(up) > Lambda
//	down = Fade*down + z + Delta    alarm if max(down) - down > Lambda
//	z    = (x - mean)/sd
//
// mean and sd are those of all values since the last alarm, x among them. Delta and Lambda are
// in units of that standard deviation, so the same settings serve every
// scale: x and 1000*x+7 raise the same alarms. Raw takes z = x - mean, as other
// libraries do, and then both are in the unit of x. Infinities are passed over as NaN is.
//
// Without drift, and with independent normal values, the defaults raise an alarm in about
// 110,000 values (measured; heavy tails raise more), and find a shift of one
// standard deviation in about 45 values, of a half in about 100.
type PageHinkley struct {
	Delta  float64 // shift that is tolerated; 0.1. Negative is none
	Lambda float64 // threshold of the sum; 40
	Fade   float64 // weight that the past keeps with each value, below 1; 1 is no fading, and the default
	Min    int     // no alarm before this many values; 30
	Side   Side    // directions; Both
	Raw    bool    // z = x - mean, not divided by the standard deviation

	n, mean, squares    float64
	up, least, down, hi float64
	verdict             Verdict
}

// Observe implements [Detector].
func (d *PageHinkley) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := magnitude(x)
	if !ok {
		return d.verdict
	}
	d.n++
	off := x - d.mean
	d.mean += off / d.n
	z := x - d.mean
	d.squares += off * z
	if !d.Raw {
		// A spread that is only rounding is none.
		sd := math.Sqrt(d.squares / d.n)
		if sd > 1e-12*math.Abs(d.mean) {
			z /= sd
		} else {
			z = 0
		}
	}
	delta := 0.1
	if d.Delta != 0 {
		delta = positive(d.Delta, 0)
	}
	fade := share(d.Fade, 1)
	d.up = fade*d.up + z - delta
	d.least = min(d.least, d.up)
	d.down = fade*d.down + z + delta
	d.hi = max(d.hi, d.down)
	if d.n < float64(atLeast(d.Min, 1, 30)) {
		return d.verdict
	}
	d.verdict = Stable
	lambda := positive(d.Lambda, 40)
	if d.Side != Down && d.up-d.least > lambda || d.Side != Up && d.hi-d.down > lambda {
		d.verdict = Drift
	}
	return d.verdict
}

// Verdict implements [Detector].
func (d *PageHinkley) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *PageHinkley) Reset() {
	*d = PageHinkley{Delta: d.Delta, Lambda: d.Lambda, Fade: d.Fade, Min: d.Min, Side: d.Side, Raw: d.Raw}
}
