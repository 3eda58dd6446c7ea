package drift

import "math"

// CliffDelta says how often a current value is above one of the reference, less
// how often it is below: Stat = P(cur > ref) - P(cur < ref) over all pairs, from -1 to 1,
// about 0 without drift, whatever the unit and the shape. (Stat+1)/2 is the area
// under the ROC curve of telling the two samples apart by the value alone. Effect is |Stat|; 0.15, 0.33
// and 0.47 are conventionally small, medium and large (Romano et al. 2006). Null is the mean of |Stat| without
// drift, by the normal law.
//
// P is that of the Mann-Whitney test, two-sided: "cliff-delta exact" counts all deals of the
// pooled values, ties included, for up to 100 values together; "cliff-delta normal" is the
// normal law with the variance under these ties. Like the test, it sees shifts, and
// not changes of spread.
//
// NaN is missing and left out; infinities are values. With no value on either side there is no P.
func CliffDelta(ref, cur []float64) Score {
	a, b := ascending(ref), ascending(cur)
	n, m := len(a), len(b)
	s := Score{Method: "cliff-delta", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	nf, mf := float64(n), float64(m)
	total := nf + mf
	// A current value meets those of the reference before it and after it.
	sum, before, cubes := 0.0, 0.0, 0.0
	var groups []int
	eachTie(a, b, func(_ float64, t tie) {
		l := float64(t.ref + t.cur)
		sum += float64(t.cur) * (2*before + float64(t.ref) - nf)
		before += float64(t.ref)
		cubes += l * (l*l - 1)
		if n+m <= exactValues {
			groups = append(groups, t.ref+t.cur)
		}
	})
	s.Stat = sum / (nf * mf)
	s.Effect = math.Abs(s.Stat)
	s.HasP = true
	variance := (total + 1 - cubes/(total*(total-1))) / (3 * nf * mf)
	s.Null = math.Sqrt(2 / math.Pi * max(0, variance))
	if sum == 0 {
		s.P, s.Method = 1, "cliff-delta exact"
		return s.finite()
	}
	if groups != nil {
		tail := func(sign float64) (float64, bool) {
			return sumTail(groups, n, func(t, i, c int) float64 {
				return sign * float64(groups[t]-c) * float64(2*i+c-n)
			}, math.Abs(sum))
		}
		above, ok1 := tail(1)
		below, ok2 := tail(-1) // under ties the two differ
		if ok1 && ok2 {
			s.Method, s.P = "cliff-delta exact", above+below
			return s.finite()
		}
	}
	s.Method = "cliff-delta normal"
	s.P = math.Erfc(s.Effect / math.Sqrt(2*variance))
	return s.finite()
}
