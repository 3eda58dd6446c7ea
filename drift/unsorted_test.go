package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// shapes draw values of every kind that a way to find a place among others could stumble over.
func shapes(r *rand.Rand) map[string]func() float64 {
	special := []float64{0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, 5e-324, -5e-324, 1e300, 2.2e-308}
	return map[string]func() float64{
		"normal":      func() float64 { return r.NormFloat64() + r.Float64()*1e-6 },
		"special":     func() float64 { return special[r.IntN(len(special))] },
		"subnormal":   func() float64 { return float64(r.IntN(1000)-500) * 5e-324 },
		"few":         func() float64 { return float64(r.IntN(3)) },
		"integers":    func() float64 { return float64(r.IntN(2000)) },
		"close":       func() float64 { return 1e9 + r.Float64()/8 },
		"constant":    func() float64 { return 7 },
		"zero":        func() float64 { return math.Copysign(0, r.Float64()-0.5) },
		"heavy":       func() float64 { return math.Pow(r.Float64(), -3) },
		"two lumps":   func() float64 { return r.Float64() + float64(r.IntN(2))*1e12 },
		"atom":        func() float64 { return max(0, r.NormFloat64()) + 3 },
		"one missing": func() float64 { return [2]float64{r.Float64(), math.NaN()}[r.IntN(2)] },
		"bits": func() float64 {
			for {
				if x := math.Float64frombits(r.Uint64()); x == x {
					return x
				}
			}
		},
	}
}

func drawn(n int, draw func() float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = draw()
	}
	return v
}

// gapsByCounting counts what is at most each of the pooled values.
func gapsByCounting(a, b []float64) (above, below int64, ties bool) {
	upto := func(s []float64, x float64) int64 {
		n, _ := slices.BinarySearchFunc(s, x, func(e, x float64) int {
			if e <= x {
				return -1
			}
			return 1
		})
		return int64(n)
	}
	n, m := int64(len(a)), int64(len(b))
	all := slices.Concat(a, b)
	slices.Sort(all)
	for i, x := range all {
		ties = ties || i > 0 && x == all[i-1]
		gap := upto(a, x)*m - upto(b, x)*n
		above, below = max(above, gap), max(below, -gap)
	}
	divisor := n
	for n%divisor != 0 || m%divisor != 0 {
		divisor--
	}
	return above / divisor, below / divisor, ties
}

func present(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(x float64) bool { return x != x })
}

// Without sorting the distance is what it is with sorting, and what it is by definition.
func TestUnsorted(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	all := shapes(r)
	check := func(name string, ref, cur []float64) {
		t.Helper()
		before := slices.Clone(cur)
		a, b := ascending(ref), present(cur)
		slices.Sort(b)
		if len(a) == 0 || len(b) == 0 {
			return
		}
		c := newUnsorted(a, cur)
		above, below := c.maxGap()
		ties, m := c.ties(), c.m
		wantAbove, wantBelow, wantTies := gapsByCounting(a, b)
		if above != wantAbove || below != wantBelow || ties != wantTies || m != len(b) {
			t.Errorf("%s, %d and %d values: gaps %d and %d, ties %v, %d values; want %d, %d, %v, %d",
				name, len(a), len(b), above, below, ties, m, wantAbove, wantBelow, wantTies, len(b))
		}
		if above, below, ties := maxGap(a, b); above != wantAbove || below != wantBelow || ties != wantTies {
			t.Errorf("%s, %d and %d values, sorted: gaps %d and %d, ties %v; want %d, %d, %v",
				name, len(a), len(b), above, below, ties, wantAbove, wantBelow, wantTies)
		}
		if !slices.EqualFunc(before, cur, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) }) {
			t.Errorf("%s: the sample was changed", name)
		}
	}
	sizes := []int{1, 2, 3, 17, 200, maxMarks, maxMarks + 1, 3000}
	for name, draw := range all {
		for other, drawOther := range all {
			for range 2 {
				n, m := sizes[r.IntN(len(sizes))], sizes[r.IntN(len(sizes))]
				check(name+" against "+other, drawn(n, draw), drawn(m, drawOther))
			}
		}
		for _, n := range sizes {
			check(name, drawn(n, draw), drawn(n, draw))
			check(name, drawn(n, draw), drawn(n+1, draw))
		}
	}
}

// Two equal values among thousands that differ are found, wherever they are, and
// nothing is where they are not.
func TestUnsortedFindsOneTie(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	const n = 5000
	for range 20 {
		values := make([]float64, 2*n) // all different
		for i := range values {
			values[i] = math.Exp(float64(i) / n)
		}
		r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		ref, cur := slices.Sorted(slices.Values(values[:n])), values[n:]
		if ties := newUnsorted(ref, cur).ties(); ties {
			t.Fatal("no two of the values are equal")
		}
		i := r.IntN(n)
		cur[i] = ref[r.IntN(n)]
		if ties := newUnsorted(ref, cur).ties(); !ties {
			t.Errorf("%v is in both samples", cur[i])
		}
		cur[i] = cur[(i+1+r.IntN(n-1))%n]
		if ties := newUnsorted(ref, cur).ties(); !ties {
			t.Errorf("%v is in one sample twice", cur[i])
		}
		cur[i] = 0.5
		ref[0] = ref[1]
		if ties := newUnsorted(ref, cur).ties(); !ties {
			t.Errorf("%v is in the reference twice", ref[0])
		}
	}
}

// KS is the same whether it counts or sorts, on both sides of the size from which it counts.
func TestKSOfAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	all := shapes(r)
	for _, name := range []string{"normal", "integers", "one missing"} {
		draw := all[name]
		for _, m := range []int{countFrom - 1, countFrom, 2 * countFrom} {
			ref, cur := drawn(900, draw), drawn(m, draw)
			sorted := slices.Sorted(slices.Values(cur))
			if got, want := KS(ref, cur), KS(ref, sorted); got != want {
				t.Errorf("%s, %d values: %+v; sorted %+v", name, m, got, want)
			}
			if got, want := KSGreater(ref, cur), KSGreater(ref, sorted); got != want {
				t.Errorf("%s, %d values: %+v; sorted %+v", name, m, got, want)
			}
		}
	}
}

// Nothing is compared with so many values that they would be counted.
func TestKSOfNothing(t *testing.T) {
	many := drawn(countFrom, rand.New(rand.NewPCG(6, 9)).NormFloat64)
	for _, none := range [][]float64{nil, {math.NaN()}} {
		if s := KS(none, many); s.Stat != 0 || s.HasP || s.N != 0 || s.M != countFrom {
			t.Errorf("%v against many values: %+v", none, s)
		}
		if s := KS(many, none); s.Stat != 0 || s.HasP || s.N != countFrom || s.M != 0 {
			t.Errorf("many values against %v: %+v", none, s)
		}
	}
}

// The two zeros are equal, whatever their bits.
func TestZerosMeet(t *testing.T) {
	minus := math.Copysign(0, -1)
	for _, c := range []struct{ a, b []float64 }{
		{[]float64{0}, []float64{minus}}, {[]float64{minus}, []float64{0}}, {nil, []float64{minus, 0}}, {nil, []float64{0, 1, minus}},
	} {
		if !new(marks).meet(c.a, c.b) {
			t.Errorf("%v and %v: no two are equal, want the zeros to be", c.a, c.b)
		}
	}
}
