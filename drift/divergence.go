package drift

import "math"

// JensenShannon is the Jensen-Shannon distance of two lists of counts, ref[i] and
// cur[i] being of the same bin:
//
//	Stat = sqrt((KL(p,h) + KL(q,h)) / 2), h = (p+q)/2
//
// with logarithms to base 2, so that it is 0 for equal shares and 1 for shares
// that never meet. (Distances in nats, as scipy's by default, are smaller by
// the factor 0.8326.) It is a metric and needs no rule for empty bins.
//
// With B bins that are not empty on both sides, and without drift, 8*ln(2)*Stat^2/(1/n+1/m) follows
// chi-square with B-1 degrees of freedom in the limit: that is P, good where each bin
// expects 20 or more values in the smaller sample. Null is the root of the mean of Stat^2 by this law, Effect
// sqrt(Stat^2-Null^2), at least 0. There is no P with a side empty or fewer than two bins.
// Negative counts and slices of unequal length are a programming error and panic.
func JensenShannon(ref, cur []int) Score {
	n, m := countTotals("JensenShannon", ref, cur)
	return distanceScore("jensen-shannon", ref, cur, n, m, 8*math.Ln2, func(p, q float64) float64 {
		h := (p + q) / 2
		return (excess(p, h) + excess(q, h)) / (2 * math.Ln2)
	})
}

// Hellinger is the Hellinger distance of two lists of counts,
//
//	Stat = sqrt(sum over bins of (sqrt(p)-sqrt(q))^2 / 2)
//
// from 0 to 1. Without drift 8*Stat^2/(1/n+1/m) follows chi-square in the limit. P, Null, Effect
// and the conditions are those of [JensenShannon].
func Hellinger(ref, cur []int) Score {
	n, m := countTotals("Hellinger", ref, cur)
	return distanceScore("hellinger", ref, cur, n, m, 8, func(p, q float64) float64 {
		d := math.Sqrt(p) - math.Sqrt(q)
		return d * d / 2
	})
}

// KullbackLeibler is the divergence of the current counts as seen from the reference,
//
//	Stat = sum over bins of p*ln(p/q)
//
// in nats, p the reference's shares and q the current ones, after half a value more was counted in each
// bin of both sides; bins empty on both are left out. Without that one bin
// that nobody fell into lately would make it infinite. It is not symmetric: [PSI]
// is the sum of both directions.
//
// Without drift 2*Stat/(1/n+1/m) follows chi-square in the limit; Null is the mean of Stat by
// this law, Effect is Stat less Null, at least 0. The conditions are those of [JensenShannon].
func KullbackLeibler(ref, cur []int) Score {
	n, m := countTotals("KullbackLeibler", ref, cur)
	s := Score{Method: "kullback-leibler", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	s.Stat = kullbackLeibler(ref, cur, 0.5)
	bins := occupied(ref, cur)
	if bins < 2 {
		return s.finite()
	}
	scale := 1/float64(n) + 1/float64(m)
	df := float64(bins - 1)
	s.Null = df * scale / 2
	s.Effect = max(0, s.Stat-s.Null)
	s.P, s.HasP = chiSquareTail(2*s.Stat/scale, df), true
	return s.finite()
}

// TotalVariation is the total variation distance of two lists of counts: Stat is half
// the sum over bins of |p-q|, the share of the rows that would have to change bins.
// Effect is Stat too. Null is about its mean without drift: the normal approximation to the mean over all deals.
//
// There is no P: ask [ChiSquare]. The conditions are those of [JensenShannon].
func TotalVariation(ref, cur []int) Score {
	n, m := countTotals("TotalVariation", ref, cur)
	s := Score{Method: "total-variation", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	nf, mf := float64(n), float64(m)
	total := nf + mf
	for i := range ref {
		s.Stat += math.Abs(float64(ref[i])/nf-float64(cur[i])/mf) / 2
		k := float64(ref[i]) + float64(cur[i])
		s.Null += math.Sqrt(k*(total-k)/(nf*mf*(total-1))*2/math.Pi) / 2
	}
	s.Effect = s.Stat
	return s.finite()
}

// distanceScore is the score of a distance whose square is a sum of part over
// the bins, and is chi-square of the shares divided by factor for shares that are close.
func distanceScore(method string, ref, cur []int, n, m int, factor float64, part func(p, q float64) float64) Score {
	s := Score{Method: method, N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	square := 0.0
	for i := range ref {
		square += part(float64(ref[i])/float64(n), float64(cur[i])/float64(m))
	}
	s.Stat = math.Sqrt(square)
	bins := occupied(ref, cur)
	if bins < 2 {
		return s.finite()
	}
	scale := (1/float64(n) + 1/float64(m)) / factor
	df := float64(bins - 1)
	s.Null = math.Sqrt(df * scale)
	s.Effect = math.Sqrt(max(0, square-df*scale))
	s.P, s.HasP = chiSquareTail(square/scale, df), true
	return s.finite()
}

// kullbackLeibler is the divergence with half more in each bin that is not empty on both sides.
func kullbackLeibler(ref, cur []int, half float64) float64 {
	n, m := 0.0, 0.0
	for i := range ref {
		if ref[i] > 0 || cur[i] > 0 {
			n += float64(ref[i]) + half
			m += float64(cur[i]) + half
		}
	}
	sum := 0.0
	for i := range ref {
		if ref[i] > 0 || cur[i] > 0 {
			sum += excess((float64(ref[i])+half)/n, (float64(cur[i])+half)/m)
		}
	}
	return sum
}

// occupied counts the bins that are not empty on both sides.
func occupied(ref, cur []int) int {
	bins := 0
	for i := range ref {
		if ref[i] > 0 || cur[i] > 0 {
			bins++
		}
	}
	return bins
}
