package drift

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// bruteCvM is T by its definition: the mean of (F-G)^2 just below and at each pooled
// value. Without ties that sums to Anderson's form, (F-G)^2 at each.
func bruteCvM(pool []float64, first uint) float64 {
	n := bits.OnesCount(first)
	m := len(pool) - n
	sum := 0.0
	for _, x := range pool {
		at, under := ecdfGap(pool, first, x), ecdfGap(pool, first, below(x))
		sum += (at*at + under*under) / 2
	}
	return sum / float64(n*m*len(pool)*len(pool))
}

// bruteAD is equation 7 of Scholz and Stephens, summed over both samples as they write it.
func bruteAD(pool []float64, first uint) float64 {
	total := float64(len(pool))
	values := slices.Clone(pool)
	slices.Sort(values)
	a2 := 0.0
	for _, mine := range []uint{1, 0} {
		size := 0.0
		for k := range pool {
			if first>>k&1 == mine {
				size++
			}
		}
		sum := 0.0
		for _, z := range slices.Compact(slices.Clone(values)) {
			l, b, m := 0.0, 0.0, 0.0
			for k, y := range pool {
				own := 0.0
				if first>>k&1 == mine {
					own = 1
				}
				switch {
				case y < z:
					b++
					m += own
				case y == z:
					l++
					b += 0.5
					m += own / 2
				}
			}
			if d := b*(total-b) - total*l/4; d > 1e-9 {
				sum += l / total * (total*m - size*b) * (total*m - size*b) / d
			}
		}
		a2 += sum / size
	}
	return (total - 1) / total * a2
}

// bruteCliff is |wins - losses| of the current values over all pairs.
func bruteCliff(pool []float64, first uint) float64 {
	sum := 0.0
	for k, x := range pool {
		for l, y := range pool {
			if first>>k&1 == 1 && first>>l&1 == 0 {
				switch {
				case y > x:
					sum++
				case y < x:
					sum--
				}
			}
		}
	}
	n := bits.OnesCount(first)
	return math.Abs(sum) / float64(n*(len(pool)-n))
}

func TestCliffDelta(t *testing.T) {
	smallSamples(200, func(ref, cur []float64) {
		s, back := CliffDelta(ref, cur), CliffDelta(cur, ref)
		pool := slices.Concat(ref, cur)
		if want := bruteCliff(pool, 1<<len(ref)-1); math.Abs(s.Effect-want) > 1e-14 || s.Stat != -back.Stat || math.Abs(s.P-back.P) > 1e-12 {
			t.Errorf("CliffDelta(%v, %v) = %+v, want %v, swapped %+v", ref, cur, s, want, back)
		}
		if want := bruteP(ref, cur, bruteCliff); math.Abs(s.P-want) > 1e-12 {
			t.Errorf("CliffDelta(%v, %v).P = %v by %q, counting gives %v", ref, cur, s.P, s.Method, want)
		}
		squares, all := 0.0, 0.0
		deals(len(pool), len(ref), func(first uint) {
			d := bruteCliff(pool, first)
			squares += d * d
			all++
		})
		if variance := s.Null * s.Null * math.Pi / 2; math.Abs(variance-squares/all) > 1e-12 {
			t.Errorf("CliffDelta(%v, %v): variance %v, over all deals %v", ref, cur, variance, squares/all)
		}
		soundScore(t, s)
	})
	if s := CliffDelta([]float64{1, 2, 3}, []float64{4, 5}); s.Stat != 1 {
		t.Errorf("all current values are above, and yet %+v", s)
	}
	// The normal law beside the exact one, at the last size that is counted.
	ref, cur := normals(1, 50), normals(2, 50)
	for i := range cur {
		cur[i] = math.Round(2*cur[i] + 1)
		ref[i] = math.Round(2 * ref[i])
	}
	s := CliffDelta(ref, cur)
	normal := math.Erfc(s.Effect / (s.Null * math.Sqrt(math.Pi)))
	if s.Method != "cliff-delta exact" || math.Abs(normal-s.P) > 0.15*s.P {
		t.Errorf("%+v, the normal law says %v", s, normal)
	}
	if s := CliffDelta(append(ref, 0), cur); s.Method != "cliff-delta normal" || math.Abs(s.P-normal) > 0.3*normal {
		t.Errorf("%+v after one value more", s)
	}
}

