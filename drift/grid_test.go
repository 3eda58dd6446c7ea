package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The interval of a greater value is never an earlier one, equal values share theirs, and
// all are within bounds.
func TestGridKeepsTheOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	all := shapes(r)
	for name, draw := range all {
		for _, n := range []int{1, 2, 10, 1000} {
			for _, intervals := range []int{1, 2, 7, 300, 5000, maxIntervals} {
				values := present(drawn(n, draw))
				if len(values) == 0 {
					continue
				}
				slices.Sort(values)
				var g grid
				g.fit(values, intervals)
				probes := slices.Clone(values)
				for _, other := range all {
					probes = append(probes, present(drawn(30, other))...)
				}
				for _, x := range values {
					probes = append(probes, math.Nextafter(x, math.Inf(1)), below(x))
				}
				slices.Sort(probes)
				last := 0
				for i, x := range probes {
					at := g.at(x)
					if at < last || at > intervals {
						t.Fatalf("%s, %d values, %d intervals: %v is in interval %d after %d", name, n, intervals, x, at, last)
					}
					if i > 0 && x == probes[i-1] && at != last {
						t.Fatalf("%s: %v is in the intervals %d and %d", name, x, last, at)
					}
					last = at
				}
			}
		}
	}
}

// The intervals hold about equally many, of values in a narrow range and of those of many magnitudes.
func TestGridIsEven(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	const n, intervals = 50_000, 1000
	for name, draw := range map[string]func() float64{
		"normal": r.NormFloat64, "uniform": r.Float64, "narrow": func() float64 { return 1e9 + r.Float64() }, "heavy": func() float64 { return math.Pow(r.Float64(), -3) },
	} {
		values := drawn(n, draw)
		slices.Sort(values)
		var g grid
		g.fit(values, intervals)
		var held [intervals + 1]int
		for _, x := range values {
			held[g.at(x)]++
		}
		if most := slices.Max(held[:]); most > 10*n/intervals {
			t.Errorf("%s: %d of %d values are in one of %d intervals", name, most, n, intervals)
		}
	}
}

// Every way to find a cell finds the one that counting the edges below gives.
func TestCellOfAValue(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	all := shapes(r)
	for name, draw := range all {
		for _, n := range []int{0, 1, 2, 4, 5, 6, 9, 10, 40, 500, 3000} {
			edges := present(drawn(n, draw))
			slices.Sort(edges)
			edges = slices.Compact(edges)
			many, few := newLookup(edges), newLadder(edges)
			probes := []float64{math.Inf(-1), math.Inf(1), 0, math.Copysign(0, -1), math.MaxFloat64}
			for _, other := range all {
				probes = append(probes, present(drawn(10, other))...)
			}
			for range min(n, 200) {
				if len(edges) > 0 {
					e := edges[r.IntN(len(edges))]
					probes = append(probes, e, below(e), math.Nextafter(e, math.Inf(1)))
				}
			}
			for _, x := range probes {
				want := 0
				for _, e := range edges {
					if e < x {
						want++
					}
				}
				if a, b, c := many.cell(x), few.cell(x), cellOf(edges, x); a != want || b != want || c != want {
					t.Fatalf("%s, %d edges: %v is in cell %d; found %d, %d and %d", name, len(edges), x, want, a, b, c)
				}
			}
		}
	}
}

// Values are counted into the bins they belong to, however many bins there are.
func TestCountsPerBin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	all := shapes(r)
	for name, draw := range all {
		for _, bins := range []int{1, 2, 10, 100} {
			b := newBinner(sortedFinite(drawn(500, draw)), bins)
			for other, drawOther := range all {
				values := append(drawn(50, drawOther), drawn(50, draw)...)
				want := make([]int, b.count()+1)
				for _, x := range values {
					at := slices.Index(b.atoms, x)
					switch {
					case x != x:
						at = b.count()
					case at < 0:
						at = len(b.atoms)
						for _, e := range b.edges {
							if e < x {
								at++
							}
						}
					}
					want[at]++
				}
				if got := b.counts(values); !slices.Equal(got, want) {
					t.Fatalf("%s in %d bins of %s: %v, want %v", other, bins, name, got, want)
				}
			}
		}
	}
}

// Where most edges of all are in the last interval, none of them is missed.
func TestLookupOfTheLastInterval(t *testing.T) {
	var edges []float64
	for _, i := range []uint64{0, 1<<20 - 4, 1<<20 - 3, 1<<20 - 2, 1<<20 - 1} { // the greatest is at the very end of its part
		edges = append(edges, math.Float64frombits(math.Float64bits(1)+i))
	}
	l := newLookup(edges)
	for i, x := range edges {
		if got := l.cell(x); got != i {
			t.Errorf("%d edges are below %v, want %d", got, x, i)
		}
	}
	if got := l.cell(5); got != len(edges) {
		t.Errorf("%d edges are below 5, want %d", got, len(edges))
	}
}
