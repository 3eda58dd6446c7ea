package drift

import "math"

// exactCells is the work, in steps of the recursion, up to which the exact
// distribution is used: about 0.1 s. judgeCells is the same for one feature of
// a monitor's window.
const (
	exactCells = 50_000_000
	judgeCells = 2_000_000
)

// KS is the two-sided two-sample Kolmogorov-Smirnov test. Stat is D, the
// largest distance between the two empirical distribution functions, found in
// integers at the distinct pooled values, so that ties are correct; Effect is D too.
// Null is the limit of its mean without drift, sqrt(pi/2)*ln(2)*sqrt(1/n+1/m).
//
// P is exact where that can be had, and Method says which way it was found:
//
//   - "ks exact, closed form": n = m and no ties, at any size (Hodges 1958)
//   - "ks exact": path counting (Viehmann 2021), while (n+m) times the width of
//     the band of D is at most 5e7; also for ties, conditional on them
//     (Schroer and Trenkler 1995), which is not conservative as other p-values
//     for ties are
//   - "ks limit": n = m beyond that, the limit law of Kolmogorov
//   - "ks one-sample": n != m beyond that, the exact one-sample law at
//     n*m/(n+m) points, rounded half to even (Simard and L'Ecuyer 2011)
//
// NaN is missing and left out; infinities are values. With no value on either
// side there is no P. Inputs that are already in ascending order are noticed,
// and neither copied nor sorted. Others are sorted in a copy, in linear time, but for a cur of more
// than 65,000 values, which is counted: so a large reference is best kept in order. That takes a megabyte and
// 2 bytes for each value of cur, or 10 where ref has as many values and it has to be known whether any are equal.
//
// The rows are taken to be independent: see the package comment.
func KS(ref, cur []float64) Score { return ks(ref, cur, twoSided) }

// KSGreater is the one-sided test whether the current values tend to be greater
// than the reference's: Stat is D+, the largest F-G with F the reference's
// distribution function and G the current one's. Swap the arguments to ask whether they tend to be less.
// Where the direction is known beforehand (latency, say, or a share of errors),
// it sees smaller shifts than [KS].
//
// P is found as by KS, of D+ alone; Method begins with "ks-greater". Beyond the exact
// forms it is exp(-2 z^2), z = D+ * sqrt(nm/(n+m)), for n = m, and the one-sided
// one-sample law of Smirnov otherwise. Null is sqrt(pi/8)*sqrt(1/n+1/m).
func KSGreater(ref, cur []float64) Score { return ks(ref, cur, refAbove) }

// side says in which direction a distance counts.
type side int

const (
	twoSided side = iota
	refAbove      // only where the reference's distribution function is above
)

func (s side) method() string {
	if s == twoSided {
		return "ks"
	}
	return "ks-greater"
}

func ks(ref, cur []float64, dir side) Score {
	a := ascending(ref)
	n := len(a)
	sorted := func() []float64 { return ascending(cur) }
	var m int
	var above, below int64
	var ties bool
	if u := unsortedBeside(a, cur); u != nil {
		m = u.m
		above, below = u.maxGap()
		ties = n != m || u.ties() // only of equal sizes does P ask; elsewhere groups of one do no harm
	} else {
		b := sorted()
		sorted, m = func() []float64 { return b }, len(b)
		if n > 0 && m > 0 {
			above, below, ties = maxGap(a, b)
		}
	}
	if n == 0 || m == 0 {
		return Score{Method: dir.method(), N: n, M: m}.finite()
	}
	h := above
	if dir == twoSided {
		h = max(above, below)
	}
	var groups func() []int
	if ties {
		groups = func() []int { return tieGroups(a, sorted()) }
	}
	return ksScore(n, m, h, dir, groups, exactCells)
}

// ascending returns the values that are not NaN in ascending order: itself if it is that,
// NaN first.
func ascending(v []float64) []float64 {
	from := 0
	for from < len(v) && v[from] != v[from] {
		from++
	}
	if isAscending(v[from:]) {
		return v[from:]
	}
	s := make([]float64, 0, len(v))
	for _, x := range v {
		if x == x {
			s = append(s, x)
		}
	}
	sortFloats(s)
	return s
}

// isAscending is false if there is a NaN, but for one that is alone.
func isAscending(v []float64) bool {
	for i := 1; i < len(v); i++ {
		if !(v[i-1] <= v[i]) {
			return false
		}
	}
	return true
}