func TestRankBruteForce(t *testing.T) {
	for name, c := range map[string]struct {
		test  func(ref, cur []float64) Score
		brute func(pool []float64, first uint) float64
	}{
		"CramerVonMises":  {CramerVonMises, bruteCvM},
		"AndersonDarling": {func(ref, cur []float64) Score { return AndersonDarling(ref, cur, 1) }, bruteAD},
	} {
		smallSamples(200, func(ref, cur []float64) {
			got := c.test(ref, cur)
			pool := slices.Concat(ref, cur)
			if want := c.brute(pool, 1<<len(ref)-1); math.Abs(got.Stat-want) > 1e-12*max(1, want) {
				t.Errorf("%s(%v, %v) = %v, want %v", name, ref, cur, got.Stat, want)
			}
			if want := bruteP(ref, cur, c.brute); math.Abs(got.P-want) > 1e-12 {
				t.Errorf("%s(%v, %v).P = %v by %q, counting gives %v", name, ref, cur, got.P, got.Method, want)
			}
			sum, all := 0.0, 0.0
			deals(len(pool), len(ref), func(first uint) { sum += c.brute(pool, first); all++ })
			if math.Abs(got.Null-sum/all) > 1e-12 {
				t.Errorf("%s(%v, %v).Null = %v, the mean over all deals is %v", name, ref, cur, got.Null, sum/all)
			}
			n, m := float64(len(ref)), float64(len(cur))
			if want := math.Sqrt(max(0, c.brute(pool, 1<<len(ref)-1)-sum/all) * (n + m) / (n * m)); math.Abs(got.Effect-want) > 1e-7 {
				t.Errorf("%s(%v, %v).Effect = %v, the noise taken off %v", name, ref, cur, got.Effect, want)
			}
			if !strings.HasSuffix(got.Method, "exact") {
				t.Errorf("%d values by %q", len(pool), got.Method)
			}
			mirror := func(v []float64) []float64 {
				out := slices.Clone(v)
				for i := range out {
					out[i] = -out[i]
				}
				return out
			}
			if back := c.test(mirror(cur), mirror(ref)); math.Abs(back.Stat-got.Stat) > 1e-12 || math.Abs(back.P-got.P) > 1e-12 {
				t.Errorf("%s: %+v, samples swapped and turned round %+v", name, got, back)
			}
			soundScore(t, got)
		})
	}
}

// Percentage points in print: Anderson and Darling (1952) for Cramer-von Mises, Lewis (1961) and
// Marsaglia and Marsaglia (2004) for Anderson-Darling.
func TestLimitLaws(t *testing.T) {
	for _, c := range []struct {
		law  quadraticLaw
		x, p float64
	}{
		{cvmLaw, 0.02480, 0.99}, {cvmLaw, 0.03656, 0.95}, {cvmLaw, 0.11888, 0.5}, {cvmLaw, 0.34730, 0.1}, {cvmLaw, 0.46136, 0.05}, {cvmLaw, 0.74346, 0.01}, {cvmLaw, 1.16786, 0.001},
		{adLaw, 1.9330, 0.1}, {adLaw, 2.4924, 0.05}, {adLaw, 3.8781, 0.01}, {adLaw, 5.9694, 0.001},
	} {
		if got := c.law.tail(c.x); math.Abs(got-c.p) > 2e-4*c.p {
			t.Errorf("tail(%v) = %v, in print %v", c.x, got, c.p)
		}
	}
	// One group in two: a single chi-square with one degree of freedom, whatever the shares.
	for _, share := range []float64{0.5, 0.9} {
		law := tiedLaw([]float64{share, 1 - share}, []float64{0, 0}, []float64{1, 0})
		for _, z := range []float64{0.5, 1, 2, 3, 6} {
			want := math.Erfc(z / math.Sqrt2)
			if got := law.tail(z * z * share * (1 - share)); math.Abs(got-want) > 1e-10*want {
				t.Errorf("two groups, z=%v: %v, want %v", z, got, want)
			}
		}
	}
	// Many equal groups: the law without ties.
	k := 4000
	share, mids, ends := make([]float64, k), make([]float64, k), make([]float64, k)
	for t := range share {
		share[t], ends[t] = 1/float64(k), 1/float64(k)
		s := (float64(t) + 0.5) / float64(k)
		mids[t] = share[t] / (s*(1-s) - share[t]/4)
	}
	for _, x := range []float64{0.1, 0.3, 1, 2} {
		if got, want := tiedLaw(share, make([]float64, k), ends).tail(x), cvmLaw.tail(x); math.Abs(got-want) > 1e-3*want {
			t.Errorf("%d groups: cvm tail(%v) = %v, without ties %v", k, x, got, want)
		}
		if got, want := tiedLaw(share, mids, make([]float64, k)).tail(5*x), adLaw.tail(5*x); math.Abs(got-want) > 5e-3*want {
			t.Errorf("%d groups: ad tail(%v) = %v, without ties %v", k, 5*x, got, want)
		}
	}
}

