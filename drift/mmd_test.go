package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// How many rows take part: blocks of at most 200, with at least 20 of either side where there is more than one, and what is too
// much is taken from the larger side. Of equal rows nothing is drawn.
func TestMMDBlocksByHand(t *testing.T) {
	rows := func(n int) [][]float64 { return rowsOf(n, 1, 2) }
	for _, c := range []struct{ ref, cur, n, m int }{
		{2, 2, 2, 2}, {100, 100, 100, 100},
		{99, 101, 99, 101},
		{101, 100, 100, 100}, // two of 50+50
		{150, 120, 150, 120}, // two of 75+60
		{39, 161, 39, 161},
		{40, 161, 40, 160},   // two of 20+80
		{39, 162, 39, 161},   // one, for want of 40
		{162, 39, 161, 39},   //
		{30, 400, 30, 170},   // one
		{400, 30, 170, 30},   //
		{400, 300, 400, 300}, // four of 100+75
		{600, 60, 540, 60},   // three of 180+20
		{60, 600, 60, 540},   //
		{5000, 5000, 2500, 2500},
		{2500, 2500, 2500, 2500}, // 25 of 100+100
		{2526, 2500, 2500, 2500}, // and no more
	} {
		if s := MMD(rows(c.ref), rows(c.cur), 1); s.N != c.n || s.M != c.m || s.HasP {
			t.Errorf("of %d and %d rows %d and %d take part, want %d and %d", c.ref, c.cur, s.N, s.M, c.n, c.m)
		}
	}
}

// A row with a NaN is left out wherever it stands, and takes the scale of huge values with it.
func TestMMDLeavesNaNOut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rows := func(n int, scale float64) (out [][]float64) {
		for range n {
			out = append(out, []float64{scale * r.NormFloat64(), scale * r.NormFloat64()})
		}
		return out
	}
	nan := []float64{math.Inf(1), math.NaN()}
	ref, cur := rows(60, 1), rows(60, 1)
	ref[3][0], cur[4][0] = math.Inf(1), math.Inf(1)
	for _, c := range [][2][][]float64{{ref, cur}, {rows(60, 1e200), rows(60, 1e200)}, {rows(60, 1), rows(60, 1)}} {
		ref, cur := c[0], c[1]
		want := MMD(ref, cur, 1)
		for _, at := range []int{0, 30, 60} {
			for _, got := range []Score{MMD(slices.Insert(slices.Clone(ref), at, nan), cur, 1), MMD(ref, slices.Insert(slices.Clone(cur), at, nan), 1)} {
				if got != want || !want.HasP {
					t.Errorf("with a NaN in row %d %+v, without %+v", at, got, want)
				}
			}
		}
	}
}

func rowsOf(n int, row ...float64) [][]float64 {
	v := make([][]float64, n)
	for i := range v {
		v[i] = row
	}
	return v
}

// Two points at a distance, which is the median: in any block Stat is 1 + 1 - 2 exp(-1/2), whatever the unit, and no deal comes as far.
func TestMMDOfTwoPoints(t *testing.T) {
	for _, n := range []int{100, 120} { // one block, and two
		for _, unit := range []float64{1, 1e-3, 1e3, 1e139, 1e140, 1e141, 1e300, 1e-139, 1e-141, 1e-300} {
			s := MMD(rowsOf(n, 0, 0), rowsOf(n, unit, 0), 1)
			if want := 2 - 2*math.Exp(-0.5); !(math.Abs(s.Stat-want) < 1e-12) || !(math.Abs(s.Effect-math.Sqrt(want)) < 1e-12) || s.P != 0.001 || !s.HasP || s.N != n {
				t.Errorf("%d rows, unit %v: %+v, want %v", n, unit, s, want)
			}
		}
	}
	// Where more than half of all pairs are equal, sigma^2 is the mean square: 36 of 190 pairs of rows differ here. Within the
	// current rows 29 of 45 pairs are equal, between both sides 80 of 100.
	if s, want := MMD(rowsOf(10, 0), append(rowsOf(8, 0), rowsOf(2, 1)...), 1), 2.0/45*(1-math.Exp(-190.0/72)); !s.HasP || math.Abs(s.Stat-want) > 1e-14 {
		t.Errorf("%+v, want %v", s, want)
	}
	// An infinity is the largest float.
	if s := MMD(rowsOf(20, 0), rowsOf(20, math.Inf(-1)), 1); math.Abs(s.Stat-(2-2*math.Exp(-0.5))) > 1e-12 {
		t.Errorf("%+v", s)
	}
}

// The three ways to halve four rows have estimates of the mean 0: where that of the rows as they are is next to 0, one of the
// others is above it and one below, and P is 2/3.
func TestMMDNextToNothing(t *testing.T) {
	at := func(y float64) Score { return MMD([][]float64{{0}, {1}}, [][]float64{{2}, {y}}, 1) }
	under, over := 0.5, 2.1
	for range 60 {
		if y := (under + over) / 2; at(y).Stat > 0 {
			over = y
		} else {
			under = y
		}
	}
	if s := at(over); s.Stat <= 0 || s.Stat > 1e-12 || math.Abs(s.P-2.0/3) > 0.2 {
		t.Errorf("%+v, want P = 2/3", s)
	}
}

func TestMMDWithoutP(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		ref, cur [][]float64
		n, m     int
	}{
		"one row":                   {rowsOf(1, 1), rowsOf(5, 2), 1, 5},
		"one row on the other side": {rowsOf(5, 1), rowsOf(1, 2), 5, 1},
		"all zero":                  {rowsOf(9, 0, 0), rowsOf(9, 0, 0), 9, 9},
		"rows with a NaN":           {append(rowsOf(8, nan, 1), rowsOf(1, 1, 1)...), append(rowsOf(8, 1, nan), rowsOf(3, 1, 2)...), 1, 3},
		"nothing":                   {nil, nil, 0, 0},
		"no current rows":           {rowsOf(4, 1), nil, 4, 0},
		"no reference":              {nil, rowsOf(4, 1), 0, 4},
		"rows without values":       {rowsOf(4), rowsOf(4), 4, 4},
	} {
		if s := MMD(c.ref, c.cur, 1); s.HasP || s.N != c.n || s.M != c.m || s.Stat != 0 {
			t.Errorf("%s: %+v, want no P of %d and %d rows", name, s, c.n, c.m)
		}
	}
	for _, rows := range [][][]float64{{{1}, {1, 2}}, {{}, {1}}, {{1}, {}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: rows of different lengths, and no panic", rows)
				}
			}()
			MMD(rows, nil, 1)
		}()
	}
}
