package drift

import "math"

// CramerVonMises is the two-sample Cramer-von Mises test (Anderson 1962). Stat is
//
//	T = n*m/(n+m)^2 * sum over pooled values of (F-G)^2
//
// with F and G the empirical distribution functions. Inside a group of ties, where they
// have no value, it takes the mean of the squares at the two ends of the group. (The form by
// mid-ranks that other libraries compute is the same without ties; with ties and
// samples of different sizes it calls constant, identical samples different.) Null is the mean of T over all deals
// of the pooled values, about 1/6; Effect is the root mean square of F-G with that
// noise taken off, sqrt((T-Null)*(n+m)/(n*m)), at least 0. It sees shifts of the
// middle better than [KS], changes of the tails worse than [AndersonDarling].
//
// P is, as Method says: "cramer-von mises exact", by counting all deals, for up to about 40 values together,
// and up to 100 where sample sizes or ties leave few sums; otherwise "cramer-von mises limit", the limit law at T
// brought to the limit's mean and variance; with groups of ties of over 1/256 of the values the limit law under these ties.
//
// NaN is missing and left out; infinities are values. With no value on either side there is no P.
func CramerVonMises(ref, cur []float64) Score {
	a, b := ascending(ref), ascending(cur)
	n, m := len(a), len(b)
	s := Score{Method: "cramer-von mises", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	// Twice the sum, in units of the integer gap: exact for all sizes that are counted out.
	groups, sum, mean, largest := []int(nil), 0.0, 0.0, 0
	nf, mf := float64(n), float64(m)
	ns, ms := scaled(n, m)
	var gap, before int64
	size := 0
	eachTie(a, b, func(_ float64, t tie) {
		l := t.ref + t.cur
		// The end of the last group has a share in this one.
		w := float64(size + l)
		sum += w * float64(gap) * float64(gap)
		mean += w * float64(before) * (nf + mf - float64(before))
		gap += int64(t.ref)*ms - int64(t.cur)*ns
		before += int64(l)
		size, largest = l, max(largest, l)
		if n+m <= exactValues {
			groups = append(groups, l)
		}
	})
	total := nf + mf
	unit := nf * float64(ms)
	scale := nf * mf / (total * total) / (unit * unit) / 2
	s.Stat = sum * scale
	s.Null = mean / 2 / (total * total * (total - 1))
	s.Effect = math.Sqrt(max(0, s.Stat-s.Null) * total / (nf * mf))
	s.HasP = true
	if groups != nil {
		starts := make([]int, len(groups)+1)
		for t, l := range groups {
			starts[t+1] = starts[t] + l
		}
		add := func(t, i, c int) float64 {
			if t+1 == len(groups) {
				return 0
			}
			i += c
			d := float64(int64(i)*ms - int64(starts[t+1]-i)*ns)
			return float64(groups[t]+groups[t+1]) * d * d
		}
		if p, ok := sumTail(groups, n, add, sum); ok {
			s.Method, s.P = "cramer-von mises exact", p
			return s.finite()
		}
	}
	s.Method = "cramer-von mises limit"
	if largest == 1 || float64(largest)*limitCells <= total {
		s.P = cvmTail(s.Stat, nf, mf)
		return s.finite()
	}
	if s.Null == 0 {
		s.P = 1 // all values are equal
		return s.finite()
	}
	share := tieShares(a, b)
	ends, limitMean, at := make([]float64, len(share)), 0.0, 0.0
	for t := 0; t+1 < len(share); t++ {
		at += share[t]
		ends[t] = (share[t] + share[t+1]) / 2
		limitMean += ends[t] * at * (1 - at)
	}
	s.P = tiedLaw(share, make([]float64, len(share)), ends).tail(s.Stat / s.Null * limitMean)
	return s.finite()
}

// cvmTail is the limit law at t, brought from Anderson's mean and variance without ties to the limit's, 1/6 and 1/45.
func cvmTail(t, n, m float64) float64 {
	total := n + m
	variance := (total + 1) / (45 * total * total) * (4*n*m*total - 3*(n*n+m*m) - 2*n*m) / (4 * n * m)
	return cvmLaw.tail(1.0/6 + (t-(1+1/total)/6)/math.Sqrt(45*variance))
}

// tieShares returns the groups of equal pooled values as shares of all, those
// that are small joined to cells of about 1/limitCells.
func tieShares(a, b []float64) []float64 {
	var share []float64
	total, cell := float64(len(a)+len(b)), 0
	flush := func() {
		if cell > 0 {
			share = append(share, float64(cell)/total)
			cell = 0
		}
	}
	eachTie(a, b, func(_ float64, t tie) {
		l := t.ref + t.cur
		if float64(l)*limitCells >= total {
			flush()
		}
		if cell += l; float64(cell)*limitCells >= total {
			flush()
		}
	})
	flush()
	return share
}