// The limit laws, with ties and without, against deals drawn at random.
func TestLimitsAgainstDeals(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for name, draw := range map[string]func() float64{
		"no ties":     r.Float64,
		"two values":  func() float64 { return float64(r.IntN(2)) },
		"rare one":    func() float64 { return math.Floor(r.Float64() * 1.05) },
		"five values": func() float64 { return float64(r.IntN(5)) },
		"half zero":   func() float64 { return max(0, r.NormFloat64()) },
	} {
		pool := make([]float64, 1200)
		for i := range pool {
			pool[i] = draw()
		}
		rounds := 500
		switch {
		case soak:
			rounds = 20_000
		case brief():
			rounds = 100
		}
		var cvm []float64 // statistics
		cvmLow, adLow := [3]int{}, [3]int{}
		levels := [3]float64{0.2, 0.05, 0.01}
		for range rounds {
			r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
			ref, cur := slices.Sorted(slices.Values(pool[:800])), slices.Sorted(slices.Values(pool[800:]))
			c := CramerVonMises(ref, cur)
			sum, largest, before, first := 0.0, 0, 0.0, 0.0
			eachTie(ref, cur, func(_ float64, g tie) {
				w := newADWeight(g.ref+g.cur, before, 1200)
				sum += w.add(800, 1200, first, float64(g.ref))
				before, first, largest = before+float64(w.size), first+float64(g.ref), max(largest, w.size)
			})
			a := adTail(sum*1199/(1200*800*400), ref, cur, largest)
			cvm = append(cvm, c.Stat)
			for i, l := range levels {
				if c.P <= l {
					cvmLow[i]++
				}
				if a <= l {
					adLow[i]++
				}
			}
		}
		for i, l := range levels {
			n := float64(len(cvm))
			band := 4*math.Sqrt(n*l*(1-l)) + 0.1*n*l + 0.02*n*l
			if name == "two values" || name == "rare one" { // few deals differ, so P has steps
				band += 0.3 * n * l
			}
			if d := math.Abs(float64(cvmLow[i]) - n*l); d > band {
				t.Errorf("%s: Cramer-von Mises at level %v rejects %d of %v", name, l, cvmLow[i], n)
			}
			if d := math.Abs(float64(adLow[i]) - n*l); d > band {
				t.Errorf("%s: Anderson-Darling at level %v rejects %d of %v", name, l, adLow[i], n)
			}
		}
	}
}

// Far out the limit laws say too much rather than too little, so that they may
// stand in where no drawn deal came that far.
func TestLimitTailIsCautious(t *testing.T) {
	for _, n := range []int{10, 14, 18} {
		for shift := n / 3; shift <= n; shift++ {
			ref, cur := make([]float64, n), make([]float64, n)
			for i := range ref {
				ref[i], cur[i] = float64(i), float64(i+shift)+0.5
			}
			s := AndersonDarling(ref, cur, 1)
			if limit := adLaw.tail(s.Stat); s.P > 0.05 || s.P > limit {
				t.Errorf("%d values, shift %d: exact P %v, limit %v", n, shift, s.P, limit)
			}
		}
	}
}

func TestAndersonDarlingPermutation(t *testing.T) {
	ref, cur := normals(1, 200), normals(2, 150)
	one := AndersonDarling(ref, cur, 1)
	if same := AndersonDarling(ref, cur, 1); one != same || one.Method != "anderson-darling permutation" {
		t.Errorf("the same seed gives %+v and %+v", one, same)
	}
	seen := map[float64]bool{}
	for seed := range uint64(5) {
		p := AndersonDarling(ref, cur, seed).P
		if seen[p] = true; math.Abs(p-one.P) > 0.1 {
			t.Errorf("seed %d gives P = %v, seed 1 %v", seed, p, one.P)
		}
	}
	if len(seen) < 2 {
		t.Errorf("five seeds give the same P: %v", seen)
	}
	if limit := adLaw.tail(one.Stat); math.Abs(one.P-limit) > 0.06 {
		t.Errorf("%+v, the limit law says %v", one, limit)
	}
	for i := range cur {
		cur[i] += 2
	}
	if s := AndersonDarling(ref, cur, 1); s.Method != "anderson-darling permutation, limit tail" || s.P > 1e-6 {
		t.Errorf("shifted by two sd: %+v", s)
	}
}

// Deals that come exactly as far as the observed one count. Of 120 values that are 0 or 1 many do.
func TestAndersonDarlingPermutationOfTies(t *testing.T) {
	ref, cur := valuesOf(30, 30), valuesOf(23, 37)
	sum, seeds := 0.0, 30
	for seed := range uint64(seeds) {
		s := AndersonDarling(ref, cur, seed)
		if s.Method != "anderson-darling permutation" {
			t.Fatalf("%+v", s)
		}
		sum += s.P
	}
	// The ones of the first sample are hypergeometric: 60 of 120 values, 67 of which are ones.
	choose := func(n, k int) float64 {
		return math.Exp(lgamma(float64(n+1)) - lgamma(float64(k+1)) - lgamma(float64(n-k+1)))
	}
	want := 0.0
	for ones := range 61 {
		if ones <= 30 || ones >= 37 {
			want += choose(67, ones) * choose(53, 60-ones) / choose(120, 60)
		}
	}
	if got := sum / float64(seeds); math.Abs(got-want) > 0.03 {
		t.Errorf("P is %v on average, counting gives %v", got, want)
	}
}

