package drift

import "math"

// ZeroRule says what PSI makes of a bin that is empty on one side, whose
// logarithm would be infinite.
type ZeroRule int

const (
	// AddHalf counts half a value more in each bin of both sides: bounded, and
	// its weight falls with the sample size. The default.
	AddHalf ZeroRule = iota
	// Epsilon makes an empty bin's share 1e-4 and renormalises nothing, as many
	// scripts do. The PSI of one empty bin then depends on little else.
	Epsilon
	// Floor makes every share below 1e-4 a share of 1e-4.
	Floor
)

const epsilonShare = 1e-4

// PSIOptions are the settings of [PSI]; nil and the zero value are the defaults.
type PSIOptions struct {
	Bins          int      // bins for values, before frequent values get their own; 0 means 10, at most 1,000
	Zero          ZeroRule // what to do with empty bins; AddHalf
	IgnoreMissing bool     // leave NaN out; by default missing is a bin
}

// PSI is the population stability index of two samples,
//
//	sum over bins of (q-p) * ln(q/p)
//
// in nats, with p the reference's share of a bin and q the current one's. Bins come from the
// reference: right-closed between the order statistics s[ceil(k*n/Bins)-1]. A value
// that makes up at least 1/Bins of the reference has a bin of its own; with at
// most Bins distinct values each has, and one bin takes all others. So a
// constant reference sees what leaves it. NaN is a bin too, unless IgnoreMissing.
//
// With B bins that are not empty on both sides, and without drift, PSI/(1/n+1/m) follows chi-square with B-1 degrees of freedom
// (Yurdakul 2018): that is P, Null is (B-1)*(1/n+1/m), and Effect is Stat less Null, at
// least 0. P is close down to 0.001 from 50 values a bin on; for fewer, or sparse bins, take
// [ChiSquare]. The convention reads an Effect of 0.1 as some shift and 0.25 as a
// large one. Infinities fall into the outer bins. There is no P with a side empty or one bin.
func PSI(ref, cur []float64, o *PSIOptions) Score {
	var opt PSIOptions
	if o != nil {
		opt = *o
	}
	if opt.Bins <= 0 {
		opt.Bins = defaultBins
	}
	b := newBinner(sortedFinite(ref), min(opt.Bins, 1000))
	r, c := b.counts(ref), b.counts(cur)
	if k := len(r) - 1; opt.IgnoreMissing {
		r, c = r[:k], c[:k]
	}
	r, c = dropEmpty(r, c)
	return PSICounts(r, c, opt.Zero)
}

// dropEmpty leaves out, in place, the bins that are empty on both sides, in whose halves AddHalf would see a difference.
func dropEmpty(ref, cur []int) (r, c []int) {
	k := 0
	for i := range ref {
		if ref[i]+cur[i] > 0 {
			ref[k], cur[k] = ref[i], cur[i]
			k++
		}
	}
	return ref[:k], cur[:k]
}

// PSICounts is PSI of counts per bin, ref[i] and cur[i] being of the same bin. Leave out what is empty on both
// sides, as PSI does: it is no degree of freedom of P, but AddHalf gives it shares that differ where n and m do.
// Neither is modified. Negative counts, slices of unequal length and an unknown
// rule are programming errors and panic.
func PSICounts(ref, cur []int, z ZeroRule) Score {
	n, m := countTotals("PSICounts", ref, cur)
	s := Score{Method: "psi", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	bins := occupied(ref, cur)
	half := 0.0
	switch z {
	case AddHalf:
		half = 0.5
	case Epsilon, Floor:
	default:
		panic("drift: PSICounts: unknown ZeroRule")
	}
	rn, cm := float64(n)+half*float64(len(ref)), float64(m)+half*float64(len(ref))
	for i := range ref {
		p, q := (float64(ref[i])+half)/rn, (float64(cur[i])+half)/cm
		if z != AddHalf {
			p, q = floorShare(p, z), floorShare(q, z)
		}
		s.Stat += (q - p) * math.Log(q/p)
	}
	if bins < 2 {
		return s.finite()
	}
	scale := 1/float64(n) + 1/float64(m)
	s.Null = float64(bins-1) * scale
	s.Effect = max(0, s.Stat-s.Null)
	s.P, s.HasP = chiSquareTail(s.Stat/scale, float64(bins-1)), true
	return s.finite()
}

func floorShare(p float64, z ZeroRule) float64 {
	if p == 0 || (z == Floor && p < epsilonShare) {
		return epsilonShare
	}
	return p
}
