package drift

import (
	"math"
	"testing"
)

func TestPSIInputs(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	fill := func(n int, x float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = x
		}
		return v
	}
	for _, c := range []struct {
		name     string
		ref, cur []float64
		has      bool
		large    bool // an effect over 0.25
	}{
		{"empty", nil, nil, false, false},
		{"no current values", fill(5, 1), nil, false, false},
		{"constant, the same", fill(500, 7), fill(100, 7), false, false},
		{"constant, another", fill(500, 7), fill(100, 8), true, true},
		{"all missing, both", fill(50, nan), fill(50, nan), false, false},
		{"all became missing", fill(50, 1), fill(50, nan), true, true},
		{"none is missing any more", fill(50, nan), fill(50, 1), true, true},
		{"infinite reference", fill(50, inf), fill(50, inf), false, false},
		{"infinite current", append(fill(500, 1), fill(500, 2)...), fill(50, -inf), true, true},
		{"near the largest float", append(fill(50, 1e300), fill(50, -1.7e308)...), fill(50, 1.7e308), true, true},
	} {
		for _, z := range []ZeroRule{AddHalf, Epsilon, Floor} {
			s := PSI(c.ref, c.cur, &PSIOptions{Zero: z})
			if s.HasP != c.has || (s.Effect > 0.25) != c.large {
				t.Errorf("%s, rule %d: %+v", c.name, z, s)
			}
			soundScore(t, s)
		}
	}
	if s := PSI(fill(50, 1), fill(50, nan), &PSIOptions{IgnoreMissing: true}); s.HasP || s.M != 0 {
		t.Errorf("missing is ignored, and yet %+v", s)
	}
	for name, f := range map[string]func(){
		"lengths":  func() { PSICounts([]int{1}, []int{1, 2}, AddHalf) },
		"negative": func() { ChiSquare([]int{-1}, []int{1}) },
		"rule":     func() { PSICounts([]int{1}, []int{1}, 9) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic for a programming error", name)
				}
			}()
			f()
		}()
	}
}

// A value that is frequent among many others has its own bin: its share can
// double without moving any order statistic much.
func TestPSIFrequentValue(t *testing.T) {
	var ref, cur []float64
	for i := range 1000 {
		x := float64(i)
		if i%10 < 3 {
			x = -1 // 30 % in the reference
		}
		ref = append(ref, x)
		x = float64(i)
		if i%10 < 6 {
			x = -1 // 60 % now
		}
		cur = append(cur, x)
	}
	b := newBinner(sortedFinite(ref), 10)
	if len(b.atoms) != 1 || b.atoms[0] != -1 || b.count() != 8 {
		t.Fatalf("atoms %v and edges %v for 30%% of one value", b.atoms, b.edges)
	}
	if s := PSI(ref, cur, nil); !s.Drifted(1e-6) || s.Effect < 0.25 {
		t.Errorf("%+v", s)
	}
}

// soundScore is what no score may break.
func soundScore(t testing.TB, s Score) {
	t.Helper()
	for _, x := range []float64{s.Stat, s.P, s.Effect, s.Null} {
		if x-x != 0 {
			t.Errorf("not finite: %+v", s)
		}
	}
	if s.P < 0 || s.P > 1 || (!s.HasP && s.P != 1) || s.Method == "" {
		t.Errorf("P without sense: %+v", s)
	}
}

// A column of few values takes the bin for all others only where something is in it: empty on both sides it is no degree
// of freedom, and yet its halves, 0.5/n against 0.5/m, would be a difference, the larger the less the samples are of one size.
func TestPSIOfFewValues(t *testing.T) {
	ref, cur := make([]float64, 10_000), make([]float64, 100)
	for i := range ref {
		ref[i] = float64(i % 2)
	}
	for i := range cur {
		cur[i] = float64(i % 2)
	}
	s := PSI(ref, cur, nil)
	if s.Stat != 0 || math.Abs(s.Null-(1./10_000+1./100)) > 1e-15 || s.P != 1 || !s.HasP {
		t.Errorf("nothing has moved, and of two bins: %+v", s)
	}
	cur[0] = 2
	if s := PSI(ref, cur, nil); math.Abs(s.Null-2*(1./10_000+1./100)) > 1e-15 {
		t.Errorf("one bin more: %+v", s)
	}
}
