package drift

import "math/bits"

// grid tells about where among some ascending values a value is, in a few
// instructions and without a search. It cuts the line into intervals that hold about equally
// many of the values: between the least and the greatest, floats taken as integers of the
// same order are cut into parts of equal length, and each part into intervals of
// equal length, as many as its share of the values. So it fits to values that lie in a
// narrow range as it fits to those of many magnitudes.
type grid struct {
	least, greatest uint64
	shift           uint // makes 64 bits of the range
	parts           [1 << gridBits]gridPart
}

// gridPart is the first interval of a part, and how many there are; where there
// is none, it belongs to the first of the next.
type gridPart struct{ first, count uint16 }

const gridBits = 10

// maxIntervals bounds the intervals of a grid.
const maxIntervals = 1<<16 - 2

// fit makes a grid of so many intervals, and one for the greatest values. The values are
// ascending, at least one, and not NaN.
func (g *grid) fit(values []float64, intervals int) {
	g.least, g.greatest = ordered(values[0]), ordered(values[len(values)-1])
	g.shift = uint(bits.LeadingZeros64((g.greatest - g.least) | 1))
	var held [1 << gridBits]int
	total := 0
	for i := 0; i < len(values); i += 1 + len(values)/(8*intervals) { // a sample will do
		held[g.spread(values[i])>>(64-gridBits)]++
		total++
	}
	first, upto := 0, 0
	for i := range held {
		upto += held[i]
		next := int(int64(upto) * int64(intervals) / int64(total)) // which 32 bits would not hold
		g.parts[i] = gridPart{uint16(first), uint16(next - first)}
		first = next
	}
}

// spread maps x to the range: what is outside to its ends.
func (g *grid) spread(x float64) uint64 {
	k := ordered(x + 0) // -0 is 0
	return (min(max(k, g.least), g.greatest) - g.least) << (g.shift & 63)
}

// at is the interval of x, which is not NaN. Of two values the greater is in no
// earlier interval, and equal ones are in the same.
func (g *grid) at(x float64) int {
	u := g.spread(x)
	p := g.parts[u>>(64-gridBits)]
	return int(p.first) + int((u<<gridBits>>32)*uint64(p.count)>>32)
}

// lookup finds the cell of a value among many edges: what cellOf searches for among all
// of them, it looks for among the few of an interval.
type lookup struct {
	grid

	edges []float64
	from  []uint32 // per interval, how many edges are in those before
	most  int      // edges in an interval
}

// maxScan is up to how many edges of an interval are all looked at, since a loop of
// always the same length costs less than a shorter one that ends no one knows when.
const maxScan = 12

// newLookup takes ascending edges without NaN, and keeps them.
func newLookup(edges []float64) *lookup {
	l := &lookup{edges: edges, from: make([]uint32, 2)}
	if len(edges) == 0 {
		return l
	}
	intervals := min(2*len(edges), maxIntervals)
	l.fit(edges, intervals)
	l.from = make([]uint32, intervals+2)
	for _, e := range edges {
		l.from[l.at(e)+1]++
	}
	for i := range intervals + 1 {
		l.most = max(l.most, int(l.from[i+1]))
		l.from[i+1] += l.from[i]
	}
	return l
}

// cell returns how many edges are below x, which is not NaN.
func (l *lookup) cell(x float64) int {
	i := l.at(x)
	k := int(l.from[i])
	if l.most > maxScan {
		return k + cellOf(l.edges[k:l.from[i+1]], x)
	}
	n := k
	for _, e := range l.edges[k:min(k+l.most, len(l.edges))] {
		n += isBelow(e, x) // those of later intervals are not
	}
	return n
}
