package drift

import "math"

// DDM watches the rate of errors of a model: x is 1 for a wrong prediction and 0 for a right
// one, or a loss between (what is beyond is taken as 0 or 1). It compares the rate p and its
// standard deviation s = sqrt(p(1-p)/n) with what they were where p+s was least (Gama,
// Medas, Castillo and Rodrigues 2004): [Drift] if p+s > p_min + 3*s_min, [Warning] at 2.
//
// It finds errors that become more, not fewer. Where the first Warm values are without any error,
// the first error is an alarm: [HDDMA] has no such trap, and has a bound for false alarms.
type DDM struct {
	Warn  float64 // standard deviations to a Warning; 2
	Alarm float64 // standard deviations to a Drift; 3
	Warm  int     // no verdict for this many values; 30

	rate        average
	least       float64 // p+s where it was least
	leastP      float64
	leastS      float64
	established bool
	verdict     Verdict
}

// Observe implements [Detector].
func (d *DDM) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := loss(x)
	if !ok {
		return d.verdict
	}
	d.rate.add(x)
	if d.rate.n <= float64(atLeast(d.Warm, 1, 30)) {
		return d.verdict
	}
	p := d.rate.mean
	s := math.Sqrt(max(p*(1-p), 0) / d.rate.n)
	if !d.established || p+s <= d.least {
		d.established = true
		d.least, d.leastP, d.leastS = p+s, p, s
	}
	switch {
	case p+s > d.leastP+positive(d.Alarm, 3)*d.leastS:
		d.verdict = Drift
	case p+s > d.leastP+positive(d.Warn, 2)*d.leastS:
		d.verdict = Warning
	default:
		d.verdict = Stable
	}
	return d.verdict
}

// Verdict implements [Detector].
func (d *DDM) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *DDM) Reset() { *d = DDM{Warn: d.Warn, Alarm: d.Alarm, Warm: d.Warm} }

// EDDM watches the gaps between errors (a value above 0.5), as [DDM] does their rate: they
// become shorter. It compares t = mean + 2 standard deviations of the gaps with the
// greatest t so far (Baena-Garcia and others 2006): [Drift] where the quotient is below Alarm,
// [Warning] below Warn. It is known for many false alarms on a steady stream.
type EDDM struct {
	Warn  float64 // quotient below which is a Warning; 0.95
	Alarm float64 // quotient below which is a Drift; 0.9
	Warm  int     // no verdict for this many values, nor for this many errors; 30

	seen, errors float64
	last         float64 // number of the last error
	gap          average
	squares      float64
	most         float64
	verdict      Verdict
}

// Observe implements [Detector].
func (d *EDDM) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.Reset()
	}
	x, ok := loss(x)
	if !ok {
		return d.verdict
	}
	d.seen++
	warm := float64(atLeast(d.Warm, 1, 30))
	if x <= 0.5 {
		return d.verdict
	}
	d.errors++
	gap := d.seen - d.last
	d.last = d.seen
	off := gap - d.gap.mean
	d.gap.add(gap)
	d.squares += off * (gap - d.gap.mean)
	if d.seen <= warm {
		return d.verdict
	}
	t := d.gap.mean
	if d.gap.n > 1 {
		t += 2 * math.Sqrt(d.squares/(d.gap.n-1))
	}
	switch ratio := t / d.most; {
	case t > d.most:
		d.most = t // and the verdict stays what it was
		if d.errors > warm {
			d.verdict = max(d.verdict, Stable)
		}
	case d.errors <= warm:
	case ratio < share(d.Alarm, 0.9):
		d.verdict = Drift
	case ratio < share(d.Warn, 0.95):
		d.verdict = Warning
	default:
		d.verdict = Stable
	}
	return d.verdict
}

// Verdict implements [Detector].
func (d *EDDM) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *EDDM) Reset() { *d = EDDM{Warn: d.Warn, Alarm: d.Alarm, Warm: d.Warm} }
