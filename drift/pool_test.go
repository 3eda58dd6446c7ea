package drift

import (
	"slices"
	"testing"
)

// Who joins whom, by hand. A bin stands alone from 20 expected in the smaller sample on.
func TestPoolingByHand(t *testing.T) {
	for _, c := range []struct {
		name     string
		pool     func(ref, cur []int) (r, c []int)
		ref, cur []int
		r, c     []int
	}{
		{"categories: none is sparse", poolSparse, []int{100, 200}, []int{90, 210}, []int{100, 200}, []int{90, 210}},
		{"just enough", poolSparse, []int{100, 20}, []int{100, 20}, []int{100, 20}, []int{100, 20}},
		{"one that is joins the smallest", poolSparse, []int{500, 400, 10}, []int{500, 401, 9}, []int{500, 410}, []int{500, 410}},
		{"the first of two that are equally small", poolSparse, []int{50, 50, 1}, []int{50, 50, 1}, []int{51, 50}, []int{51, 50}},
		{
			"groups, the most frequent first, and what is left joins the smallest", poolSparse,
			[]int{100, 14, 3, 15, 12, 13}, []int{100, 14, 3, 15, 12, 13}, []int{100, 29, 28}, []int{100, 29, 28},
		},
		{
			"by the counts of both, and a group that is just enough", poolSparse,
			[]int{200, 1, 19, 0}, []int{200, 1, 0, 19}, []int{200, 20}, []int{200, 20},
		},
		{"never enough", poolSparse, []int{3, 2}, []int{1, 1}, []int{5}, []int{2}},
		{"enough for one side only", poolSparse, []int{1000, 100}, []int{100, 10}, []int{1100}, []int{110}},
		{"for the other side only", poolSparse, []int{100, 10}, []int{1000, 100}, []int{110}, []int{1100}},
		{"numbers: pairs of neighbours", joinNeighbours, []int{100, 100, 100, 100}, []int{4, 7, 26, 3}, []int{200, 200}, []int{11, 29}},
		{"what is left joins the last", joinNeighbours, []int{200, 200, 100}, []int{20, 21, 9}, []int{200, 300}, []int{20, 30}},
		{"never enough", joinNeighbours, []int{5, 5}, []int{3, 4}, []int{10}, []int{7}},
		{"a window larger than the reference", joinNeighbours, []int{20, 21, 19}, []int{500, 0, 600}, []int{20, 40}, []int{500, 600}},
		{"the window has no say", joinNeighbours, []int{100, 0, 100}, []int{1, 198, 1}, []int{100, 100}, []int{1, 199}},
	} {
		keptRef, keptCur := slices.Clone(c.ref), slices.Clone(c.cur)
		if r, cur := c.pool(c.ref, c.cur); !slices.Equal(r, c.r) || !slices.Equal(cur, c.c) {
			t.Errorf("%s: %v and %v, want %v and %v", c.name, r, cur, c.r, c.c)
		}
		if !slices.Equal(c.ref, keptRef) || !slices.Equal(c.cur, keptCur) {
			t.Errorf("%s: the counts were changed", c.name)
		}
	}
}