// 20,020 values are dealt, and one more is too many.
func TestAndersonDarlingOfManyValues(t *testing.T) {
	for n, method := range map[int]string{10_000: "anderson-darling permutation", 10_001: "anderson-darling limit"} {
		if s := AndersonDarling(normals(1, n), normals(2, 10_020), 1); s.Method != method {
			t.Errorf("%d values: %+v", n+10_020, s)
		}
	}
}

// (1+hits)/1000 of 999 deals, or 50 by the number drawn when the 50th came as far.
func TestPermutationPByHand(t *testing.T) {
	for _, c := range []struct {
		far   func(draw int) bool
		p     float64
		hits  int
		draws int
	}{
		{func(int) bool { return false }, 0.001, 0, 999},
		{func(draw int) bool { return draw == 999 }, 0.002, 1, 999},
		{func(draw int) bool { return draw%25 == 0 }, 0.04, 39, 999},
		{func(int) bool { return true }, 1, 50, 50},
		{func(draw int) bool { return draw%10 == 0 }, 0.1, 50, 500},
		{func(draw int) bool { return draw > 949 }, 50.0 / 999, 50, 999},
	} {
		draws := 0
		p, hits := permutationP(func() bool { draws++; return c.far(draws) })
		if p != c.p || hits != c.hits || draws != c.draws {
			t.Errorf("P = %v of %d hits in %d deals, want %+v", p, hits, draws, c)
		}
	}
}

// What rounding makes of equal sums is forgiven in proportion to them, be they small or large.
func TestSumTailForgivesRounding(t *testing.T) {
	for _, unit := range []float64{1e-9, 1, 1e9} {
		// Two values, one of which is the first sample's: the sum is one unit or two.
		add := func(t, _, c int) float64 { return unit * float64(c*(t+1)) }
		for _, c := range []struct{ seen, p float64 }{{1, 1}, {1.01, 0.5}, {2, 0.5}, {2 * (1 + 1e-13), 0.5}, {2.01, 0}} {
			if p, ok := sumTail([]int{1, 1}, 1, add, c.seen*unit); !ok || p != c.p {
				t.Errorf("P(sum >= %v units of %v) = %v, %v, want %v", c.seen, unit, p, ok, c.p)
			}
		}
	}
}

// With 99 values without ties, and sizes that have no factor in common, there are too many sums to count.
func TestSumTailGivesUp(t *testing.T) {
	if s := CramerVonMises(normals(1, 50), normals(2, 49)); s.Method != "cramer-von mises limit" {
		t.Errorf("%+v", s)
	}
}

func TestMergeSumsByHand(t *testing.T) {
	a := []partial{{1, 1}, {4, 2}, {9, 3}}
	b := []partial{{0, 1}, {3, 5}, {4, 1}}
	want := []partial{{1, 11}, {4, 52}, {5, 10}, {9, 3}} // b a unit further on, each way ten times
	if got := mergeSums(a, b, 1, 10); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := mergeSums(nil, b, 2, 1), []partial{{2, 1}, {5, 5}, {6, 1}}; !slices.Equal(got, want) {
		t.Errorf("to nothing: %v, want %v", got, want)
	}
}

// Of 512 values a cell holds two: a group of so many is one of its own, and what is smaller is joined.
func TestTieSharesByHand(t *testing.T) {
	run := func(from, n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(from + i)
		}
		return v
	}
	same := func(x float64, n int) []float64 { return slices.Repeat([]float64{x}, n) }
	for name, c := range map[string]struct {
		ref, cur []float64
		want     []float64 // values in each cell
	}{
		"two groups":                {same(0, 200), same(1, 312), []float64{200, 312}},
		"four single ones, a group": {run(0, 4), same(9, 508), []float64{2, 2, 508}},
		"five single ones, a group": {run(0, 5), same(9, 507), []float64{2, 2, 1, 507}},
		"a single one, then two":    {[]float64{0, 1, 1}, same(9, 509), []float64{1, 2, 509}},
		"single ones at the end":    {same(0, 509), run(5, 3), []float64{509, 2, 1}},
		"groups of both samples":    {[]float64{0, 3}, append([]float64{0}, same(9, 509)...), []float64{2, 1, 509}},
	} {
		got := tieShares(c.ref, c.cur)
		for i := range got {
			got[i] *= 512
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
