package drift

import "math"

// ChiSquare is Pearson's test of homogeneity on a 2 x k table of counts, the
// k bins of a reference and of a current sample: no continuity correction, bins
// empty on both sides left out, k-1 degrees of freedom. Null is the degrees of
// freedom. Effect is Cramer's V with its bias taken off (Bergsma 2013), 0 to 1; without
// that it is sqrt(Stat/(n+m)), which is also Cohen's w.
//
// It compares two samples. A test of the current sample against shares fitted to the reference,
// as other libraries have it, takes the reference for the truth, and rejects 32 %
// of undrifted samples at a level of 5 % if both have as many rows.
//
// P is the upper chi-square tail. It is good where each bin expects 20 or more
// values in the smaller sample, and grows too small in the far tail where bins are sparse.
// There is no P if one side is empty, or with fewer than two bins. Negative
// counts and slices of unequal length are a programming error and panic.
func ChiSquare(ref, cur []int) Score {
	n, m := countTotals("ChiSquare", ref, cur)
	total := float64(n) + float64(m)
	return tableScore("chi-square", ref, cur, n, m, func(r, c float64) float64 {
		// Both cells of the column: (x-e)^2/e with e = t*n/total and t*m/total.
		t := r + c
		d := r - t*(float64(n)/total)
		return d * d / t * (total / float64(n)) * (total / float64(m))
	})
}

// GTest is the likelihood ratio test of homogeneity on a 2 x k table of counts:
//
//	Stat = 2 * sum over cells of observed * ln(observed/expected)
//
// It is 2 (n+m) ln(2) times the mutual information of bin and sample in bits, so the Gs of a table and
// of its parts add up, which those of [ChiSquare] do not. P is
// further off where bins are sparse. All else is as with ChiSquare.
func GTest(ref, cur []int) Score {
	n, m := countTotals("GTest", ref, cur)
	total := float64(n) + float64(m)
	return tableScore("g-test", ref, cur, n, m, func(r, c float64) float64 {
		// Each logarithm is of a share of the column over that of the table: where they are close, log1p keeps digits.
		t := r + c
		return 2 * (excess(r, t*(float64(n)/total)) + excess(c, t*(float64(m)/total)))
	})
}

// excess is x*ln(x/e) - (x-e), whose sum over a column is that of x*ln(x/e), but
// whose terms are all positive, so that nothing cancels.
func excess(x, e float64) float64 {
	if x == 0 {
		return e
	}
	u := (e - x) / x
	if math.Abs(u) > 0.1 {
		return x * (u - math.Log1p(u))
	}
	sum, power := 0.0, u
	for k := 2.0; math.Abs(power) > 1e-18*math.Abs(sum); k++ { // the series, which does not cancel
		power *= -u
		sum -= power / k
	}
	return x * sum
}

