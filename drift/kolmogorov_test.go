package drift

import (
	"math"
	"math/big"
	"testing"
)

// ordersWithin is the exact probability that the i-th smallest of n uniform values is within
// (low(i), high(i)) for all i from 1, by the determinant of Steck (1971), in 600 binary digits.
func ordersWithin(n int, low, high func(i int) *big.Float) *big.Float {
	const digits = 600
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(digits).SetFloat64(x) }
	clip := func(x *big.Float) *big.Float {
		switch {
		case x.Sign() < 0:
			return number(0)
		case x.Cmp(number(1)) > 0:
			return number(1)
		}
		return x
	}
	minors := []*big.Float{number(1)} // times (i-1)!, so that the last is the probability
	for k := 1; k <= n; k++ {
		a, sum := clip(low(k)), number(0)
		// From the diagonal up: choose is k!/((i-1)! (k-i+1)!).
		choose := number(1)
		for i := k; i >= 1; i-- {
			choose.Mul(choose, number(float64(i)))
			choose.Quo(choose, number(float64(k-i+1)))
			gap := number(0).Sub(clip(high(i)), a)
			if gap.Sign() <= 0 {
				break // the bounds ascend: so is what is above
			}
			term := number(0).Mul(choose, minors[i-1])
			for e, square := k-i+1, gap; e > 0; e >>= 1 {
				if e&1 == 1 {
					term.Mul(term, square)
				}
				square = number(0).Mul(square, square)
			}
			if (k-i)%2 == 0 {
				sum.Add(sum, term)
			} else {
				sum.Sub(sum, term)
			}
		}
		minors = append(minors, sum)
	}
	return minors[n]
}

// point is i/n + d in the digits of ordersWithin.
func point(i, n int, d float64) *big.Float {
	x := new(big.Float).SetPrec(600).SetInt64(int64(i))
	x.Quo(x, new(big.Float).SetPrec(600).SetInt64(int64(n)))
	return x.Add(x, new(big.Float).SetFloat64(d))
}

// exactKolmogorov is P(D_n < d) and P(D_n >= d).
func exactKolmogorov(n int, d float64) (under, over float64) {
	return bothTails(ordersWithin(n, func(i int) *big.Float { return point(i, n, -d) }, func(i int) *big.Float { return point(i-1, n, d) }))
}

// exactSmirnov is P(D_n+ >= d).
func exactSmirnov(n int, d float64) float64 {
	_, over := bothTails(ordersWithin(n, func(i int) *big.Float { return point(i, n, -d) }, func(int) *big.Float { return point(1, 1, 0) }))
	return over
}

func bothTails(p *big.Float) (p1, rest float64) {
	p1, _ = p.Float64()
	rest, _ = new(big.Float).Sub(big.NewFloat(1).SetPrec(600), p).Float64()
	return p1, rest
}

