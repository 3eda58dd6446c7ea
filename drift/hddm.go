package drift

import "math"

// HDDMA watches the mean of errors or losses between 0 and 1 (what is beyond is taken as 0
// or 1) and bounds by Hoeffding's inequality how far it may move by chance (Frias-Blanco and
// others 2015, the A-test). The values before the cut at which mean + bound was least are
// compared with those after it: with n of all values and n0 before the cut, it is
// a [Drift] if
//
//	mean(n) - mean(n0) >= sqrt((n-n0)/(n*n0)/2 * ln(2/Alarm))
//
// and a [Warning] with Warn for Alarm. It is the detector for sudden changes; [HDDMW] for gradual ones.
type HDDMA struct {
	Alarm    float64 // level of one comparison for a Drift; 0.001
	Warn     float64 // the same for a Warning; 0.005
	TwoSided bool    // find a mean that falls too, not only one that rises

	all       average
	low, high average // where mean + bound was least, where mean - bound was greatest
	verdict   Verdict
}

// Observe implements [Detector].
func (d *HDDMA) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := loss(x)
	if !ok {
		return d.verdict
	}
	alarm, warn := share(d.Alarm, 0.001), share(d.Warn, 0.005)
	half := math.Log(1/alarm) / 2
	d.all.add(x)
	bound := math.Sqrt(half / d.all.n)
	if d.low.n == 0 || d.low.mean+math.Sqrt(half/d.low.n) >= d.all.mean+bound {
		d.low = d.all
	}
	if d.high.n == 0 || d.high.mean-math.Sqrt(half/d.high.n) <= d.all.mean-bound {
		d.high = d.all
	}
	d.verdict = max(d.beyond(d.low, 1, alarm, warn), Stable)
	if d.TwoSided {
		d.verdict = max(d.verdict, d.beyond(d.high, -1, alarm, warn))
	}
	return d.verdict
}

// beyond compares all values with those before a cut, up (1) or down (-1).
func (d *HDDMA) beyond(cut average, way, alarm, warn float64) Verdict {
	if cut.n == d.all.n {
		return Stable
	}
	m := (d.all.n - cut.n) / cut.n / d.all.n / 2
	switch off := way * (d.all.mean - cut.mean); {
	case off >= math.Sqrt(m*math.Log(2/alarm)):
		return Drift
	case off >= math.Sqrt(m*math.Log(2/warn)):
		return Warning
	}
	return Stable
}

// Verdict implements [Detector].
func (d *HDDMA) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *HDDMA) Reset() { *d = HDDMA{Alarm: d.Alarm, Warn: d.Warn, TwoSided: d.TwoSided} }

// HDDMW is [HDDMA] with exponentially weighted means, bounded by McDiarmid's
// inequality (the W-test of the same paper): with v the sum of the squared
// weights, the mean after the cut differs from that before it if it is further away than
// sqrt((v0+v1)/2 * ln(1/Alarm)). It is the detector for gradual changes.
type HDDMW struct {
	Alarm    float64 // level of one comparison for a Drift; 0.001
	Warn     float64 // the same for a Warning; 0.005
	Lambda   float64 // weight of the newest value; 0.05
	TwoSided bool    // find a mean that falls too, not only one that rises

	all       weighted
	low, high halves
	verdict   Verdict
}

// weighted is an exponentially weighted mean with the sum of its squared weights.
type weighted struct {
	mean, v float64
	any     bool
}

func (w *weighted) add(x, lambda float64) {
	if !w.any {
		*w = weighted{x, 1, true}
		return
	}
	w.mean = lambda*x + (1-lambda)*w.mean
	w.v = lambda*lambda + (1-lambda)*(1-lambda)*w.v
}

// halves is the mean before a cut and the one since.
type halves struct{ before, since weighted }

// Observe implements [Detector].
func (d *HDDMW) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := loss(x)
	if !ok {
		return d.verdict
	}
	alarm, warn, lambda := share(d.Alarm, 0.001), share(d.Warn, 0.005), share(d.Lambda, 0.05)
	d.all.add(x, lambda)
	d.low.add(d.all, x, 1, alarm, lambda)
	d.high.add(d.all, x, -1, alarm, lambda)
	d.verdict = max(d.low.beyond(1, alarm, warn), Stable)
	if d.TwoSided {
		d.verdict = max(d.verdict, d.high.beyond(-1, alarm, warn))
	}
	return d.verdict
}

// add moves the cut to now where the mean, with its bound, has never been so low
// (way 1) or so high (-1).
func (h *halves) add(all weighted, x, way, alarm, lambda float64) {
	edge := func(w weighted) float64 { return way*w.mean + math.Sqrt(w.v*math.Log(1/alarm)/2) }
	if !h.before.any || edge(all) < edge(h.before) {
		*h = halves{before: all}
		return
	}
	h.since.add(x, lambda)
}

func (h *halves) beyond(way, alarm, warn float64) Verdict {
	if !h.since.any {
		return Stable
	}
	v := (h.before.v + h.since.v) / 2
	switch off := way * (h.since.mean - h.before.mean); {
	case off > math.Sqrt(v*math.Log(1/alarm)):
		return Drift
	case off > math.Sqrt(v*math.Log(1/warn)):
		return Warning
	}
	return Stable
}

// Verdict implements [Detector].
func (d *HDDMW) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *HDDMW) Reset() {
	*d = HDDMW{Alarm: d.Alarm, Warn: d.Warn, Lambda: d.Lambda, TwoSided: d.TwoSided}
}