// tableScore completes a test whose statistic is a sum over the columns of a
// table and chi-square in the limit.
func tableScore(method string, ref, cur []int, n, m int, column func(r, c float64) float64) Score {
	s := Score{Method: method, N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	total := float64(n) + float64(m)
	bins := 0
	for i := range ref {
		if ref[i] > 0 || cur[i] > 0 {
			bins++
			s.Stat += column(float64(ref[i]), float64(cur[i]))
		}
	}
	if bins < 2 {
		s.Stat = 0
		return s.finite()
	}
	s.Null = float64(bins - 1)
	// Bergsma: phi^2 less its mean, over what is left of the table's smaller side.
	phi2 := max(0, s.Stat/total-s.Null/(total-1))
	if side := min(1-1/(total-1), s.Null-s.Null*s.Null/(total-1)); side > 0 {
		s.Effect = min(1, math.Sqrt(phi2/side))
	}
	s.P, s.HasP = chiSquareTail(s.Stat, s.Null), true
	return s.finite()
}

// countTotals sums two slices of counts, which have to belong together.
func countTotals(caller string, ref, cur []int) (n, m int) {
	if len(ref) != len(cur) {
		panic("drift: " + caller + ": ref and cur have different lengths")
	}
	for i := range ref {
		if ref[i] < 0 || cur[i] < 0 {
			panic("drift: " + caller + ": negative count")
		}
		n += ref[i]
		m += cur[i]
	}
	return n, m
}

// sparse is how many values a bin has to expect in the smaller sample for the
// chi-square tail to hold down to 1e-4: measured rejections were at most 1.5
// times nominal there, for tables of 10 to 100 skewed categories.
const sparse = 20

// few is how many are enough for the mean of PSI without drift, which is 0.9 of its Null there, measured, and less below.
const few = 5

// homogeneity is chi-square of bins that are not sparse, with a P that holds far
// out in the tail, where a budget needs it. Pearson's statistic grows too fast there
// in skewed tables: at 1e-6 it rejected 2 times as often as it says, measured. The
// likelihood ratio G has the right rate of decay (Sanov), and is a little too large in the
// middle. P is the larger of both.
func homogeneity(ref, cur []int) Score {
	s := ChiSquare(ref, cur)
	if s.HasP {
		s.P = max(s.P, GTest(ref, cur).P)
	}
	return s
}

// joinNeighbours joins bins of numbers, in their order, until the reference lets expect enough in
// the smaller sample. The window has no say in it, nor in which bins become one: edges
// that are order statistics give all bins the same count in the reference, so that pooled counts would tell
// where the window has most. A bin that the reference hardly knows is lost
// in another; KS, which numbers have beside, sees what comes into it.
func joinNeighbours(ref, cur []int) (r, c []int) {
	n, m := countTotals("joinNeighbours", ref, cur)
	share := min(1, float64(m)/float64(n))
	groupR, groupC := 0, 0
	for i := range ref {
		groupR, groupC = groupR+ref[i], groupC+cur[i]
		if float64(groupR)*share >= sparse {
			r, c = append(r, groupR), append(c, groupC)
			groupR, groupC = 0, 0
		}
	}
	if len(r) == 0 {
		return append(r, groupR), append(c, groupC)
	}
	r[len(r)-1] += groupR
	c[len(c)-1] += groupC
	return r, c
}

// joinCategories joins sparse categories in their order, which is that of their names, until the reference lets expect
// enough of them in the smaller sample, and then at least as many names as that takes on average. What is left joins the last that were
// joined, or is a cell of its own. The window has no say: the pooled counts of a reference that has equally many of each
// are the window's.
//
// Nor does chance in the reference have one that matters. An order by its counts would put together those of which it has too few, and so would a cell
// that closes as soon as one name alone is enough by luck; a category is alone from twice enough on, where two of those near the border
// are not joined either. So what is joined expects less than five times enough, and nothing frequent hides what moves in rare ones.
func joinCategories(ref, cur []int, enough float64) (r, c []int) {
	n, m := countTotals("joinCategories", ref, cur)
	share := min(1, float64(m)/float64(n))
	names, rows := 0, 0
	for _, x := range ref {
		if float64(x)*share < 2*enough {
			names, rows = names+1, rows+x
		}
	}
	least := enough * float64(names) / (float64(rows) * share) // names that expect enough, on average
	names = 0
	groupR, groupC, last := 0, 0, -1
	for i := range ref {
		if float64(ref[i])*share >= 2*enough {
			r, c = append(r, ref[i]), append(c, cur[i])
			continue
		}
		names, groupR, groupC = names+1, groupR+ref[i], groupC+cur[i]
		if e := float64(groupR) * share; e >= enough && float64(names) >= least || e >= 2*enough {
			last = len(r)
			r, c = append(r, groupR), append(c, groupC)
			names, groupR, groupC = 0, 0, 0
		}
	}
	switch {
	case groupR+groupC == 0:
	case last < 0 || float64(groupR)*share >= enough:
		r, c = append(r, groupR), append(c, groupC)
	default:
		r[last], c[last] = r[last]+groupR, c[last]+groupC
	}
	return r, c
}

// chiSquareTail is Q(df/2, x/2), the regularised upper incomplete gamma
// function: a series below the mean, Lentz's continued fraction above.
func chiSquareTail(x, df float64) float64 {
	a, z := df/2, x/2
	switch {
	case !(z > 0):
		return 1
	case math.IsInf(z, 1):
		return 0
	}
	scale := gammaTerm(a, z)
	if z < a+1 {
		term := 1 / a
		sum := term
		for i := 1.0; term > sum*1e-17; i++ {
			term *= z / (a + i)
			sum += term
		}
		return max(0, 1-sum*scale)
	}
	const tiny = 1e-300
	b := z + 1 - a
	c := 1 / tiny
	d := 1 / b
	f := d
	for i := 1.0; i < 100_000; i++ {
		k := -i * (i - a)
		b += 2
		if d = k*d + b; math.Abs(d) < tiny {
			d = tiny
		}
		if c = b + k/c; math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		step := d * c
		f *= step
		if math.Abs(step-1) < 1e-16 {
			break
		}
	}
	return min(1, f*scale)
}

// gammaTerm is z^a e^-z / Gamma(a), for large a by Stirling's series, where the
// difference of logarithms would lose digits.
func gammaTerm(a, z float64) float64 {
	if a < 30 {
		return math.Exp(a*math.Log(z) - z - lgamma(a))
	}
	u := (z - a) / a
	a2 := a * a
	series := 1/12.0 - (1/360.0-(1/1260.0-1/(1680.0*a2))/a2)/a2
	return math.Sqrt(a/(2*math.Pi)) * math.Exp(a*(math.Log1p(u)-u)-series/a)
}

// chiSquareQuantile is the x with chiSquareTail(x, df) = p, for 0 < p < 1.
func chiSquareQuantile(p, df float64) float64 {
	lo, hi := 0.0, df+1
	for chiSquareTail(hi, df) > p && hi < 1e9 {
		hi *= 2
	}
	for range 60 {
		if mid := (lo + hi) / 2; chiSquareTail(mid, df) > p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// fisher is Fisher's exact two-sided test that x of n and y of m are shares of
// one population: the probability, with the total x+y fixed, of all tables that
// are at most as likely as this one. It is valid however rare they are.
func fisher(x, n, y, m int) float64 {
	k := x + y
	lo, hi := max(0, k-m), min(n, k)
	if lo == hi {
		return 1
	}
	// Weights relative to the mode, which has 1; walking outwards they only fall.
	nf, mf, kf := float64(n), float64(m), float64(k)
	mode := min(max(int((kf+1)*((nf+1)/(nf+mf+2))), lo), hi)
	up := func(i int) float64 { // weight(i+1) / weight(i)
		f := float64(i)
		return (nf - f) * (kf - f) / ((f + 1) * (mf - kf + f + 1))
	}
	seen := 1.0
	for i, w := mode, 1.0; i != x && w > 0; {
		if i < x {
			w *= up(i)
			i++
		} else {
			i--
			w /= up(i)
		}
		seen = w
	}
	total, tail := 0.0, 0.0
	add := func(w float64) {
		total += w
		if w <= seen*(1+1e-7) {
			tail += w
		}
	}
	add(1)
	for i, w := mode, 1.0; i < hi && w > 0; i++ {
		w *= up(i)
		add(w)
	}
	for i, w := mode-1, 1.0; i >= lo && w > 0; i-- {
		w /= up(i)
		add(w)
	}
	return tail / total
}
