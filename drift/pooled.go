package drift

import (
	"cmp"
	"math"
)

// tie is a group of equal pooled values: how many are the reference's and the current sample's.
type tie struct{ ref, cur int }

// eachTie calls f with the distinct pooled values of two ascending samples, in order.
func eachTie(a, b []float64, f func(x float64, t tie)) {
	for i, j := 0, 0; i < len(a) || j < len(b); {
		var x float64
		if j == len(b) || (i < len(a) && cmp.Less(a[i], b[j])) {
			x = a[i]
		} else {
			x = b[j]
		}
		var t tie
		for ; i < len(a) && a[i] == x; i++ {
			t.ref++
		}
		for ; j < len(b) && b[j] == x; j++ {
			t.cur++
		}
		f(x, t)
	}
}

// tieGroups returns the sizes of the groups of equal pooled values, in order.
func tieGroups(a, b []float64) []int {
	var groups []int
	eachTie(a, b, func(_ float64, t tie) { groups = append(groups, t.ref+t.cur) })
	return groups
}

// Limits of the exact law of a sum over groups: pooled values, and partial sums it may hold.
const (
	exactValues = 100
	exactSums   = 2_000_000
)

// partial is how many ways there are to a partial sum.
type partial struct{ sum, ways float64 }

// sumTail is P(statistic >= seen) for a statistic that is a sum over groups, when
// all deals of the pooled values to samples of n and of the rest are equally likely.
// add is what group t adds if i values of the first sample come before it and c are
// in it. It follows all deals from both ends to the middle, so 2^(N/2)
// sums at the most, and gives up, with false, over the limits.
func sumTail(groups []int, n int, add func(t, i, c int) float64, seen float64) (float64, bool) {
	total := 0
	for _, l := range groups {
		total += l
	}
	if total > exactValues {
		return 0, false
	}
	held := 0
	// walk follows groups from..to and returns the partial sums by the values of
	// the first sample at the end of that walk. Backwards i counts what is still to come.
	walk := func(from, to, step, start int) ([][]partial, bool) {
		state := make([][]partial, n+1)
		state[start] = []partial{{0, 1}}
		for t := from; t != to; t += step {
			next := make([][]partial, n+1)
			for i, list := range state {
				if list == nil {
					continue
				}
				ways := 1.0 // binomial(l, c)
				for c := 0; c <= groups[t]; c++ {
					if end := i + step*c; end >= 0 && end <= n {
						before := min(i, end)
						next[end] = mergeSums(next[end], list, add(t, before, c), ways)
						held += len(next[end])
					}
					if held > exactSums {
						return nil, false
					}
					ways *= float64(groups[t]-c) / float64(c+1)
				}
			}
			state = next
		}
		return state, true
	}
	half, values := 0, 0
	for ; half < len(groups) && 2*(values+groups[half]) <= total; half++ {
		values += groups[half]
	}
	left, ok := walk(0, half, 1, 0)
	if !ok {
		return 0, false
	}
	right, ok := walk(len(groups)-1, half-1, -1, n)
	if !ok {
		return 0, false
	}
	seen -= 1e-11 * math.Abs(seen) // sums that are equal differ by rounding
	hit, all := 0.0, 0.0
	for i, list := range left {
		from, tail := len(right[i]), 0.0
		sum := 0.0
		for _, r := range right[i] {
			sum += r.ways
		}
		for _, l := range list { // ascending, so ever more of the right ones suffice
			for from > 0 && l.sum+right[i][from-1].sum >= seen {
				from--
				tail += right[i][from].ways
			}
			hit += l.ways * tail
			all += l.ways * sum
		}
	}
	return min(1, hit/all), true
}

// mergeSums adds to ascending sums a the list b, shifted and weighted.
func mergeSums(a, b []partial, shift, weight float64) []partial {
	out := make([]partial, 0, len(a)+len(b))
	for i, j := 0, 0; i < len(a) || j < len(b); {
		if j == len(b) {
			return append(out, a[i:]...)
		}
		x := partial{b[j].sum + shift, b[j].ways * weight}
		switch {
		case i == len(a) || x.sum < a[i].sum:
			out = append(out, x)
			j++
		case x.sum == a[i].sum:
			out = append(out, partial{x.sum, x.ways + a[i].ways})
			i++
			j++
		default:
			out = append(out, a[i])
			i++
		}
	}
	return out
}
