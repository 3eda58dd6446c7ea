package drift

import (
	"cmp"
	"slices"
)

// BenjaminiHochberg adjusts p-values for the false discovery rate (1995): to
// mark those whose adjusted value is at most q is to expect a wrong share of at
// most q among the marked, for independent or positively dependent tests. The
// result is in the order of p, which is not modified. NaN counts as 1.
func BenjaminiHochberg(p []float64) []float64 { return stepUp(p, 1) }

// BenjaminiYekutieli is [BenjaminiHochberg] for tests that depend on each other
// in any way (2001), at the price of a factor of 1 + 1/2 + ... + 1/len(p). The result is in the order of
// p, which is not modified. NaN counts as 1.
func BenjaminiYekutieli(p []float64) []float64 {
	factor := 0.0
	for i := len(p); i > 0; i-- {
		factor += 1 / float64(i)
	}
	return stepUp(p, factor)
}

func stepUp(p []float64, factor float64) []float64 {
	out, order := prepare(p)
	least := 1.0
	for i, k := range slices.Backward(order) {
		least = min(least, out[k]*factor*float64(len(p))/float64(i+1))
		out[k] = least
	}
	return out
}

// Holm adjusts p-values for the chance of a single false one (1979), however
// the tests depend on each other. The result is in the order of p, which is not
// modified. NaN counts as 1.
func Holm(p []float64) []float64 {
	out, order := prepare(p)
	most := 0.0
	for i, k := range order {
		most = max(most, min(1, out[k]*float64(len(p)-i)))
		out[k] = most
	}
	return out
}

// prepare copies p into [0,1] and gives the order of the copies, smallest first.
func prepare(p []float64) (out []float64, order []int) {
	out, order = make([]float64, len(p)), make([]int, len(p))
	for i, x := range p {
		order[i] = i
		if x != x {
			x = 1
		}
		out[i] = min(max(x, 0), 1)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(out[a], out[b]) })
	return out, order
}
