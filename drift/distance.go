package drift

import (
	"math"
	"slices"
)

// Wasserstein is the first Wasserstein (earth mover's) distance of two samples: Stat is the
// integral of |F-G|, in the unit of the values, with F and G the empirical
// distribution functions. Effect is Stat divided by the interquartile range of
// the reference, and where that is 0 by the standard deviation of both samples
// together: shifted by half a range reads 0.5 whatever the unit. Null is about
// the mean of Stat without drift: the normal approximation to the mean over all deals.
//
// There is no P: the law depends on the distribution of the values. Ask
// [CramerVonMises] or [AndersonDarling] whether there is a difference, and this
// how far it goes. NaN is missing and left out; an infinity counts as the largest float, so
// one that is not on both sides makes Stat enormous.
func Wasserstein(ref, cur []float64) Score {
	a, b := clamped(ascending(ref)), clamped(ascending(cur))
	s := Score{Method: "wasserstein", N: len(a), M: len(b)}
	if len(a) == 0 || len(b) == 0 {
		return s.finite()
	}
	g := gaps(a, b)
	s.Stat, s.Null = 2*g.linear, 2*g.noise
	unit := (quartile(a, 3) - quartile(a, 1))
	if unit == 0 {
		unit = pooledSD(a, b)
	}
	switch {
	case s.Stat == 0:
	case math.IsInf(unit, 1): // quartiles at both ends of what floats reach
		s.Effect = g.linear / (quartile(a, 3)/2 - quartile(a, 1)/2)
	default:
		s.Effect = s.Stat / unit
	}
	return s.finite()
}

// Energy is the energy distance of two samples (Szekely and Rizzo 2013),
//
//	Stat = sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|) = sqrt(2 * integral of (F-G)^2)
//
// in the root of the values' unit, with all pairs of the samples counted. Null is the root of the mean of Stat^2
// over all deals of the pooled values. Effect is (Stat^2-Null^2)/(2 E|X-Y|), at least 0: the share
// of the distance between the samples that is not there within them, noise taken off, from
// 0 to 1 and without a unit.
//
// There is no P, as for [Wasserstein]; and missing and infinite values are taken as there.
func Energy(ref, cur []float64) Score {
	a, b := clamped(ascending(ref)), clamped(ascending(cur))
	s := Score{Method: "energy", N: len(a), M: len(b)}
	if len(a) == 0 || len(b) == 0 {
		return s.finite()
	}
	g := gaps(a, b)
	s.Stat, s.Null = 2*math.Sqrt(g.square), 2*math.Sqrt(g.squareNoise)
	if g.between > 0 {
		s.Effect = max(0, g.square-g.squareNoise) / g.between
	}
	return s.finite()
}

// gapSums are integrals over the values of functions of F and G, all halved, so
// that they do not overflow.
type gapSums struct {
	linear, noise       float64 // |F-G|, and about its mean over all deals
	square, squareNoise float64 // (F-G)^2, and its mean over all deals
	between             float64 // F(1-G)+G(1-F)
}

// gaps takes finite ascending samples, neither of them empty.
func gaps(a, b []float64) gapSums {
	var g gapSums
	n, m := float64(len(a)), float64(len(b))
	total := n + m
	i, j, last := 0.0, 0.0, 0.0
	eachTie(a, b, func(x float64, t tie) {
		if before := i + j; before > 0 {
			d := x/2 - last/2
			gap := math.Abs(i*m-j*n) / (n * m)
			variance := before * (total - before) / (n * m * (total - 1))
			g.linear += gap * d
			g.noise += math.Sqrt(variance*2/math.Pi) * d
			g.square += gap * gap * d
			g.squareNoise += variance * d
			g.between += (i*(m-j) + j*(n-i)) / (n * m) * d
		}
		i += float64(t.ref)
		j += float64(t.cur)
		last = x
	})
	return g
}

// clamped returns ascending s with infinities made the largest floats: itself if there are none.
func clamped(s []float64) []float64 {
	if len(s) == 0 || (!math.IsInf(s[0], -1) && !math.IsInf(s[len(s)-1], 1)) {
		return s
	}
	s = slices.Clone(s)
	for i, x := range s {
		s[i] = min(max(x, -math.MaxFloat64), math.MaxFloat64)
	}
	return s
}

// quartile is the order statistic s[ceil(k*n/4)-1] of ascending s.
func quartile(s []float64, k int) float64 { return s[(k*(len(s)/4)+ceilDiv(k*(len(s)%4), 4))-1] }

// pooledSD is the standard deviation of both samples as one, 0 if all are equal.
func pooledSD(a, b []float64) float64 {
	scale := max(math.Abs(a[0]), math.Abs(a[len(a)-1]), math.Abs(b[0]), math.Abs(b[len(b)-1]))
	if scale == 0 {
		return 0
	}
	n := float64(len(a) + len(b))
	mean, sum := 0.0, 0.0
	for _, s := range [][]float64{a, b} {
		for _, x := range s {
			mean += x / scale / n
		}
	}
	for _, s := range [][]float64{a, b} {
		for _, x := range s {
			d := x/scale - mean
			sum += d * d
		}
	}
	return scale * math.Sqrt(sum/n)
}
