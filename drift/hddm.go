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

	all         average
	low, high   average // where mean + bound was least, where mean - bound was greatest
	lowEdge     float64 // that least, and that greatest
	highEdge    float64
	half        float64 // ln(1/Alarm)/2
	alarm, warn float64 // ln(2/Alarm)/2, ln(2/Warn)/2
	verdict     Verdict
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
	if d.all.n == 0 {
		alarm, warn := share(d.Alarm, 0.001), share(d.Warn, 0.005)
		d.half, d.alarm, d.warn = math.Log(1/alarm)/2, math.Log(2/alarm)/2, math.Log(2/warn)/2
	}
	d.all.add(x)
	bound := math.Sqrt(d.half / d.all.n)
	if edge := d.all.mean + bound; d.low.n == 0 || d.lowEdge >= edge {
		d.low, d.lowEdge = d.all, edge
	}
	if edge := d.all.mean - bound; d.high.n == 0 || d.highEdge <= edge {
		d.high, d.highEdge = d.all, edge
	}
	d.verdict = max(d.beyond(d.low, 1), Stable)
	if d.TwoSided {
		d.verdict = max(d.verdict, d.beyond(d.high, -1))
	}
	return d.verdict
}

// beyond compares all values with those before a cut, up (1) or down (-1).
func (d *HDDMA) beyond(cut average, way float64) Verdict {
	if cut.n == d.all.n {
		return Stable
	}
	m := (d.all.n - cut.n) / cut.n / d.all.n
	switch off := way * (d.all.mean - cut.mean); {
	case off < 0: // within any bound
	case off >= math.Sqrt(m*d.alarm):
		return Drift
	case off >= math.Sqrt(m*d.warn):
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
// sqrt((v0+v1)/2 * ln(1/Alarm)). v is counted as other libraries do, from 1 before the first
// value, which is a little less than the sum is. It is the detector for gradual changes.
type HDDMW struct {
	Alarm    float64 // level of one comparison for a Drift; 0.001
	Warn     float64 // the same for a Warning; 0.005
	Lambda   float64 // weight of the newest value; 0.05
	TwoSided bool    // find a mean that falls too, not only one that rises

	all         weighted
	low, high   halves
	alarm, warn float64 // ln(1/Alarm)/2, ln(1/Warn)/2
	lambda      float64
	verdict     Verdict
}

// weighted is an exponentially weighted mean with the sum of its squared weights.
type weighted struct {
	mean, v float64
	any     bool
}

func (w *weighted) add(x, lambda float64) {
	if !w.any {
		*w = weighted{x, 1, true}
	} else {
		w.mean = lambda*x + (1-lambda)*w.mean
	}
	w.v = lambda*lambda + (1-lambda)*(1-lambda)*w.v
}

// halves is the mean before a cut and the one since, and where the cut was made: at the mean
// with its bound, or at its reverse where it is the greatest that counts.
type halves struct {
	before, since weighted
	edge          float64
}

// Observe implements [Detector].
func (d *HDDMW) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := loss(x)
	if !ok {
		return d.verdict
	}
	if !d.all.any {
		d.alarm, d.warn = math.Log(1/share(d.Alarm, 0.001))/2, math.Log(1/share(d.Warn, 0.005))/2
		d.lambda = share(d.Lambda, 0.05)
	}
	d.all.add(x, d.lambda)
	bound := math.Sqrt(d.all.v * d.alarm)
	d.low.add(d.all, x, d.all.mean+bound, d.lambda)
	d.high.add(d.all, x, bound-d.all.mean, d.lambda)
	d.verdict = max(d.low.beyond(1, d.alarm, d.warn), Stable)
	if d.TwoSided {
		d.verdict = max(d.verdict, d.high.beyond(-1, d.alarm, d.warn))
	}
	return d.verdict
}

// add moves the cut to now where the mean with its bound, which edge is, has never been so low.
func (h *halves) add(all weighted, x, edge, lambda float64) {
	if !h.before.any || edge < h.edge {
		*h = halves{before: all, edge: edge}
		return
	}
	h.since.add(x, lambda)
}

func (h *halves) beyond(way, alarm, warn float64) Verdict {
	if !h.since.any {
		return Stable
	}
	v := h.before.v + h.since.v
	switch off := way * (h.since.mean - h.before.mean); {
	case off <= 0: // within any bound
	case off > math.Sqrt(v*alarm):
		return Drift
	case off > math.Sqrt(v*warn):
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