// ksScore completes the test from the gap h. groups is nil without ties; otherwise
// it gives the sizes of the groups of equal pooled values. limit bounds the
// work of the exact distribution.
func ksScore(n, m int, h int64, dir side, groups func() []int, limit int) Score {
	_, ms := scaled(n, m)
	nf, mf := float64(n), float64(m)
	s := Score{Stat: float64(h) / (nf * float64(ms)), HasP: true, N: n, M: m}
	s.Effect = s.Stat
	s.Null = math.Sqrt(1/nf + 1/mf)
	z := math.Sqrt(nf*mf/(nf+mf)) * s.Stat
	points := math.RoundToEven(nf * mf / (nf + mf))
	var limitLaw, oneSample func() float64
	if dir == twoSided {
		s.Null *= math.Sqrt(math.Pi/2) * math.Ln2
		limitLaw = func() float64 { return kolmogorovLimit(z) }
		oneSample = func() float64 { return kolmogorovN(points, s.Stat) }
	} else {
		s.Null *= math.Sqrt(math.Pi / 8)
		limitLaw = func() float64 { return math.Exp(-2 * z * z) }
		oneSample = func() float64 { return smirnovN(points, s.Stat) }
	}
	var exact bool
	switch {
	case n == m && groups == nil:
		s.Method, s.P = " exact, closed form", ksEqual(n, h, dir)
	default:
		if s.P, exact = ksPaths(n, m, h, dir, groups, limit); exact {
			s.Method = " exact"
		} else if n == m {
			s.Method, s.P = " limit", limitLaw()
		} else {
			s.Method, s.P = " one-sample", oneSample()
		}
	}
	s.Method = dir.method() + s.Method
	return s.finite()
}

// ksEqual is P(D >= h/n) for two samples of n values without ties: two-sided
// 2 * sum over k >= 1 of (-1)^(k-1) C(2n, n-kh) / C(2n, n), one-sided the first term.
func ksEqual(n int, h int64, dir side) float64 {
	step := int(h)
	if step == 0 || (dir == twoSided && step == 1) {
		return 1
	}
	sum, ratio, sign := 0.0, 1.0, 1.0
	for i := 0; i+step <= n; {
		for end := i + step; i < end; i++ {
			ratio *= float64(n-i) / float64(n+i+1)
		}
		if dir != twoSided {
			return ratio
		}
		sum += sign * ratio
		sign = -sign
		if ratio < sum*1e-17 {
			break
		}
	}
	return min(1, 2*sum)
}

// ksPaths is P(some distance >= h) when all orders of the pooled values are
// equally likely, the distance being looked at only where a group of ties ends.
// It walks the probabilities of all paths that have not been at such a
// distance, and sums what leaves: only additions of positive numbers, so that
// tiny p-values are as exact as others. It gives up, with false, beyond limit
// steps, before it asks for the groups if it can.
func ksPaths(n, m int, h int64, dir side, tied func() []int, limit int) (float64, bool) {
	if h == 0 {
		return 1, true
	}
	// A path is at i of the smaller sample and j of the other. Distances from
	// up on count, where the smaller sample is ahead, and from down on where it is behind.
	up, down := h, h
	if dir == refAbove {
		// One of the two does not count. What goes so far to that side that it
		// comes back with a chance below 1e-26 of P, by the reflection principle,
		// is dropped all the same, or the band would be as wide as the sample.
		_, ms := scaled(n, m)
		unit := math.Sqrt(float64(n) * float64(m) / float64(n+m))
		z := float64(h) / (float64(n) * float64(ms)) * unit
		lost := math.Ceil((math.Sqrt(z*z+30) - z) / unit * float64(n) * float64(ms))
		if drop := int64(min(lost, 1e18)); n <= m {
			down = drop
		} else {
			up = drop
		}
	}
	refSmaller := n <= m
	if !refSmaller {
		n, m = m, n
	}
	ns, ms := scaled(n, m)
	total := n + m
	if width := min((up+down)/(ns+ms), int64(n)) + 1; int64(total) > int64(limit)/width {
		return 0, false
	}
	var groups []int
	if tied != nil {
		groups = tied()
	}
	u := make([]float64, n+2) // u[i]: paths that took i of the smaller sample so far
	u[0] = 1
	lo, hi := 0, 0
	ahead, behind := 0.0, 0.0
	group, end, steps := 0, 0, 0
	for t := range total {
		if steps += hi - lo + 1; steps > limit {
			return 0, false
		}
		inv := 1 / float64(total-t)
		// One more value: of the smaller sample with weight n-i, of the other
		// with m-(t-i). From the top, so that u[i+1] has already moved on.
		u[hi+1] = 0
		of, other := float64(n-hi), float64(m-t+hi)
		for i := hi; i >= lo; i-- {
			x := u[i] * inv
			u[i+1] += x * of
			u[i] = x * other
			of++
			other--
		}
		hi = min(hi+1, n)
		lo = max(lo, t+1-m)
		if groups != nil {
			if t+1 == end+groups[group] {
				end = t + 1
				group++
			} else {
				continue
			}
		}
		for ; lo <= hi && int64(t+1-lo)*ns-int64(lo)*ms >= down; lo++ {
			behind += u[lo]
		}
		for ; hi >= lo && int64(hi)*ms-int64(t+1-hi)*ns >= up; hi-- {
			ahead += u[hi]
		}
		if lo > hi {
			break
		}
	}
	switch {
	case dir == twoSided:
		return min(ahead+behind, 1), true
	case refSmaller:
		return min(ahead, 1), true
	}
	return min(behind, 1), true
}
