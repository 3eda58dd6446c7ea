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
		if e := s[ceilDiv(k*n, bins)-1]; len(edges) == 0 || e > edges[len(edges)-1] {
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
	if j, ok := slices.BinarySearch(b.atoms, x); ok {
		return j
	}
	return len(b.atoms) + cellOf(b.edges, x)
}

// cuts divides the line so finely that each cell lies in one bin, which is bin[k] for cell k.
func (b *binner) cuts() (edges []float64, bin []int) {
	edges = slices.Clone(b.edges)
	for _, x := range b.atoms {
		edges = append(edges, below(x), x)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	bin = make([]int, len(edges)+1)
	for k, e := range edges {
		bin[k] = b.of(e) // the upper edge stands for its cell
	}
	bin[len(edges)] = b.count() - 1
	return edges, bin
}

// counts returns the values per bin, and the missing ones after the last bin.
func (b *binner) counts(values []float64) []int {
	edges, bin := b.cuts()
	cells := make([]int, len(bin)+1)
	if len(edges) <= maxLadder {
		few := newLadder(edges)
		steps, rungs := few.steps, few.rungs
		for _, x := range values {
			k := rung(rungs, step(steps, x), x)
			if x != x {
				k = len(cells) - 1
			}
			cells[k]++
		}
	} else {
		many := newLookup(edges)
		for _, x := range values {
			k := len(cells) - 1
			if x == x {
				k = many.cell(x)
			}
			cells[k]++
		}
	}
	c := make([]int, b.count()+1)
	c[len(c)-1] = cells[len(bin)]
	for k, i := range bin {
		c[i] += cells[k]
	}
	return c
}

// isBelow is 1 if e < x and else 0. What is added up like this takes no branch, which no
// processor could predict.
func isBelow(e, x float64) int {
	if e < x {
		return 1
	}
	return 0
}

// cellOf returns how many edges are below x, so that x is in the right-closed
// cell (edges[k-1], edges[k]]. x is not NaN.
func cellOf(edges []float64, x float64) int {
	lo, n := 0, len(edges)
	for n > 1 {
		half := n >> 1
		lo += half & -isBelow(edges[lo+half-1], x)
		n -= half
	}
	if n == 1 {
		lo += isBelow(edges[lo], x)
	}
	return lo
}

// ladder finds the cell of a value among a few edges: it goes up in steps of five, and then
// by the four edges between. For so few this is faster than halving, and than a lookup.
type ladder struct {
	steps []float64 // edges 4, 9, 14, ...
	rungs []float64 // all of them, and four that nothing is above
}

// maxLadder is how many edges are few.
const maxLadder = 40

func newLadder(edges []float64) ladder {
	inf := math.Inf(1)
	l := ladder{rungs: append(slices.Clone(edges), inf, inf, inf, inf)}
	for i := 4; i < len(edges); i += 5 {
		l.steps = append(l.steps, edges[i])
	}
	return l
}

// cell returns how many edges are below x, and 0 for NaN.
func (l *ladder) cell(x float64) int { return rung(l.rungs, step(l.steps, x), x) }

// step and rung are the two parts of cell, small enough to become part of a loop.
func step(steps []float64, x float64) int {
	k := 0
	for _, e := range steps {
		k += 5 * isBelow(e, x)
	}
	return k
}

func rung(rungs []float64, k int, x float64) int {
	e := rungs[k : k+4 : k+4]
	return k + isBelow(e[0], x) + isBelow(e[1], x) + isBelow(e[2], x) + isBelow(e[3], x)
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
