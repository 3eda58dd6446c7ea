package drift

import (
	"math"
	"math/rand/v2"
)

// permutations is how many deals are drawn where they are too many to be
// counted, and enough how many that came as far end it before.
const (
	permutations = 999
	enough       = 50
)

// permutationSteps bounds the work of drawing them: about 0.1 s.
const permutationSteps = 20_000_000

// AndersonDarling is the two-sample Anderson-Darling test in the form by
// mid-ranks of Scholz and Stephens (1987, equation 7), which knows ties. Stat is
//
//	A2 = (N-1)/(N*n*m) * sum over distinct values of l * (N*M - n*B)^2 / (B*(N-B) - N*l/4)
//
// with N = n+m, l how many pooled values equal it, B how many are below and M how
// many of the reference are, half of those equal counted. It weighs the tails as
// heavily as the middle, and has the most power of the tests here for most shifts. Null is its mean over all deals of the
// pooled values, which is 1; Effect is sqrt((A2-1)*N/(n*m)), at least 0: the root
// mean square of F-G, tails weighted up, noise taken off.
//
// P is, as Method says:
//
//   - "anderson-darling exact": all deals counted, for up to about 36 values together, more with ties
//   - "anderson-darling permutation": (1+hits)/1000 of 999 deals drawn from seed, or 50
//     by the number drawn when the 50th came as far (Besag and Clifford 1991); the same
//     seed gives the same P. Up to 20,000 values together
//   - "anderson-darling permutation, limit tail": none of them came that far; the limit law, at most 1/1000
//   - "anderson-darling limit": the limit law, for more values; with groups of ties of over 1/256 of
//     the values that under these ties
//
// NaN is missing and left out; infinities are values. With no value on either side there is no P.
func AndersonDarling(ref, cur []float64, seed uint64) Score {
	a, b := ascending(ref), ascending(cur)
	n, m := len(a), len(b)
	s := Score{Method: "anderson-darling", N: n, M: m}
	if n == 0 || m == 0 {
		return s.finite()
	}
	nf, total := float64(n), float64(n)+float64(m)
	var weights []adWeight
	deal := n+m <= permutationSteps/permutations
	sum, before, first, largest, distinct := 0.0, 0.0, 0.0, 0, 0
	eachTie(a, b, func(_ float64, t tie) {
		w := newADWeight(t.ref+t.cur, before, total)
		sum += w.add(nf, total, first, float64(t.ref))
		before += float64(w.size)
		first += float64(t.ref)
		largest = max(largest, w.size)
		distinct++
		if deal {
			weights = append(weights, w)
		}
	})
	s.HasP, s.P, s.Null = true, 1, 1
	if distinct == 1 {
		s.Null = 0
		s.Method = "anderson-darling exact"
		return s.finite()
	}
	s.Stat = sum * (total - 1) / (total * nf * float64(m))
	s.Effect = math.Sqrt(max(0, s.Stat-1) * total / (nf * float64(m)))
	if !deal {
		s.Method, s.P = "anderson-darling limit", adTail(s.Stat, a, b, largest)
		return s.finite()
	}
	groups := make([]int, len(weights))
	for t, w := range weights {
		groups[t] = w.size
	}
	add := func(t, i, c int) float64 { return weights[t].add(nf, total, float64(i), float64(c)) }
	if p, ok := sumTail(groups, n, add, sum); ok {
		s.Method, s.P = "anderson-darling exact", p
		return s.finite()
	}
	s.Method = "anderson-darling permutation"
	r := rand.New(rand.NewPCG(seed, 0))
	p, hits := permutationP(func() bool { return adDeal(weights, n, m, r) >= sum*(1-1e-11) })
	s.P = p
	if hits == 0 {
		s.Method += ", limit tail"
		s.P = min(s.P, adTail(s.Stat, a, b, largest))
	}
	return s.finite()
}

// adWeight is a group of ties: its size, the mid-rank B, and l/(B*(N-B) - N*l/4).
type adWeight struct {
	size        int
	mid, weight float64
}

func newADWeight(size int, before, total float64) adWeight {
	l := float64(size)
	b := before + l/2
	w := adWeight{size: size, mid: b}
	if l < total {
		w.weight = l / (b*(total-b) - total*l/4)
	}
	return w
}

// add is the group's part of the sum if first values of the reference come
// before it and c are in it.
func (w *adWeight) add(n, total, first, c float64) float64 {
	d := total*(first+c/2) - n*w.mid
	return w.weight * d * d
}

// permutationP draws deals until enough came as far as the observed one.
func permutationP(asFar func() bool) (p float64, hits int) {
	for drawn := 1; drawn <= permutations; drawn++ {
		if asFar() {
			if hits++; hits == enough {
				return float64(hits) / float64(drawn), hits
			}
		}
	}
	return float64(1+hits) / (1 + permutations), hits
}

// adDeal is the sum of one deal drawn from r.
func adDeal(weights []adWeight, n, m int, r *rand.Rand) float64 {
	nf, total := float64(n), float64(n+m)
	sum, left, of := 0.0, n, n+m
	for k := range weights {
		w := &weights[k]
		before := left
		for range w.size { // each value is the reference's with chance left/of
			if int(r.Uint64N(uint64(of))) < left {
				left--
			}
			of--
		}
		sum += w.add(nf, total, float64(n-before), float64(before-left))
	}
	return sum
}

// adTail is the limit law, that under ties if one group is large.
func adTail(x float64, a, b []float64, largest int) float64 {
	if total := float64(len(a) + len(b)); largest == 1 || float64(largest)*limitCells <= total {
		return adLaw.tail(x)
	}
	share := tieShares(a, b)
	mids, at := make([]float64, len(share)), 0.0
	for t, l := range share {
		s := at + l/2
		mids[t] = l / (s*(1-s) - l/4)
		at += l
	}
	return tiedLaw(share, mids, make([]float64, len(share))).tail(x)
}
