package drift

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// bruteWasserstein is the cost of the best plan, which for values on a line takes
// them in order: each value repeated until both sides have n*m.
func bruteWasserstein(ref, cur []float64) float64 {
	spread := func(v []float64, times int) []float64 {
		var out []float64
		for _, x := range v {
			for range times {
				out = append(out, x)
			}
		}
		slices.Sort(out)
		return out
	}
	a, b := spread(ref, len(cur)), spread(cur, len(ref))
	sum := 0.0
	for i := range a {
		sum += math.Abs(a[i] - b[i])
	}
	return sum / float64(len(a))
}

// meanDistance is E|X-Y| over all pairs, a value with itself included.
func meanDistance(a, b []float64) float64 {
	sum := 0.0
	for _, x := range a {
		for _, y := range b {
			sum += math.Abs(x - y)
		}
	}
	return sum / float64(len(a)*len(b))
}

func bruteEnergySquare(ref, cur []float64) float64 {
	return 2*meanDistance(ref, cur) - meanDistance(ref, ref) - meanDistance(cur, cur)
}

func TestDistancesByDefinition(t *testing.T) {
	smallSamples(200, func(ref, cur []float64) {
		w, e := Wasserstein(ref, cur), Energy(ref, cur)
		if want := bruteWasserstein(ref, cur); math.Abs(w.Stat-want) > 1e-12 {
			t.Errorf("Wasserstein(%v, %v) = %v, want %v", ref, cur, w.Stat, want)
		}
		square := bruteEnergySquare(ref, cur)
		if math.Abs(e.Stat*e.Stat-square) > 1e-12 {
			t.Errorf("Energy(%v, %v)^2 = %v, want %v", ref, cur, e.Stat*e.Stat, square)
		}
		pool := slices.Concat(ref, cur)
		sumE, sumW, all := 0.0, 0.0, 0.0
		deals(len(pool), len(ref), func(first uint) {
			var a, b []float64
			for k, x := range pool {
				if first>>k&1 == 1 {
					a = append(a, x)
				} else {
					b = append(b, x)
				}
			}
			sumE += bruteEnergySquare(a, b)
			sumW += bruteWasserstein(a, b)
			all++
		})
		null := sumE / all
		if math.Abs(e.Null*e.Null-null) > 1e-12 {
			t.Errorf("Energy(%v, %v).Null^2 = %v, the mean over all deals is %v", ref, cur, e.Null*e.Null, null)
		}
		// A normal in place of a few steps; of two or three there is no speaking.
		if len(pool) > 5 && math.Abs(w.Null-sumW/all) > 0.35*sumW/all+1e-12 {
			t.Errorf("Wasserstein(%v, %v).Null = %v, the mean over all deals is %v", ref, cur, w.Null, sumW/all)
		}
		if between := 2 * meanDistance(ref, cur); between > 0 {
			if want := max(0, square-null) / between; math.Abs(e.Effect-want) > 1e-12 {
				t.Errorf("Energy(%v, %v).Effect = %v, want %v", ref, cur, e.Effect, want)
			}
		}
	})
}

// The mean without drift at the size of a window.
func TestWassersteinNull(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	pool := make([]float64, 300)
	for i := range pool {
		pool[i] = r.ExpFloat64()
	}
	sum, rounds := 0.0, 2000
	null := 0.0
	for range rounds {
		r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		s := Wasserstein(pool[:200], pool[200:])
		sum += s.Stat
		null = s.Null
	}
	if mean := sum / float64(rounds); math.Abs(mean-null) > 0.03*null {
		t.Errorf("Null is %v, the mean of %d deals %v", null, rounds, mean)
	}
}

func TestWassersteinEffect(t *testing.T) {
	for _, c := range []struct {
		name     string
		ref, cur []float64
		effect   float64
	}{
		{"a shift by the interquartile range", []float64{1, 2, 3, 4, 5, 6, 7, 8}, []float64{5, 6, 7, 8, 9, 10, 11, 12}, 1},
		{"no range: pooled sd", []float64{7, 7, 7}, []float64{8, 8, 8}, 2},
		{"the same constants", []float64{7, 7}, []float64{7}, 0},
		{"as far as floats go", []float64{-math.MaxFloat64, -math.MaxFloat64, math.MaxFloat64, math.MaxFloat64}, []float64{math.MaxFloat64}, 0.5},
	} {
		for _, scale := range []float64{1, 0x1p-900} {
			ref, cur := slices.Clone(c.ref), slices.Clone(c.cur)
			for _, v := range [][]float64{ref, cur} {
				for i := range v {
					v[i] *= scale
				}
			}
			if s := Wasserstein(ref, cur); math.Abs(s.Effect-c.effect) > 1e-12 {
				t.Errorf("%s, times %v: %+v, want an effect of %v", c.name, scale, s, c.effect)
			}
		}
	}
}

// bruteMMD is the U-statistic by its definition.
func bruteMMD(rows [][]float64, first uint, sigma float64) float64 {
	kernel := func(x, y []float64) float64 {
		d := 0.0
		for k := range x {
			d += (x[k] - y[k]) * (x[k] - y[k])
		}
		return math.Exp(-d / (2 * sigma * sigma))
	}
	n := float64(bits.OnesCount(first))
	m := float64(len(rows)) - n
	sum := 0.0
	for i, x := range rows {
		for j, y := range rows {
			switch a, b := first>>i&1, first>>j&1; {
			case i == j:
			case a == 1 && b == 1:
				sum += kernel(x, y) / (n * (n - 1))
			case a == 0 && b == 0:
				sum += kernel(x, y) / (m * (m - 1))
			default:
				sum -= kernel(x, y) / (n * m)
			}
		}
	}
	return sum
}

func TestMMDByDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		n, m := 2+r.IntN(5), 2+r.IntN(5)
		rows := make([][]float64, n+m)
		for i := range rows {
			rows[i] = []float64{r.NormFloat64(), r.NormFloat64()}
			if i >= n {
				rows[i][0] += 2 * float64(r.IntN(2))
			}
		}
		var squares []float64
		for i, x := range rows {
			for _, y := range rows[:i] {
				squares = append(squares, (x[0]-y[0])*(x[0]-y[0])+(x[1]-y[1])*(x[1]-y[1]))
			}
		}
		slices.Sort(squares)
		sigma := math.Sqrt(squares[len(squares)/2])
		s := MMD(rows[:n], rows[n:], 1)
		want := bruteMMD(rows, 1<<n-1, sigma)
		if math.Abs(s.Stat-want) > 1e-12 {
			t.Errorf("MMD of %d and %d rows = %v, want %v", n, m, s.Stat, want)
		}
		all, hit := 0.0, 0.0
		deals(n+m, n, func(first uint) {
			all++
			if bruteMMD(rows, first, sigma) >= want-1e-12 {
				hit++
			}
		})
		if p := hit / all; math.Abs(s.P-p) > 0.002+5*math.Sqrt(p*(1-p)/(enough/max(p, 0.05))) {
			t.Errorf("P = %v of drawn deals, %v of all", s.P, p)
		}
	}
}

func TestMMDInputs(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	// Neither column drifts; how they depend on each other does.
	draw := func(n int, sign, scale float64) [][]float64 {
		rows := make([][]float64, n)
		for i := range rows {
			x := r.NormFloat64()
			rows[i] = []float64{scale * x, scale * (sign*x + 0.3*r.NormFloat64())}
		}
		return rows
	}
	for _, scale := range []float64{1, 1e300, 1e-300} {
		for _, c := range []struct {
			n, m, usedN, usedM int
		}{{50, 40, 50, 40}, {300, 300, 300, 300}, {300, 30, 170, 30}, {4000, 4000, 2500, 2500}} {
			s := MMD(draw(c.n, 1, scale), draw(c.m, -1, scale), 1)
			if s.N != c.usedN || s.M != c.usedM || !s.Drifted(0.01) || s.Effect < 0.2 {
				t.Errorf("%d and %d rows of scale %v: %+v", c.n, c.m, scale, s)
			}
			soundScore(t, s)
			if scale != 1 {
				break
			}
		}
	}
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		ref, cur [][]float64
		hasP     bool
	}{
		"empty":        {nil, nil, false},
		"one row":      {[][]float64{{1}}, [][]float64{{1}, {2}}, false},
		"missing rows": {[][]float64{{nan}, {1}, {2}}, [][]float64{{1}, {nan}}, false},
		"no columns":   {[][]float64{{}, {}}, [][]float64{{}, {}}, false},
		"constant":     {[][]float64{{1}, {1}}, [][]float64{{1}, {1}}, false},
		"infinite":     {[][]float64{{inf}, {1}, {2}}, [][]float64{{inf}, {-inf}}, true},
	} {
		s := MMD(c.ref, c.cur, 1)
		if soundScore(t, s); s.HasP != c.hasP {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if x := draw(30, 1, 1); MMD(x, x, 1) != MMD(x, x, 1) {
		t.Error("the same seed gives two results")
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for rows of different lengths")
		}
	}()
	MMD([][]float64{{1}}, [][]float64{{1, 2}}, 1)
}

// An infinity counts as the largest float, on whichever side it is.
func TestWassersteinOfInfinities(t *testing.T) {
	for _, ref := range [][]float64{{math.Inf(-1), 0}, {0, math.Inf(1)}} {
		if s := Wasserstein(ref, []float64{0, 0}); s.Stat != math.MaxFloat64/2 {
			t.Errorf("%v beside 0, 0: %+v", ref, s)
		}
		if s := Wasserstein([]float64{0, 0}, ref); s.Stat != math.MaxFloat64/2 {
			t.Errorf("0, 0 beside %v: %+v", ref, s)
		}
	}
}

func TestQuartilesByHand(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11} // each is its own rank
	for _, c := range []struct {
		n            int
		first, third float64
	}{{1, 1, 1}, {2, 1, 2}, {3, 1, 3}, {4, 1, 3}, {5, 2, 4}, {6, 2, 5}, {7, 2, 6}, {8, 2, 6}, {9, 3, 7}, {11, 3, 9}} {
		if q1, q3 := quartile(values[:c.n], 1), quartile(values[:c.n], 3); q1 != c.first || q3 != c.third {
			t.Errorf("of %d values: %v and %v, want %v and %v", c.n, q1, q3, c.first, c.third)
		}
	}
}

func TestPooledSDByHand(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{0}, []float64{0, 0}, 0},
		{[]float64{1, 1}, []float64{3, 3}, 1},
		{[]float64{-4, 0, 0, 0, 0}, []float64{0, 0, 0, 0, 4}, math.Sqrt(3.2)},
		{[]float64{-3, -1}, []float64{-3, -1}, 1},
		{[]float64{-math.MaxFloat64}, []float64{math.MaxFloat64}, math.MaxFloat64},
	} {
		if got := pooledSD(c.a, c.b); math.Abs(got/2-c.want/2) > 1e-14*c.want {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
