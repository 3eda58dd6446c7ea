package drift

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// deals calls f with every way to deal N pooled values to a first sample of n: the
// orders that are equally likely without drift.
func deals(total, n int, f func(first uint)) {
	for set := range uint(1) << total {
		if bits.OnesCount(set) == n {
			f(set)
		}
	}
}

// bruteP is P(statistic >= observed) over all deals, by the definition of the
// conditional test, ties included. stat sees the pooled values and which are of the first sample.
func bruteP(ref, cur []float64, stat func(pool []float64, first uint) float64) float64 {
	pool := slices.Concat(ref, cur)
	seen := stat(pool, 1<<len(ref)-1)
	all, hit := 0, 0
	deals(len(pool), len(ref), func(first uint) {
		all++
		if stat(pool, first) >= seen-1e-9*math.Abs(seen) {
			hit++
		}
	})
	return float64(hit) / float64(all)
}

// ecdfGap is F-G at x, times n*m.
func ecdfGap(pool []float64, first uint, x float64) float64 {
	n := bits.OnesCount(first)
	m := len(pool) - n
	gap := 0
	for k, y := range pool {
		switch {
		case y > x:
		case first>>k&1 == 1:
			gap += m
		default:
			gap -= n
		}
	}
	return float64(gap)
}

func bruteD(pool []float64, first uint) float64 {
	most := 0.0
	for _, x := range pool {
		most = max(most, math.Abs(ecdfGap(pool, first, x)))
	}
	return most
}

func bruteDPlus(pool []float64, first uint) float64 {
	most := 0.0
	for _, x := range pool {
		most = max(most, ecdfGap(pool, first, x))
	}
	return most
}

// smallSamples calls f with pairs of 1 to 6 values each, most of them with ties.
func smallSamples(rounds int, f func(ref, cur []float64)) {
	r := rand.New(rand.NewPCG(1, 1))
	for range rounds {
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
		f(draw(n), draw(m))
	}
}

func TestKSBruteForce(t *testing.T) {
	methods := map[string]int{}
	smallSamples(300, func(ref, cur []float64) {
		got, want := KS(ref, cur), bruteP(ref, cur, bruteD)
		methods[got.Method]++
		if math.Abs(got.P-want) > 1e-12 {
			t.Errorf("KS(%v, %v).P = %v by %q, counting gives %v", ref, cur, got.P, got.Method, want)
		}
		got, want = KSGreater(ref, cur), bruteP(ref, cur, bruteDPlus)
		methods[got.Method]++
		if math.Abs(got.P-want) > 1e-12 {
			t.Errorf("KSGreater(%v, %v).P = %v by %q, counting gives %v", ref, cur, got.P, got.Method, want)
		}
		if d := bruteDPlus(slices.Concat(ref, cur), 1<<len(ref)-1) / float64(len(ref)*len(cur)); math.Abs(d-got.Stat) > 1e-15 {
			t.Errorf("KSGreater(%v, %v) = %v, want %v", ref, cur, got.Stat, d)
		}
	})
	if len(methods) < 4 {
		t.Errorf("only %v were exercised", methods)
	}
}

