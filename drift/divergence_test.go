package drift

import (
	"math"
	"testing"
)

// Three bins, so that the chi-square tail is exp(-x/2), and one that is empty on both sides.
func TestDivergencesByHand(t *testing.T) {
	for _, c := range []struct{ ref, cur []int }{
		{[]int{30, 50, 0, 20}, []int{12, 20, 0, 33}},
		{[]int{30, 0, 50, 20}, []int{9, 0, 16, 5}}, // less than the noise
		{[]int{70, 30, 0, 0}, []int{25, 25, 0, 50}},
		{[]int{0, 1, 2, 1}, []int{0, 2, 0, 1}},
	} {
		n, m, bins := 0, 0, 0.0
		for i := range c.ref {
			n, m = n+c.ref[i], m+c.cur[i]
			bins += number(c.ref[i]+c.cur[i] > 0)
		}
		scale := 1/float64(n) + 1/float64(m)
		js, hellinger, kl, tv, tvNull := 0.0, 0.0, 0.0, 0.0, 0.0
		for i := range c.ref {
			p, q := float64(c.ref[i])/float64(n), float64(c.cur[i])/float64(m)
			for _, x := range []float64{p, q} {
				if x > 0 {
					js += x * math.Log2(x/((p+q)/2)) / 2
				}
			}
			hellinger += math.Pow(math.Sqrt(p)-math.Sqrt(q), 2) / 2
			tv += math.Abs(p-q) / 2
			k, all := float64(c.ref[i]+c.cur[i]), float64(n+m)
			tvNull += math.Sqrt(2/math.Pi*(k/all)*(1-k/all)*all/(all-1)*scale) / 2 // the variance of a hypergeometric share
			if p+q > 0 {
				p, q = (float64(c.ref[i])+0.5)/(float64(n)+0.5*bins), (float64(c.cur[i])+0.5)/(float64(m)+0.5*bins)
				kl += p * math.Log(p/q)
			}
		}
		for _, d := range []struct {
			Score
			stat, factor float64 // factor*stat/scale is chi-square
			root         bool    // Stat, Null and Effect are roots
		}{
			{JensenShannon(c.ref, c.cur), js, 8 * math.Ln2, true}, {Hellinger(c.ref, c.cur), hellinger, 8, true}, {KullbackLeibler(c.ref, c.cur), kl, 2, false},
		} {
			null := 2 * scale / d.factor
			stat, effect := d.stat, max(0, d.stat-null)
			if d.root {
				stat, effect, null = math.Sqrt(stat), math.Sqrt(effect), math.Sqrt(null)
			}
			for what, v := range map[string][2]float64{
				"Stat": {d.Stat, stat}, "Null": {d.Null, null}, "Effect": {d.Effect, effect}, "P": {d.P, math.Exp(-d.factor * d.stat / scale / 2)},
			} {
				if math.Abs(v[0]-v[1]) > 1e-12 {
					t.Errorf("%s of %v and %v: %s is %v, by hand %v", d.Method, c.ref, c.cur, what, v[0], v[1])
				}
			}
			if !d.HasP || d.N != n || d.M != m {
				t.Errorf("%+v", d.Score)
			}
		}
		if s := TotalVariation(c.ref, c.cur); math.Abs(s.Stat-tv) > 1e-14 || math.Abs(s.Null-tvNull) > 1e-12 || s.Effect != s.Stat || s.HasP {
			t.Errorf("%+v, by hand %v and %v", s, tv, tvNull)
		}
	}
}

// The mean of the total variation over deals, by drawing them.
func TestTotalVariationNull(t *testing.T) {
	pool := []int{400, 250, 100, 50}
	w, sum, null, rounds := newWorld(8), 0.0, 0.0, 2000
	var of []int
	for k, n := range pool {
		for range n {
			of = append(of, k)
		}
	}
	for range rounds {
		w.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		ref, cur := make([]int, len(pool)), make([]int, len(pool))
		for i, k := range of {
			if i < 600 {
				ref[k]++
			} else {
				cur[k]++
			}
		}
		s := TotalVariation(ref, cur)
		sum, null = sum+s.Stat, s.Null
	}
	if mean := sum / float64(rounds); math.Abs(mean-null) > 0.03*null {
		t.Errorf("Null is %v, the mean of %d deals %v", null, rounds, mean)
	}
}

