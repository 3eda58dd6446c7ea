package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// bruteKS is P(D >= observed) over all ways to deal the pooled values to samples
// of these sizes: the definition of the conditional test, ties included.
func bruteKS(ref, cur []float64) float64 {
	pool := slices.Concat(ref, cur)
	n := len(ref)
	gap := func(first uint) int {
		most := 0
		for _, x := range pool {
			f, g := 0, 0
			for k, y := range pool {
				if y > x {
					continue
				}
				if first>>k&1 == 1 {
					f++
				} else {
					g++
				}
			}
			d := f*len(cur) - g*n
			most = max(most, d, -d)
		}
		return most
	}
	seen := gap(1<<n - 1)
	all, hit := 0, 0
	for set := range uint(1) << len(pool) {
		ones := 0
		for s := set; s > 0; s &= s - 1 {
			ones++
		}
		if ones != n {
			continue
		}
		all++
		if gap(set) >= seen {
			hit++
		}
	}
	return float64(hit) / float64(all)
}

func TestKSBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	methods := map[string]int{}
	for range 300 {
		n, m := 1+r.IntN(6), 1+r.IntN(6)
		distinct := 2 + r.IntN(12)
		draw := func(k int) []float64 {
			v := make([]float64, k)
			for i := range v {
				v[i] = float64(r.IntN(distinct))
				if distinct > 10 {
					v[i] = r.Float64()
				}
			}
			return v
		}
		ref, cur := draw(n), draw(m)
		got, want := KS(ref, cur), bruteKS(ref, cur)
		methods[got.Method]++
		if math.Abs(got.P-want) > 1e-12 {
			t.Errorf("KS(%v, %v).P = %v by %q, counting gives %v", ref, cur, got.P, got.Method, want)
		}
	}
	if len(methods) < 2 {
		t.Errorf("only %v were exercised", methods)
	}
}

// The exact forms agree with each other where both apply.
func TestKSFormsAgree(t *testing.T) {
	for _, n := range []int{1, 2, 7, 50, 300, 2000} {
		for h := 1; h <= n; h += 1 + n/20 {
			closed := ksEqual(n, h)
			p, ok := ksPaths(n, n, h, nil, math.MaxInt)
			if !ok || math.Abs(p-closed) > 1e-11*closed {
				t.Errorf("n=%d h=%d: paths %v, closed form %v", n, h, p, closed)
			}
		}
	}
	// And beyond the exact ones the law used is close to them.
	for _, c := range [][2]int{{1000, 900}, {5000, 500}, {20000, 2000}} {
		n, m := c[0], c[1]
		_, ms := scaled(n, m)
		for _, z := range []float64{0.8, 1.2, 1.6, 2.2} {
			h := int(z / math.Sqrt(float64(n)*float64(m)/float64(n+m)) * float64(n) * float64(ms))
			exact := ksScore(n, m, h, nil, math.MaxInt)
			law := ksScore(n, m, h, nil, 0)
			if law.Method != "ks one-sample" || math.Abs(law.P-exact.P) > 0.05*exact.P {
				t.Errorf("n=%d m=%d z=%v: %q gives %v, exact %v", n, m, z, law.Method, law.P, exact.P)
			}
		}
	}
}

func TestKSInputs(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name     string
		ref, cur []float64
		stat, p  float64
		has      bool
	}{
		{"empty", nil, nil, 0, 1, false},
		{"one side empty", []float64{1}, nil, 0, 1, false},
		{"all missing", []float64{nan, nan}, []float64{1, 2}, 0, 1, false},
		{"infinities are values", []float64{-inf, 0, inf}, []float64{-inf, 0, inf}, 0, 1, true},
		{"disjoint", []float64{1, 2, nan}, []float64{3, 4}, 1, 1.0 / 3, true},
		{"near the largest float", []float64{-1e300, 1e300, 1.7e308}, []float64{-1.7e308, 1e300, 1.7e308}, 1.0 / 3, 1, true},
		{"signed zeros are equal", []float64{0, math.Copysign(0, -1)}, []float64{math.Copysign(0, -1), 0}, 0, 1, true},
	} {
		s := KS(c.ref, c.cur)
		if s.Stat != c.stat || math.Abs(s.P-c.p) > 1e-14 || s.HasP != c.has {
			t.Errorf("%s: %+v, want D %v, P %v, HasP %v", c.name, s, c.stat, c.p, c.has)
		}
	}
	v := []float64{3, 1, nan, 2}
	KS(v, v)
	PSI(v, v, nil)
	if v[0] != 3 || v[1] != 1 || v[3] != 2 {
		t.Error("the input was modified")
	}
	if (Score{Stat: 9, P: 0}).Drifted(1) {
		t.Error("a score without a p-value drifted")
	}
}

func TestFisher(t *testing.T) {
	// Against the definition, by summing products of binomials.
	choose := func(n, k int) float64 {
		return math.Round(math.Exp(lgamma(float64(n+1)) - lgamma(float64(k+1)) - lgamma(float64(n-k+1))))
	}
	for n := 1; n <= 9; n++ {
		for m := 1; m <= 7; m++ {
			for x := 0; x <= n; x++ {
				for y := 0; y <= m; y++ {
					k := x + y
					seen, tail, total := choose(n, x)*choose(m, y), 0.0, 0.0
					for i := max(0, k-m); i <= min(n, k); i++ {
						w := choose(n, i) * choose(m, k-i)
						total += w
						if w <= seen*(1+1e-9) {
							tail += w
						}
					}
					if got := fisher(x, n, y, m); math.Abs(got-tail/total) > 1e-12 {
						t.Fatalf("fisher(%d, %d, %d, %d) = %v, want %v", x, n, y, m, got, tail/total)
					}
				}
			}
		}
	}
	if p := fisher(0, 1_000_000, 1_000_000, 1_000_000); p != 0 && !(p < 1e-300) {
		t.Errorf("opposite extremes: %v", p)
	}
}

func TestAdjustedPValues(t *testing.T) {
	nan := math.NaN()
	p := []float64{nan, 0.01, 2, -1}
	for name, f := range map[string]func([]float64) []float64{"BenjaminiHochberg": BenjaminiHochberg, "Holm": Holm} {
		for i, q := range f(p) {
			if !(q >= 0 && q <= 1) {
				t.Errorf("%s gives %v for %v", name, q, p[i])
			}
		}
		if got := f(nil); len(got) != 0 {
			t.Errorf("%s(nil) = %v", name, got)
		}
	}
}