// The exact forms agree with each other where both apply.
func TestKSFormsAgree(t *testing.T) {
	for _, n := range []int{1, 2, 7, 50, 300, 2000} {
		for h := 1; h <= n; h += 1 + n/20 {
			closed := ksEqual(n, int64(h), twoSided)
			p, ok := ksPaths(n, n, int64(h), twoSided, nil, math.MaxInt)
			if !ok || math.Abs(p-closed) > 1e-11*closed {
				t.Errorf("n=%d h=%d: paths %v, closed form %v", n, h, p, closed)
			}
			closed = ksEqual(n, int64(h), refAbove)
			p, ok = ksPaths(n, n, int64(h), refAbove, nil, math.MaxInt)
			if !ok || math.Abs(p-closed) > 1e-11*closed {
				t.Errorf("n=%d h=%d, one-sided: paths %v, closed form %v", n, h, p, closed)
			}
		}
	}
	// And beyond the exact ones the law used is close to them.
	for _, c := range [][2]int{{1000, 900}, {5000, 500}, {20000, 2000}} {
		n, m := c[0], c[1]
		_, ms := scaled(n, m)
		for _, z := range []float64{0.8, 1.2, 1.6, 2.2} {
			h := int64(z / math.Sqrt(float64(n)*float64(m)/float64(n+m)) * float64(n) * float64(ms))
			exact := ksScore(n, m, h, twoSided, nil, math.MaxInt)
			law := ksScore(n, m, h, twoSided, nil, 0)
			one, oneLaw := ksScore(n, m, h, refAbove, nil, math.MaxInt), ksScore(n, m, h, refAbove, nil, 0)
			if oneLaw.Method != "ks-greater one-sample" || math.Abs(oneLaw.P-one.P) > 0.05*one.P {
				t.Errorf("n=%d m=%d z=%v: %q gives %v, exact %v", n, m, z, oneLaw.Method, oneLaw.P, one.P)
			}
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

// Null, and the limit laws where neither exact form can be had, at z = 1.
func TestKSByHand(t *testing.T) {
	ref, cur := normals(1, 100), normals(2, 400)
	if s, want := KS(ref, cur), math.Sqrt(math.Pi/2)*math.Ln2*math.Sqrt(0.0125); math.Abs(s.Null-want) > 1e-15 {
		t.Errorf("KS: Null %v, want %v", s.Null, want)
	}
	if s, want := KSGreater(ref, cur), math.Sqrt(math.Pi/8)*math.Sqrt(0.0125); math.Abs(s.Null-want) > 1e-15 {
		t.Errorf("KSGreater: Null %v, want %v", s.Null, want)
	}
	// A gap of 100 of 5,000 is D = 1/50, times sqrt(2,500).
	tied := func() []int { return []int{10_000} }
	for _, c := range []struct {
		h       int64
		z, both float64 // 2 sum (-1)^(k-1) exp(-2 k^2 z^2)
	}{{100, 1, 0.26999967167735456}, {150, 1.5, 2 * (math.Exp(-4.5) - math.Exp(-18))}} {
		if s := ksScore(5000, 5000, c.h, twoSided, tied, 0); s.Method != "ks limit" || s.Stat != c.z/50 || math.Abs(s.P-c.both) > 1e-14 {
			t.Errorf("%+v, want P = %v", s, c.both)
		}
		if s, want := ksScore(5000, 5000, c.h, refAbove, tied, 0), math.Exp(-2*c.z*c.z); s.Method != "ks-greater limit" || math.Abs(s.P-want) > 1e-15 {
			t.Errorf("%+v, want P = %v", s, want)
		}
	}
}

// The band of a one-sided distance is bounded to the other side too: without, it would be as wide as the smaller sample, and
// so large ones would have no exact P.
func TestKSGreaterIsExactForLargeSamples(t *testing.T) {
	for _, c := range []struct {
		n, m int
		z    float64
	}{{20_000, 19_000, 1.2}, {19_000, 20_000, 1.2}, {26_000, 25_999, 5}, {25_999, 26_000, 5}} {
		_, ms := scaled(c.n, c.m)
		h := int64(c.z / math.Sqrt(float64(c.n)*float64(c.m)/float64(c.n+c.m)) * float64(c.n) * float64(ms))
		s := ksScore(c.n, c.m, h, refAbove, nil, exactCells)
		// The one-sample law is off by some z/sqrt(points) of it.
		if law := ksScore(c.n, c.m, h, refAbove, nil, 0); s.Method != "ks-greater exact" || math.Abs(s.P-law.P) > 0.1*s.P {
			t.Errorf("%+v: %+v, by the one-sample law %v", c, s, law.P)
		}
	}
}

// Ties are noticed where the current values are counted and not sorted: the closed form is for samples without.
func TestKSKnowsTiesOfUnsorted(t *testing.T) {
	n := 70_000
	ref, cur := make([]float64, n), make([]float64, n)
	for i, k := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
		ref[i], cur[i] = float64(i), float64(k)
	}
	if s := KS(ref, cur); s.Method != "ks exact" || s.Stat != 0 || s.P != 1 {
		t.Errorf("the same values: %+v", s)
	}
	for i := range cur {
		cur[i] += 0.5
	}
	if s := KS(ref, cur); s.Method != "ks exact, closed form" || s.Stat != 1/float64(n) || s.P != 1 {
		t.Errorf("values between: %+v", s)
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
	for name, f := range map[string]func([]float64) []float64{"BenjaminiHochberg": BenjaminiHochberg, "BenjaminiYekutieli": BenjaminiYekutieli, "Holm": Holm} {
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