// With a side empty there is nothing to say, and with one bin, or one value, nothing to test.
func TestNothingToCompare(t *testing.T) {
	some, none := []float64{1, 2, 3, 4}, []float64{math.NaN()}
	for _, v := range [][2][]float64{{some, none}, {none, some}, {none, none}, {nil, some}, {some, nil}} {
		for _, s := range []Score{
			KS(v[0], v[1]), KSGreater(v[0], v[1]), CramerVonMises(v[0], v[1]), AndersonDarling(v[0], v[1], 1), Wasserstein(v[0], v[1]),
			Energy(v[0], v[1]), CliffDelta(v[0], v[1]), PSI(v[0], v[1], &PSIOptions{IgnoreMissing: true}),
		} {
			if s.HasP || s.P != 1 || s.Stat != 0 || s.Effect != 0 || s.Null != 0 || s.N+s.M > 4 {
				t.Errorf("%v against %v: %+v", v[0], v[1], s)
			}
		}
	}
	full, zero, one := []int{3, 4, 5}, []int{0, 0, 0}, []int{0, 7, 0}
	for _, v := range [][2][]int{{full, zero}, {zero, full}, {zero, zero}, {one, one}} {
		for _, s := range []Score{
			PSICounts(v[0], v[1], AddHalf), PSICounts(v[0], v[1], Epsilon), ChiSquare(v[0], v[1]), GTest(v[0], v[1]), JensenShannon(v[0], v[1]),
			Hellinger(v[0], v[1]), KullbackLeibler(v[0], v[1]), TotalVariation(v[0], v[1]),
			homogeneity(joinCategories(v[0], v[1], sparse)), homogeneity(joinNeighbours(v[0], v[1])),
			shareScore("", v[0][1], v[0][1], v[1][0], v[1][0]),
		} {
			if s.HasP || s.P != 1 || s.Stat != 0 || s.Effect != 0 || s.Null != 0 {
				t.Errorf("%v against %v: %+v", v[0], v[1], s)
			}
		}
	}
}

// Two bins are the fewest that are tested: the chi-square tail of one degree of freedom.
func TestTwoBins(t *testing.T) {
	ref, cur := []int{30, 70}, []int{25, 25}
	scale := 1/100.0 + 1/50.0
	for factor, s := range map[float64]Score{
		1: PSICounts(ref, cur, AddHalf), 2: KullbackLeibler(ref, cur), 8: Hellinger(ref, cur), 8 * math.Ln2: JensenShannon(ref, cur),
		0: ChiSquare(ref, cur), -1: GTest(ref, cur),
	} {
		x := s.Stat * factor / scale
		switch {
		case factor <= 0:
			x = s.Stat
		case factor > 2:
			x *= s.Stat
		}
		if want := math.Erfc(math.Sqrt(x / 2)); !s.HasP || math.Abs(s.P-want) > 1e-12 {
			t.Errorf("%s of two bins: %+v, want P %v", s.Method, s, want)
		}
	}
}

// A level that is just reached is reached.
func TestDriftedAtTheLevel(t *testing.T) {
	s := Score{P: 0.05, HasP: true}
	if !s.Drifted(0.05) || s.Drifted(math.Nextafter(0.05, 0)) || (Score{P: 0, N: 9}).Drifted(1) {
		t.Error("Drifted is not P <= alpha where there is a P")
	}
	// As many missing on both sides, of different totals, are a difference.
	ref, cur := make([]float64, 500), make([]float64, 50)
	for i := range 20 {
		ref[i], cur[i] = math.NaN(), math.NaN()
	}
	if p := PSI(ref, cur, nil); p.Effect < 0.5 {
		t.Errorf("4 %% missing and then 40 %%: %+v", p)
	}
	last := Verdict(len(verdicts))
	if _, err := last.MarshalText(); err == nil || last.String() != "Verdict(5)" {
		t.Errorf("one beyond the last verdict is %q", last)
	}
}
