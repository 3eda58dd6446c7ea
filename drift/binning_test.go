package drift

import (
	"math"
	"slices"
	"testing"
)

func TestOrderEdgesByHand(t *testing.T) {
	for _, c := range []struct {
		s    []float64
		bins int
		want []float64
	}{
		{nil, 5, nil},
		{[]float64{1, 2, 3}, 3, []float64{1, 2}},
		{[]float64{1, 2, 3, 4, 5}, 2, []float64{3}},               // s[ceil(5/2)-1]
		{[]float64{1, 2, 3, 4, 5, 6}, 4, []float64{2, 3, 5}},      // of ranks 2, 3 and 5
		{[]float64{1, 1, 1, 2}, 4, []float64{1}},                  // without repeats
		{[]float64{1, 1, 2, 2}, 4, []float64{1}},                  // nothing is above 2
		{[]float64{1, 2, 2, 2, 2}, 3, []float64{}},                //
		{[]float64{1, 2}, 5, []float64{1}},                        // more bins than values
		{[]float64{1, 2, 3}, 1, []float64{}},                      // one bin has no edges
		{[]float64{1, 2, 3, 4, 5, 5, 5}, 3, []float64{3}},         // of ranks 3 and 5
		{[]float64{1, 2, 3, 4, 5, 6, 7}, 3, []float64{3, 5}},      //
		{[]float64{-1, 0, 0, 0, 1, 2, 2}, 7, []float64{-1, 0, 1}}, //
	} {
		if got := orderEdges(c.s, c.bins); !slices.Equal(got, c.want) {
			t.Errorf("%v in %d: %v, want %v", c.s, c.bins, got, c.want)
		}
	}
}

func TestBinnerByHand(t *testing.T) {
	run := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(i)
		}
		return v
	}
	// Ten of a hundred values are a bin's share; nine are not.
	tenth := slices.Concat(run(40), slices.Repeat([]float64{40}, 10), func() []float64 {
		v := run(50)
		for i := range v {
			v[i] += 41
		}
		return v
	}())
	b := newBinner(tenth, 10)
	if !slices.Equal(b.atoms, []float64{40}) || !slices.Equal(b.edges, []float64{9, 19, 29, 39, 50, 60, 70, 80}) {
		t.Errorf("atoms %v, edges %v: 40 is a bin of its own, and nine are left for the others", b.atoms, b.edges)
	}
	tenth[40] = 39.5
	if b := newBinner(tenth, 10); len(b.atoms) != 0 || len(b.edges) != 9 {
		t.Errorf("atoms %v, edges %v: no value is frequent", b.atoms, b.edges)
	}
	// As many values as bins: each has one, the rare ones too, and there is one for others.
	few := slices.Concat(slices.Repeat([]float64{0}, 91), run(10)[1:])
	if b := newBinner(few, 10); !slices.Equal(b.atoms, run(10)) || len(b.edges) != 0 || b.count() != 11 {
		t.Errorf("atoms %v, edges %v, want the ten values", b.atoms, b.edges)
	}
	if b := newBinner(append(few, 10), 10); !slices.Equal(b.atoms, []float64{0}) {
		t.Errorf("atoms %v: of eleven values one is frequent", b.atoms)
	}
}

// alone are the values that have a cell of their own.
func alone(edges []float64) []float64 {
	var v []float64
	for k := range edges {
		if single(edges, k) {
			v = append(v, edges[k])
		}
	}
	return v
}

// Up to 500 values have a cell each; of more, those with a five-hundredth of the rows.
func TestCellEdgesByHand(t *testing.T) {
	sample := func(distinct int, times map[int]int) []float64 {
		var v []float64
		for x := range distinct {
			v = append(v, slices.Repeat([]float64{float64(x)}, max(1, times[x]))...)
		}
		return v
	}
	for _, c := range []struct {
		name     string
		distinct int
		times    map[int]int
		want     []float64
	}{
		{"500 values", 500, map[int]int{0: 501}, sample(500, nil)},
		{"501 values in 1,000 rows", 501, map[int]int{250: 2, 500: 499}, []float64{250, 500}},
		{"501 values in 1,001 rows", 501, map[int]int{250: 2, 500: 500}, []float64{500}},
	} {
		s := sample(c.distinct, c.times)
		edges := cellEdges(s, &binner{})
		// Of order statistics neighbours may meet; none is the other's next float.
		if got := alone(edges); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v have cells of their own, want %v", c.name, got, c.want)
		}
		if edges[0] != math.Nextafter(0, -1) || edges[len(edges)-1] != float64(c.distinct-1) {
			t.Errorf("%s: cells from %v to %v", c.name, edges[0], edges[len(edges)-1])
		}
	}
}
