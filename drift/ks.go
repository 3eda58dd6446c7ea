package drift

import (
	"cmp"
	"math"
	"slices"
)

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
// and neither copied nor sorted.
//
// The rows are taken to be independent: see the package comment.
func KS(ref, cur []float64) Score {
	a, b := ascending(ref), ascending(cur)
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return Score{Method: "ks", N: n, M: m}.finite()
	}
	h, ties := maxGap(a, b)
	var groups func() []int
	if ties {
		groups = func() []int { return tieGroups(a, b) }
	}
	return ksScore(n, m, h, groups, exactCells)
}

// ascending returns the values that are not NaN in ascending order: itself if it is that.
func ascending(v []float64) []float64 {
	if slices.IsSorted(v) {
		i, _ := slices.BinarySearchFunc(v, 0, func(x float64, _ int) int { // NaN sorts first
			if x != x {
				return -1
			}
			return 1
		})
		return v[i:]
	}
	s := make([]float64, 0, len(v))
	for _, x := range v {
		if x == x {
			s = append(s, x)
		}
	}
	slices.Sort(s)
	return s
}

// scaled returns n and m divided by their greatest common divisor: one value of
// the reference weighs m', one of the current sample n', and D = h/(n'*m).
func scaled(n, m int) (int, int) {
	a, b := n, m
	for b != 0 {
		a, b = b, a%b
	}
	return n / a, m / a
}

// maxGap walks two ascending samples and returns h, the largest |F-G| in units
// of 1/lcm(n,m), and whether any two pooled values are equal.
func maxGap(a, b []float64) (h int, ties bool) {
	n, m := scaled(len(a), len(b))
	i, j := 0, 0
	gap, top, bottom := 0, 0, 0
	last := 0.0
	for i < len(a) && j < len(b) {
		// Which of the two comes next cannot be predicted, so there are no
		// branches on it: what is not taken moves by nothing.
		x, y := a[i], b[j]
		di, dj := 0, 0
		if x <= y {
			di = 1
		}
		if y <= x {
			dj = 1
		}
		i += di
		j += dj
		gap += di*m - dj*n
		last = x
		if dj > 0 {
			last = y
		}
		if (i < len(a) && a[i] == last) || (j < len(b) && b[j] == last) {
			ties = true
			continue // not the end of a group of ties
		}
		ties = ties || x == y
		top, bottom = max(top, gap), min(bottom, gap)
	}
	// One sample is used up. When the last group has ended too, the gap can only close.
	for ; i < len(a) && a[i] == last; i++ {
		gap += m
	}
	for ; j < len(b) && b[j] == last; j++ {
		gap -= n
	}
	top, bottom = max(top, gap), min(bottom, gap)
	return max(top, -bottom), ties || repeats(a[i:]) || repeats(b[j:])
}

func repeats(s []float64) bool {
	for i := 1; i < len(s); i++ {
		if s[i] == s[i-1] {
			return true
		}
	}
	return false
}

// tieGroups returns the sizes of the groups of equal pooled values, in order.
func tieGroups(a, b []float64) []int {
	var groups []int
	for i, j := 0, 0; i < len(a) || j < len(b); {
		before := i + j
		var x float64
		if j == len(b) || (i < len(a) && cmp.Less(a[i], b[j])) {
			x = a[i]
		} else {
			x = b[j]
		}
		for i < len(a) && a[i] == x {
			i++
		}
		for j < len(b) && b[j] == x {
			j++
		}
		groups = append(groups, i+j-before)
	}
	return groups
}

// ksScore completes the test from the gap h. groups is nil without ties; otherwise
// it gives the sizes of the groups of equal pooled values. limit bounds the
// work of the exact distribution.
func ksScore(n, m, h int, groups func() []int, limit int) Score {
	_, ms := scaled(n, m)
	nf, mf := float64(n), float64(m)
	s := Score{
		Stat:   float64(h) / (nf * float64(ms)),
		Null:   math.Sqrt(math.Pi/2) * math.Ln2 * math.Sqrt(1/nf+1/mf),
		HasP:   true,
		N:      n,
		M:      m,
		Method: "ks exact",
	}
	s.Effect = s.Stat
	if n == m && groups == nil {
		s.Method, s.P = "ks exact, closed form", ksEqual(n, h)
		return s.finite()
	}
	if p, ok := ksPaths(n, m, h, groups, limit); ok {
		s.P = p
		return s.finite()
	}
	if n == m {
		s.Method, s.P = "ks limit", kolmogorovLimit(math.Sqrt(nf*mf/(nf+mf))*s.Stat)
		return s.finite()
	}
	s.Method, s.P = "ks one-sample", kolmogorovN(math.RoundToEven(nf*mf/(nf+mf)), s.Stat)
	return s.finite()
}

// ksEqual is P(D >= h/n) for two samples of n values without ties:
// 2 * sum over k >= 1 of (-1)^(k-1) C(2n, n-kh) / C(2n, n).
func ksEqual(n, h int) float64 {
	if h <= 1 {
		return 1
	}
	sum, ratio, sign := 0.0, 1.0, 1.0
	for i := 0; i+h <= n; {
		for end := i + h; i < end; i++ {
			ratio *= float64(n-i) / float64(n+i+1)
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
func ksPaths(n, m, h int, tied func() []int, limit int) (float64, bool) {
	if h == 0 {
		return 1, true
	}
	if n > m {
		n, m = m, n
	}
	ns, ms := scaled(n, m)
	total := n + m
	if width := 2*h/(ns+ms) + 1; total > limit/min(width, n+1) {
		return 0, false
	}
	var groups []int
	if tied != nil {
		groups = tied()
	}
	u := make([]float64, n+2) // u[i]: paths that took i of the smaller sample so far
	u[0] = 1
	lo, hi := 0, 0
	p := 0.0
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
		for ; lo <= hi && (t+1-lo)*ns-lo*ms >= h; lo++ {
			p += u[lo]
		}
		for ; hi >= lo && hi*ms-(t+1-hi)*ns >= h; hi-- {
			p += u[hi]
		}
		if lo > hi {
			break
		}
	}
	return min(p, 1), true
}
