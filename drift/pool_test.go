package drift

import (
	"slices"
	"testing"
)

// Who joins whom, by hand, where 20 expected in the smaller sample are enough.
func TestPoolingByHand(t *testing.T) {
	byName := func(ref, cur []int) (r, c []int) { return joinCategories(ref, cur, sparse) }
	for _, c := range []struct {
		name     string
		pool     func(ref, cur []int) (r, c []int)
		ref, cur []int
		r, c     []int
	}{
		{"categories: none is sparse", byName, []int{400, 390}, []int{40, 41}, []int{400, 390}, []int{40, 41}},
		{"twice enough is alone, and who is joined goes past it", byName, []int{100, 400, 100}, []int{9, 41, 10}, []int{400, 200}, []int{41, 19}},
		{"just less than twice takes in what came before", byName, []int{100, 399, 101}, []int{9, 41, 10}, []int{600}, []int{60}},
		{"just enough, and not", byName, []int{150, 50, 150, 49, 101}, []int{8, 12, 15, 2, 13}, []int{200, 300}, []int{20, 30}},
		{"two names are enough on average, so one is not", byName, []int{210, 180, 220, 170, 205, 185}, []int{1, 2, 3, 4, 5, 102}, []int{390, 390, 390}, []int{3, 7, 107}},
		{"twice enough is, of whatever names", byName, []int{390, 390, 40, 40, 40, 10, 10, 10, 10, 10, 10, 20, 20}, []int{39, 39, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 3}, []int{780, 220}, []int{78, 22}},
		{"just twice enough is, too", byName, []int{390, 10, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20}, []int{39, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}, []int{400, 220}, []int{40, 22}},
		{"what is alone has no part in the average", byName, []int{400, 210, 180, 210, 180}, []int{40, 21, 18, 21, 18}, []int{400, 390, 390}, []int{40, 39, 39}},
		{"what is left joins the last that were joined", byName, []int{150, 100, 500, 100}, []int{15, 11, 50, 9}, []int{350, 500}, []int{35, 50}},
		{"what is left is enough by itself", byName, []int{150, 160, 800, 210}, []int{15, 16, 80, 21}, []int{310, 800, 210}, []int{31, 80, 21}},
		{"what is left is alone where none were joined", byName, []int{50, 800, 40}, []int{5, 81, 3}, []int{800, 90}, []int{81, 8}},
		{"what is left has only the window", byName, []int{0, 800, 0}, []int{1, 79, 0}, []int{800, 0}, []int{79, 1}},
		{"what is left is empty", byName, []int{0, 800}, []int{0, 80}, []int{800}, []int{80}},
		{"the window has no say in it", byName, []int{200, 0, 200, 800}, []int{1, 117, 1, 1}, []int{200, 800, 200}, []int{118, 1, 1}},
		{"categories of a window larger than the reference", byName, []int{40, 19, 20}, []int{0, 500, 600}, []int{40, 39}, []int{0, 1100}},
		{"categories without a reference", byName, []int{0, 0}, []int{3, 4}, []int{0}, []int{7}},
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
