package drift

import "math"

// quadraticLaw is the law of a sum over k of lambda[k] * z[k]^2 with z independent
// standard normal, given by its determinant det(u) = product of (1 - u*lambda[k]) and the
// zeros 1/lambda[k] of that in ascending order, k from 1; +Inf where there are no more.
// It is the limit law of both Cramer-von Mises and Anderson-Darling.
type quadraticLaw struct {
	det  func(u float64) float64
	zero func(k int) float64
}

// cvmLaw is that of the integral of B(s)^2 over [0,1], B the Brownian bridge: lambda = 1/(k*pi)^2.
var cvmLaw = quadraticLaw{
	det:  func(u float64) float64 { r := math.Sqrt(u); return math.Sin(r) / r },
	zero: func(k int) float64 { x := math.Pi * float64(k); return x * x },
}

// adLaw is that of the integral of B(s)^2/(s(1-s)): lambda = 1/(k*(k+1)).
var adLaw = quadraticLaw{
	det: func(u float64) float64 {
		return -math.Cos(math.Pi/2*math.Sqrt(1+4*u)) / (math.Pi * u)
	},
	zero: func(k int) float64 { return float64(k) * float64(k+1) },
}

// tail is P(sum >= x) by the formula of Smirnov (1936),
//
//	1/pi * sum over k of (-1)^(k-1) * integral from zero(2k-1) to zero(2k) of
//	exp(-x*u/2) / (u*sqrt(|det(u)|)) du
//
// Its first term rules the tail, so that small values are as exact as others.
// The integrands have inverse roots at both ends, which is what Gauss-Chebyshev nodes are for.
func (q quadraticLaw) tail(x float64) float64 {
	first := q.zero(1)
	if x*first <= 0.015 { // the distribution function is below 1e-17 in both laws
		return 1
	}
	sum, sign := 0.0, 1.0
	for k := 1; ; k++ {
		a, b := q.zero(2*k-1), q.zero(2*k)
		if math.IsInf(a, 1) || x*(a-first) > 80 {
			break
		}
		sum += sign * q.term(x, a, b)
		sign = -sign
		if math.IsInf(b, 1) {
			break
		}
	}
	return min(1, max(0, sum))
}

func (q quadraticLaw) term(x, a, b float64) float64 {
	sum := 0.0
	if math.IsInf(b, 1) {
		// u = a+v^2 takes the root away, and leaves what the trapezoidal rule is best at.
		step := math.Sqrt(a) / 8
		for i := 0.5; ; i++ {
			v := i * step
			if x*v*v > 80 {
				return sum * 2 * step / math.Pi
			}
			u := a + v*v
			sum += math.Exp(-x*u/2) * v / (u * math.Sqrt(math.Abs(q.det(u))))
		}
	}
	mid, half := (a+b)/2, (b-a)/2
	nodes := 24 + int(8*math.Sqrt(min(x*half, 1e6)))
	for i := range nodes {
		c := math.Cos(math.Pi * (float64(i) + 0.5) / float64(nodes))
		u := mid + half*c
		sum += math.Exp(-x*u/2) * math.Sqrt(half*half*(1-c*c)/math.Abs(q.det(u))) / u
	}
	return sum / float64(nodes)
}

// limitCells is how finely a pooled sample is cut for the law under ties.
const limitCells = 256

// tiedLaw is the limit law where values are tied: that of the sum over groups t of
//
//	mids[t] * ((B(s[t-1])+B(s[t]))/2)^2 + ends[t] * B(s[t])^2
//
// with B the Brownian bridge, s the shares of the pooled values up to the end of a
// group, and share the differences of s, which sum to 1. Its determinant is that of a
// tridiagonal matrix, and the zeros of it are counted by its pivots (Sturm).
func tiedLaw(share, mids, ends []float64) quadraticLaw {
	// pivots returns det(A-uB)/det(A), A being the inverse of the bridge's
	// covariance at the inner ends, and how many zeros are below u.
	pivots := func(u float64) (det float64, negative int) {
		det = 1
		last, lastA := 0.0, 0.0
		for t := 0; t+1 < len(share); t++ {
			diagA := 1/share[t] + 1/share[t+1]
			diag := diagA - u*((mids[t]+mids[t+1])/4+ends[t])
			if t > 0 {
				off := 1/share[t] + u*mids[t]/4
				diag -= off * off / last
				diagA -= 1 / (share[t] * share[t]) / lastA
			}
			if diag == 0 {
				diag = 1e-300
			}
			if diag < 0 {
				negative++
			}
			det *= diag / diagA
			last, lastA = diag, diagA
		}
		return det, negative
	}
	var zeros []float64
	return quadraticLaw{
		det: func(u float64) float64 { det, _ := pivots(u); return det },
		zero: func(k int) float64 {
			for len(zeros) < k {
				lo, hi := 0.0, 1.0
				if len(zeros) > 0 {
					lo = zeros[len(zeros)-1]
					hi = 2 * lo
				}
				for {
					if _, c := pivots(hi); c > len(zeros) {
						break
					}
					if hi *= 2; hi > 1e12 {
						hi = math.Inf(1)
						break
					}
				}
				for range 60 {
					if math.IsInf(hi, 1) {
						break
					}
					mid := (lo + hi) / 2
					if _, c := pivots(mid); c > len(zeros) {
						hi = mid
					} else {
						lo = mid
					}
				}
				zeros = append(zeros, hi)
			}
			return zeros[k-1]
		},
	}
}
