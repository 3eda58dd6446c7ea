package drift

import "testing"

// How many rows take part: blocks of at most 200, with at least 20 of either side where there is more than one, and what is too
// much is taken from the larger side. Of equal rows nothing is drawn.
func TestMMDBlocksByHand(t *testing.T) {
	rows := func(n int) [][]float64 {
		v := make([][]float64, n)
		for i := range v {
			v[i] = []float64{1, 2}
		}
		return v
	}
	for _, c := range []struct{ ref, cur, n, m int }{
		{2, 2, 2, 2}, {100, 100, 100, 100},
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
