package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	special := []float64{0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, 5e-324, -5e-324, 1e300}
	for name, draw := range map[string]func() float64{
		"normal":  r.NormFloat64,
		"special": func() float64 { return special[r.IntN(len(special))] },
		"bits": func() float64 {
			for {
				if x := math.Float64frombits(r.Uint64()); x == x {
					return x
				}
			}
		},
		"few":      func() float64 { return float64(r.IntN(3)) },
		"close":    func() float64 { return 1e9 + r.Float64()/8 },
		"constant": func() float64 { return 7 },
	} {
		for _, n := range []int{1, 2, radixFrom - 1, radixFrom, 5000} {
			s := make([]float64, n)
			for i := range s {
				s[i] = draw()
			}
			want := slices.Clone(s)
			slices.Sort(want)
			sortFloats(s)
			if !slices.Equal(s, want) {
				t.Errorf("%s: %d values are not in order", name, n)
			}
		}
	}
	for _, x := range special {
		if got := unordered(ordered(x)); math.Float64bits(got) != math.Float64bits(x) {
			t.Errorf("%v came back as %v", x, got)
		}
	}
}

func BenchmarkSort(b *testing.B) {
	v := normals(1, 1_000_000)
	s := make([]float64, len(v))
	for name, f := range map[string]func([]float64){"radix": sortFloats, "compare": slices.Sort[[]float64]} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				copy(s, v)
				f(s)
			}
		})
	}
}
