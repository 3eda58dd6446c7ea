package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// gamblers are an EProcess by its description: chances and not odds, nothing divided beforehand.
type gamblers struct {
	ref    []float64 // ascending
	bins   int
	seen   []float64 // values in each bin
	lately [2][]float64
	have   [8]float64
}

func newGamblers(ref []float64, bins int) *gamblers {
	g := &gamblers{ref: slices.Sorted(slices.Values(ref)), bins: bins}
	g.begin()
	return g
}

var spans = [2]float64{250, 1000} // of the last values

func (g *gamblers) begin() {
	g.have = [8]float64{}
	g.seen = make([]float64, g.bins)
	for i, last := range spans {
		g.lately[i] = make([]float64, g.bins)
		for k := range g.bins {
			g.lately[i][k] = last * g.ranks(k) / float64(len(g.ref)+1)
		}
	}
}

// upto is the rank of the reference value at the upper end of bin k.
func (g *gamblers) upto(k int) float64 {
	switch k {
	case -1:
		return 0
	case g.bins - 1:
		return float64(len(g.ref) + 1)
	}
	return math.Ceil(float64((k+1)*len(g.ref)) / float64(g.bins))
}

func (g *gamblers) ranks(k int) float64 { return g.upto(k) - g.upto(k-1) }

// bet returns the mean of what all have after the value.
func (g *gamblers) bet(x float64) float64 {
	k := 0
	for k < g.bins-1 && x > g.ref[int(g.upto(k))-1] {
		k++
	}
	n := float64(len(g.ref) + 1)
	total := n
	for _, s := range g.seen {
		total += s
	}
	exact := (g.ranks(k) + g.seen[k]) / total
	// The normal distribution function at the reference's own quantile.
	quantile := func(k int) float64 { return -math.Sqrt2 * math.Erfcinv(2*g.upto(k)/n) }
	for i, c := range [6][2]float64{{0.3, 1}, {-0.3, 1}, {0.8, 1}, {-0.8, 1}, {0, 1.25}, {0, 0.8}} {
		at := func(k int) float64 {
			switch k {
			case -1:
				return 0
			case g.bins - 1:
				return 1
			}
			return (1 + math.Erf((quantile(k)-c[0])/c[1]/math.Sqrt2)) / 2
		}
		g.have[i] = (g.have[i] + 1) * (at(k) - at(k-1)) / exact
	}
	for i, last := range spans {
		chance := exact/3 + 2.0/3*g.lately[i][k]/last
		g.have[6+i] = (g.have[6+i] + 1) * chance / exact
		for j := range g.bins {
			g.lately[i][j] *= (last - 1) / last
		}
		g.lately[i][k]++
	}
	g.seen[k]++
	sum := 0.0
	for _, h := range g.have {
		sum += h
	}
	return sum / 8
}

// Winnings and alarms against the description, through shifts, a change of spread, an alarm and what follows it,
// and as long as the weights of the newest values have to be made small again.
func TestEProcessAgainstGamblers(t *testing.T) {
	for _, c := range []struct {
		ref, bins, values int
		limit             float64
		next              func(r *rand.Rand, i int) float64
	}{
		{300, 10, 4000, 1e4, func(r *rand.Rand, i int) float64 { return r.NormFloat64() + 0.4*float64(i/2000) }},
		{300, 10, 4000, 1e4, func(r *rand.Rand, i int) float64 { return r.NormFloat64() - 0.9*float64(i/2000) }},
		{777, 16, 3000, 1e3, func(r *rand.Rand, i int) float64 { return r.NormFloat64() * (1 + 0.5*float64(i/1500)) }},
		{64, 64, 3000, 1e3, func(r *rand.Rand, i int) float64 { return r.NormFloat64() * (1 - 0.5*float64(i/1500)) }},
		{5, 2, 1000, 100, func(r *rand.Rand, i int) float64 { return r.NormFloat64() + 3*float64(i/500) }},
		{1000, 10, 64_000, 1e14, func(r *rand.Rand, _ int) float64 { return r.NormFloat64() }},
	} {
		ref := normals(3, c.ref)
		d := &EProcess{Reference: ref, Bins: c.bins, RunLength: c.limit}
		g := newGamblers(ref, c.bins)
		r := rand.New(rand.NewPCG(9, 9))
		alarms := 0
		for i := range c.values {
			x := c.next(r, i)
			verdict, want := d.Observe(x), g.bet(x)
			if got := d.Winnings(); math.Abs(got-want) > 1e-7*want {
				t.Fatalf("%d values of %d bins, value %d: %v, by the description %v", c.ref, c.bins, i, got, want)
			}
			if (verdict == Drift) != (want >= c.limit) {
				t.Fatalf("%d values of %d bins, value %d: %v at %v of %v", c.ref, c.bins, i, verdict, want, c.limit)
			}
			if verdict == Drift {
				g.begin()
				alarms++
			}
		}
		if alarms == 0 && c.limit < 1e14 {
			t.Errorf("%d values of %d bins: no alarm", c.ref, c.bins)
		}
	}
}

// What is equal to an edge falls on either side of it at random, as often as there are ranks: a constant
// reference has equal bins, and one of two values has those of each value in proportion.
func TestEProcessBreaksTies(t *testing.T) {
	const n, values = 4000, 20_000
	for name, c := range map[string]struct {
		ref  []float64
		want []float64 // shares
	}{
		"one value":                        {valuesOf(n), []float64{0.25, 0.25, 0.25, 0.25}},
		"an edge between two values":       {valuesOf(n/2, n/2), []float64{0.25, 0.25, 0.25, 0.25}},
		"a rare one":                       {valuesOf(n/8, 7*n/8), []float64{0.25, 0.25, 0.25, 0.25}},
		"many below, one value at the top": {append(valuesOf(slices.Repeat([]int{1}, n/2)...), slices.Repeat([]float64{1e6}, n/2)...), []float64{0.25, 0.25, 0.25, 0.25}},
	} {
		d := &EProcess{Reference: c.ref, Bins: 4, RunLength: 1e15}
		r := rand.New(rand.NewPCG(4, 4))
		for range values {
			d.Observe(c.ref[r.IntN(n)])
		}
		for k, b := range d.bins {
			if got := (b.seen - b.ranks) / values; math.Abs(got-c.want[k]) > 0.03 {
				t.Errorf("%s: %.3f of the values in bin %d, want %v", name, got, k, c.want[k])
			}
		}
	}
}

// The values learned are a reference like any other.
func TestEProcessLearns(t *testing.T) {
	all := normals(6, 3000)
	given, learning := &EProcess{Reference: all[:500], RunLength: 500}, &EProcess{Learn: 500, RunLength: 500}
	for i, x := range all[:500] {
		if v := learning.Observe(x); v != Insufficient {
			t.Fatalf("value %d of those to learn: %v", i, v)
		}
	}
	for i, x := range all[500:] {
		if a, b := learning.Observe(x+0.5), given.Observe(x+0.5); a != b || learning.Winnings() != given.Winnings() {
			t.Fatalf("value %d: %v and %v, %v and %v", i, a, b, learning.Winnings(), given.Winnings())
		}
	}
}
