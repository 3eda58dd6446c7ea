package drift

import "math"

// kolmogorovLimit is the limit law Q(x) = 2 sum (-1)^(k-1) exp(-2 k^2 x^2), in
// its other form, by theta functions, where the sum alternates too slowly.
func kolmogorovLimit(x float64) float64 {
	if x <= 0 {
		return 1
	}
	if x < 1.18 {
		return max(0, 1-pelzGood0(x))
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; ; k++ {
		t := math.Exp(-2 * k * k * x * x)
		sum += sign * t
		if sign = -sign; t <= sum*1e-18 {
			return min(1, 2*sum)
		}
	}
}

func pelzGood0(x float64) float64 {
	sum := 0.0
	for k := 1.0; k < 40; k += 2 {
		sum += math.Exp(-k * k * math.Pi * math.Pi / (8 * x * x))
	}
	return math.Sqrt(2*math.Pi) / x * sum
}

// kolmogorovN is P(D_n >= d) for n points against a continuous distribution,
// by the method that is good where it is used (Simard and L'Ecuyer 2011): in the
// tail twice the one-sided law (Miller 1956), otherwise Durbin's matrix
// (Marsaglia, Tsang and Wang 2003) for few points and the expansion of Pelz and
// Good (1976) for many.
func kolmogorovN(n, d float64) float64 {
	nd := n * d
	nd2 := nd * d
	switch {
	case n < 1 || nd <= 0.5:
		return 1
	case d >= 1:
		return 0
	case nd <= 1:
		// P(D < d) = n! ((2nd-1)/n)^n
		lg, _ := math.Lgamma(n + 1)
		return max(0, -math.Expm1(lg+n*math.Log((2*nd-1)/n)))
	case d >= 0.5 || nd2 >= 4 || (n > 140 && nd2 >= 2.2):
		return min(1, 2*smirnovN(n, d))
	case n <= 140:
		return max(0, 1-durbin(int(n), d))
	}
	return max(0, min(1, 1-pelzGood(n, d)))
}

// smirnovN is the one-sided P(D_n+ >= d), the sum of Birnbaum and Tingey (1951),
// or for very many points its expansion for large n.
func smirnovN(n, d float64) float64 {
	if n > 100_000 {
		// The rate 2d^2 + 4/9 d^4 + 32/135 d^6, with the first corrections for n.
		a, d2 := 6*n*d+1, d*d
		return math.Exp(-a*a/(18*n) - 4.0/9*d2*(n*d2-1) - 32.0/135*n*d2*d2*d2)
	}
	lgn, _ := math.Lgamma(n + 1)
	sum := 0.0
	for j := 0.0; j < n*(1-d); j++ {
		a, b := lgamma(j+1), lgamma(n-j+1)
		c := d + j/n
		sum += math.Exp(lgn - a - b + (n-j)*math.Log1p(-c) + (j-1)*math.Log(c))
	}
	return min(1, d*sum)
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// durbin is P(D_n < d) by the power of a matrix of side 2*ceil(nd)-1. The least
// it can be, n!/n^n, is far above the smallest float for the few points it is for.
func durbin(n int, d float64) float64 {
	nd := float64(n) * d
	k := int(nd) + 1
	side := 2*k - 1
	h := float64(k) - nd
	m := make([][]float64, side)
	for i := range m {
		m[i] = make([]float64, side)
		for j := range min(i+2, side) {
			m[i][j] = 1
		}
	}
	for i := range side {
		m[i][0] -= math.Pow(h, float64(i+1))
		m[side-1][i] -= math.Pow(h, float64(side-i))
	}
	if 2*h > 1 {
		m[side-1][0] += math.Pow(2*h-1, float64(side))
	}
	for i := range side {
		for j := range side {
			for g := 2; g <= i-j+1; g++ {
				m[i][j] /= float64(g)
			}
		}
	}
	v := make([]float64, side) // row k-1 of the power so far
	v[k-1] = 1
	for i := 1; i <= n; i++ {
		next := make([]float64, side)
		for a, x := range v {
			for b := range next {
				next[b] += x * m[a][b]
			}
		}
		v = next
		// n!/n^n is multiplied in as it goes.
		for b := range v {
			v[b] *= float64(i) / float64(n)
		}
	}
	return v[k-1]
}

// pelzGood is P(D_n < d) to order n^(-3/2).
func pelzGood(n, d float64) float64 {
	x := d * math.Sqrt(n)
	x2 := x * x
	x4 := x2 * x2
	x6 := x4 * x2
	var k0, k1, k2, k3, even2, even3 float64
	for k := -20.0; k <= 20; k++ {
		w := (k + 0.5) * (k + 0.5) * math.Pi * math.Pi
		e := math.Exp(-w / (2 * x2))
		k0 += e
		k1 += (w - x2) * e
		k2 += (6*x6 + 2*x4 + (2*x4-5*x2)*w + (1-2*x2)*w*w) * e
		k3 += ((5-30*x2)*w*w*w + (-60*x2+212*x4)*w*w + (135*x4-96*x6)*w - (30*x6 + 90*x6*x2)) * e
		q := k * k * math.Pi * math.Pi
		e = math.Exp(-q / (2 * x2))
		even2 += q * e
		even3 += (3*q*x2 - q*q) * e
	}
	r := math.Sqrt(math.Pi / 2)
	k0 *= r / x
	k1 *= r / (6 * x4)
	k2 = k2*r/(72*x6*x) - even2*r/(36*x2*x)
	k3 = k3*r/(6480*x6*x4) + even3*r/(216*x6)
	s := math.Sqrt(n)
	return k0 + k1/s + k2/n + k3/(n*s)
}
