package drift

import (
	"math"
	"slices"
)

// cellCount is how finely a Reference cuts a numeric feature. KS on the cells
// misses at most one cell's share, 1/500, of the distance.
const cellCount = 500

// defaultBins is the number of PSI bins, the convention of the literature.
const defaultBins = 10

// binner assigns values to PSI bins: single values that are frequent enough
// have a bin of their own, the others fall into right-closed intervals
// (edges[k-1], edges[k]], open at both ends, or into one bin for the rest.
// Without bins for single values a constant reference would call nothing drift.
type binner struct {
	atoms []float64 // ascending; atom j is bin j
	edges []float64 // ascending; interval k is bin len(atoms)+k
}

// newBinner takes finite values in ascending order.
func newBinner(s []float64, bins int) *binner {
	b := &binner{}
	runs, distinct := 0, 0
	eachRun(s, func(_ float64, count int) {
		distinct++
		if count*bins >= len(s) {
			runs++
		}
	})
	if distinct <= bins {
		b.atoms = slices.Compact(slices.Clone(s))
		return b
	}
	rest := s
	if runs > 0 {
		rest = make([]float64, 0, len(s))
		i := 0
		eachRun(s, func(x float64, count int) {
			if count*bins >= len(s) {
				b.atoms = append(b.atoms, x)
			} else {
				rest = append(rest, s[i:i+count]...)
			}
			i += count
		})
		bins = max(1, int(math.Round(float64(bins)*float64(len(rest))/float64(len(s)))))
	}
	b.edges = orderEdges(rest, bins)
	return b
}

// orderEdges returns the edges s[ceil(k*n/bins)-1], k = 1..bins-1, of ascending
// s, without repeats and without one that would leave the last bin empty.
func orderEdges(s []float64, bins int) []float64 {
	n := len(s)
	if n == 0 {
		return nil
	}
	edges := make([]float64, 0, bins-1)
	for k := 1; k < bins; k++ {
		i := ceilDiv(k*n, bins) - 1
		if i < 0 {
			continue
		}
		if e := s[i]; len(edges) == 0 || e > edges[len(edges)-1] {
			edges = append(edges, e)
		}
	}
	if k := len(edges); k > 0 && edges[k-1] == s[n-1] {
		edges = edges[:k-1]
	}
	return edges
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func (b *binner) count() int { return len(b.atoms) + len(b.edges) + 1 }

func (b *binner) of(x float64) int {
	if len(b.atoms) > 0 {
		if j, ok := slices.BinarySearch(b.atoms, x); ok {
			return j
		}
	}
	return len(b.atoms) + cellOf(b.edges, x)
}

// counts returns the values per bin, and the missing ones after the last bin.
func (b *binner) counts(values []float64) []int {
	c := make([]int, b.count()+1)
	if len(b.atoms) == 0 {
		for _, x := range values {
			k := 0
			if len(b.edges) < 16 {
				for _, e := range b.edges { // faster than halving, for so few
					d := 0
					if e < x {
						d = 1
					}
					k += d
				}
			} else {
				k = cellOf(b.edges, x)
			}
			if x != x {
				k = len(c) - 1
			}
			c[k]++
		}
		return c
	}
	for _, x := range values {
		if x != x {
			c[len(c)-1]++
		} else {
			c[b.of(x)]++
		}
	}
	return c
}

// cellOf returns how many edges are below x, so that x is in the right-closed
// cell (edges[k-1], edges[k]]. x is not NaN. The loop has no branch to predict.
func cellOf(edges []float64, x float64) int {
	lo, n := 0, len(edges)
	for n > 1 {
		half := n >> 1
		if edges[lo+half-1] < x {
			lo += half
		}
		n -= half
	}
	if n == 1 && edges[lo] < x {
		lo++
	}
	return lo
}

// cellEdges cuts the line finely: at order statistics, at the bins' own edges
// so that a bin is a union of cells, around the range of s, and around each
// value frequent enough to be a cell of its own.
func cellEdges(s []float64, b *binner) []float64 {
	if len(s) == 0 {
		return nil
	}
	edges := append(orderEdges(s, cellCount), b.edges...)
	distinct := 0
	eachRun(s, func(float64, int) { distinct++ })
	eachRun(s, func(x float64, count int) {
		if distinct <= cellCount || count*cellCount >= len(s) {
			edges = append(edges, below(x), x)
		}
	})
	for _, x := range b.atoms {
		edges = append(edges, below(x), x)
	}
	edges = append(edges, below(s[0]), s[len(s)-1])
	edges = slices.DeleteFunc(edges, func(x float64) bool { return math.IsInf(x, 0) })
	slices.Sort(edges)
	return slices.Compact(edges)
}

// single reports whether cell k holds one value only: a tie, not a stretch.
func single(edges []float64, k int) bool {
	return k > 0 && k < len(edges) && edges[k-1] == below(edges[k])
}

func below(x float64) float64 { return math.Nextafter(x, math.Inf(-1)) }

// eachRun calls f with each distinct value of ascending s and how often it occurs.
func eachRun(s []float64, f func(x float64, count int)) {
	for i := 0; i < len(s); {
		j := i + 1
		for j < len(s) && s[j] == s[i] {
			j++
		}
		f(s[i], j-i)
		i = j
	}
}

// sortedFinite returns the finite values in ascending order, as a copy.
func sortedFinite(values []float64) []float64 {
	s := make([]float64, 0, len(values))
	for _, x := range values {
		if x-x == 0 {
			s = append(s, x)
		}
	}
	sortFloats(s)
	return s
}