// The laws for few points, worked out by hand, and where they begin and end.
func TestKolmogorovByHand(t *testing.T) {
	for _, c := range []struct{ got, want float64 }{
		{kolmogorovLimit(0), 1},
		{kolmogorovLimit(-1), 1},
		{kolmogorovN(0, 0.9), 1},
		{kolmogorovN(4, 0.1), 1}, // D is at least 1/(2n)
		{kolmogorovN(4, 0.125), 1},
		{kolmogorovN(1, 0.75), 0.5},         // U is below 1/4 or above 3/4
		{kolmogorovN(1, 1), 0},              //
		{kolmogorovN(2, 0.375), 0.875},      // 1 - 2*(1/4)^2
		{kolmogorovN(2, 0.5), 0.5},          // 1 - 2*(1/2)^2
		{kolmogorovN(2, 0.75), 0.125},       // 2*(1-d)^2
		{kolmogorovN(3, 1.0/3), 1 - 6.0/27}, // 1 - 3!/3^3
		{kolmogorovN(140, 1), 0},            //
		{smirnovN(1, 0.3), 0.7},             // 1-d
		{smirnovN(2, 0.25), 0.6875},         // d*((1-d)^2/d + 2*(1/2-d))
		{smirnovN(2, 0.5), 0.25},            // (1-d)^2
		{smirnovN(3, 0.5), 1.0 / 6},         // d*((1-d)^3/d + 3*(2/3-d)^2)
	} {
		if !(math.Abs(c.got-c.want) <= 1e-13) { // nor NaN
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// Each method against the exact law, close to where it begins and where it ends.
func TestKolmogorovExact(t *testing.T) {
	for _, c := range []struct {
		n    int
		d    float64
		most float64 // relative error
	}{
		{1, 0.7, 1e-14}, {2, 0.3, 1e-13}, {2, 0.45, 1e-13}, {3, 0.4, 1e-13}, {7, 0.1, 1e-13}, {7, 0.2, 1e-13}, {7, 0.49, 1e-13}, {7, 0.51, 1e-13},
		{20, 0.05, 1e-12}, {20, 0.051, 1e-12}, {20, 0.2, 1e-12}, {20, 0.447, 1e-10}, {20, 0.448, 1e-10}, {20, 0.6, 1e-12},
		{60, 0.1, 1e-12}, {60, 0.1825, 1e-12}, {60, 0.2583, 1e-9}, {140, 0.06, 1e-12}, {140, 0.1, 1e-12}, {140, 0.1253, 1e-11},
		{140, 0.1255, 1e-11}, {140, 0.169, 1e-9}, {140, 0.17, 1e-10}, {141, 0.1252, 2e-6}, {141, 0.17, 1e-10}, {200, 0.11, 1e-6}, {200, 0.3, 1e-10},
		{141, 0.03, 2e-6}, {141, 0.06, 2e-6}, {141, 0.12, 3e-5}, {300, 0.04, 1e-8}, {300, 0.06, 2e-6}, {300, 0.085, 1e-5},
	} {
		got := kolmogorovN(float64(c.n), c.d)
		_, want := exactKolmogorov(c.n, c.d)
		if off := math.Abs(got-want) / want; !(off <= c.most) {
			t.Errorf("P(D >= %v) of %d points is %v, exactly %v: off by %.2g of it", c.d, c.n, got, want, off)
		}
	}
	for _, c := range []struct {
		n int
		d float64
	}{{1, 0.2}, {2, 0.6}, {5, 0.2}, {5, 0.4}, {5, 0.9}, {30, 0.02}, {30, 0.2}, {30, 0.31}, {150, 0.01}, {150, 0.1}} {
		got, want := smirnovN(float64(c.n), c.d), exactSmirnov(c.n, c.d)
		if off := math.Abs(got-want) / want; !(off <= 1e-12) {
			t.Errorf("P(D+ >= %v) of %d points is %v, exactly %v: off by %.2g of it", c.d, c.n, got, want, off)
		}
	}
	for _, c := range []struct {
		n int
		d float64
	}{{1, 0.7}, {4, 0.2}, {20, 0.1}, {60, 0.2}, {140, 0.05}, {140, 0.12}, {200, 0.07}} {
		got := durbin(c.n, c.d)
		want, _ := exactKolmogorov(c.n, c.d)
		if off := math.Abs(got-want) / want; !(off <= 1e-12) {
			t.Errorf("P(D < %v) of %d points is %v, exactly %v: off by %.2g of it", c.d, c.n, got, want, off)
		}
	}
}

// The expansion for very many points beside the sum of Birnbaum and Tingey (1951), whose
// logarithms are summed from the definition of the binomial coefficient.
func TestSmirnovOfManyPoints(t *testing.T) {
	const n = 100_001.0
	for _, c := range []struct{ nd2, most float64 }{{0.3, 1e-6}, {1, 1e-6}, {3, 1e-6}, {10, 1e-6}, {30, 1e-6}, {100, 1e-5}, {340, 6e-5}} {
		d := math.Sqrt(c.nd2 / n)
		sum, choose := 0.0, 0.0
		for j := 0.0; d+j/n < 1; j++ {
			sum += math.Exp(choose + (n-j)*math.Log(1-d-j/n) + (j-1)*math.Log(d+j/n) + math.Log(d))
			choose += math.Log((n - j) / (j + 1))
		}
		if got := smirnovN(n, d); !(math.Abs(got-sum) <= c.most*sum) {
			t.Errorf("P(D+ >= %v) is %v, the sum %v: off by %.2g of it", d, got, sum, math.Abs(got-sum)/sum)
		}
	}
}

// Both forms of the limit law are the same function (a theta function's): here the alternating
// one, 2 sum (-1)^(k-1) exp(-2 k^2 x^2), and its value at 1 in print (Smirnov 1948).
func TestKolmogorovLimit(t *testing.T) {
	for x := 0.25; x < 4; x += 0.03125 {
		want := 0.0
		for k := 60.0; k >= 1; k-- {
			want += 2 * math.Cos(math.Pi*(k-1)) * math.Exp(-2*k*k*x*x)
		}
		if got := kolmogorovLimit(x); !(math.Abs(got-want) <= 4e-16+1e-14*want) {
			t.Errorf("Q(%v) = %v, want %v", x, got, want)
		}
	}
	if got := kolmogorovLimit(1); math.Abs(got-0.27000) > 5e-6 {
		t.Errorf("Q(1) = %v, in print 0.27000", got)
	}
	if got := kolmogorovLimit(0.04); got != 1 {
		t.Errorf("Q(0.04) = %v", got)
	}
	if got, want := kolmogorovLimit(10), 2*math.Exp(-200); math.Abs(got-want) > 1e-13*want {
		t.Errorf("Q(10) = %v, want %v", got, want)
	}
}

// The least that Durbin's matrix is asked for: D_n < 1/n has the chance n!/n^n.
func TestDurbinAtItsLeast(t *testing.T) {
	for _, n := range []int{2, 10, 140} {
		want := lgamma(float64(n)+1) - float64(n)*math.Log(float64(n))
		if got := math.Log(durbin(n, 1/float64(n))); math.Abs(got-want) > 1e-9 {
			t.Errorf("n=%d: log P = %v, want %v", n, got, want)
		}
	}
}

// What is left out of the expansion for many points is of order n^-2, so it is the same number
// of 1/n^2 at any n. A wrong term of lower order would not be.
func TestPelzGood(t *testing.T) {
	left := func(n int, x float64) float64 {
		d := x / math.Sqrt(float64(n))
		exact, _ := exactKolmogorov(n, d)
		return (pelzGood(float64(n), d) - exact) * float64(n*n)
	}
	for _, x := range []float64{0.5, 0.6, 0.7, 0.85, 1, 1.2, 1.4} {
		if few, many := left(80, x), left(300, x); math.Abs(few-many) > 0.005 || math.Abs(many) > 0.06 {
			t.Errorf("x=%v: off by %v/n^2 at n=80, %v/n^2 at n=300", x, few, many)
		}
	}
}
