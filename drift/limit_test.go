package drift

import (
	"math"
	"slices"
	"testing"
)

// ovalTail is P(q1 X^2 + 2 q12 X Y + q2 Y^2 >= x) for the Brownian bridge at a (X) and at b (Y). In polar
// coordinates a sum of two weighted squares of independent normal variables is exponential along each direction.
func ovalTail(a, b, q1, q12, q2, x float64) float64 {
	// The weights are the eigenvalues of the form times the covariance.
	xx, xy, yy := a*(1-a), a*(1-b), b*(1-b)
	trace := q1*xx + 2*q12*xy + q2*yy
	det := (q1*q2 - q12*q12) * (xx*yy - xy*xy)
	root := math.Sqrt(trace*trace/4 - det)
	large, small := trace/2+root, trace/2-root
	sum, steps := 0.0, 20_000
	for i := range steps {
		sin, cos := math.Sincos(math.Pi * (float64(i) + 0.5) / float64(steps))
		sum += math.Exp(-x / 2 / (large*cos*cos + small*sin*sin))
	}
	return sum / float64(steps)
}

// valuesOf are ascending samples of 0, 1, 2, ... so often.
func valuesOf(times ...int) []float64 {
	var v []float64
	for x, n := range times {
		v = append(v, slices.Repeat([]float64{float64(x)}, n)...)
	}
	return v
}

// Of three values the limit laws under ties are those of two points of the Brownian bridge.
func TestLimitOfThreeValues(t *testing.T) {
	for _, c := range [][2][]int{
		{{60, 40, 20}, {30, 50, 40}}, {{100, 5, 15}, {110, 3, 7}}, {{10, 10, 300}, {9, 9, 82}}, {{500, 400, 600}, {90, 120, 90}},
	} {
		ref, cur := valuesOf(c[0]...), valuesOf(c[1]...)
		n, m := float64(len(ref)), float64(len(cur))
		var share [3]float64
		for i := range share {
			share[i] = float64(c[0][i]+c[1][i]) / (n + m)
		}
		a, b := share[0], share[0]+share[1]
		// T is the sum over values of the mean of the squares at both ends, A2 that of the squared mean of both ends over its variance.
		q1, q2 := (share[0]+share[1])/2, (share[1]+share[2])/2
		s := CramerVonMises(ref, cur)
		mean := q1*a*(1-a) + q2*b*(1-b)
		if want := ovalTail(a, b, q1, 0, q2, s.Stat/s.Null*mean); s.Method != "cramer-von mises limit" || math.Abs(s.P-want) > 1e-9 {
			t.Errorf("%v: Cramer-von Mises %v by %q, want %v", c, s.P, s.Method, want)
		}
		weight := func(i int, mid float64) float64 { return share[i] / 4 / (mid*(1-mid) - share[i]/4) }
		w0, w1, w2 := weight(0, a/2), weight(1, (a+b)/2), weight(2, (1+b)/2)
		for _, x := range []float64{0.3, 1, 2.5, 6} {
			if got, want := adTail(x, ref, cur, len(ref)), ovalTail(a, b, w0+w1, w1, w1+w2, x); math.Abs(got-want) > 1e-9 {
				t.Errorf("%v: P(A2 >= %v) = %v, want %v", c, x, got, want)
			}
		}
	}
	// Of two values A2 is a chi-square, whatever their shares.
	for _, x := range []float64{0.1, 1, 4, 20} {
		if got, want := adTail(x, valuesOf(50, 10), valuesOf(30, 3), 80), math.Erfc(math.Sqrt(x/2)); math.Abs(got-want) > 1e-10*want {
			t.Errorf("two values: P(A2 >= %v) = %v, want %v", x, got, want)
		}
	}
}

// At 0 there is nothing to sum up, with however few terms.
func TestLimitAtZero(t *testing.T) {
	half := []float64{0.5, 0.5}
	for _, law := range []quadraticLaw{cvmLaw, adLaw, tiedLaw(half, []float64{1, 1}, []float64{0, 0}), tiedLaw(half, []float64{0, 0}, []float64{1, 0})} {
		if p := law.tail(0); p != 1 {
			t.Errorf("P(sum >= 0) = %v", p)
		}
	}
	if s := CramerVonMises(valuesOf(200, 300), valuesOf(200, 300)); s.Stat != 0 || s.P != 1 {
		t.Errorf("%+v", s)
	}
}

// Groups of up to 1/256 of the values are no ties to speak of.
func TestSmallTiesAreNone(t *testing.T) {
	run := func(from, n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(from + i)
		}
		return v
	}
	for _, c := range []struct {
		name     string
		ref, cur []float64
		largest  int
		untied   bool
	}{
		{"twenty values", run(0, 12), run(12, 8), 1, true},
		{"groups of four in 1,024", slices.Concat(run(0, 697), []float64{2000, 2000, 2000}), append(run(800, 323), 2000), 4, true},
		{"groups of five in 1,024", slices.Concat(run(0, 696), []float64{2000, 2000, 2000, 2000}), append(run(800, 323), 2000), 5, false},
		{"groups of two in 40", run(0, 20), run(0, 20), 2, false},
	} {
		for _, x := range []float64{1, 3} {
			if got := adTail(x, c.ref, c.cur, c.largest); (got == adLaw.tail(x)) != c.untied {
				t.Errorf("%s: P(A2 >= %v) = %v, without ties %v", c.name, x, got, adLaw.tail(x))
			}
		}
		if s := CramerVonMises(c.ref, c.cur); s.Method == "cramer-von mises limit" {
			if (s.P == cvmTail(s.Stat, float64(len(c.ref)), float64(len(c.cur)))) != c.untied {
				t.Errorf("%s: %+v", c.name, s)
			}
		}
	}
}

// The corrected law has the mean and the variance of the law over all deals, so that it is close to that for few values.
func TestCvMTailOfFewValues(t *testing.T) {
	for _, c := range []struct {
		n, m  int
		shift float64
	}{{20, 20, 2}, {20, 20, 5}, {24, 12, 2.5}, {24, 12, 6}, {30, 10, 3}, {12, 24, 5}} {
		ref, cur := make([]float64, c.n), make([]float64, c.m)
		for i := range ref {
			ref[i] = float64(i) / float64(c.n) * 20
		}
		for i := range cur {
			cur[i] = float64(i)/float64(c.m)*20 + c.shift + 0.01
		}
		s := CramerVonMises(ref, cur)
		if got := cvmTail(s.Stat, float64(c.n), float64(c.m)); s.Method != "cramer-von mises exact" || math.Abs(got-s.P) > 0.02*s.P {
			t.Errorf("%d and %d values: %v, the limit says %v", c.n, c.m, s, got)
		}
	}
}
