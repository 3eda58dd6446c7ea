package rank

import (
	"sort"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
)

// PoolSize is how many candidates are scored for a visit, Top how many of them
// are recommended.
const (
	PoolSize = 48
	Top      = 10
)

// Pool chooses the candidates: an equal share for every shelf, its best sold
// of the week, and the best sold of the rest where a shelf has too few. The
// result is ordered by sales, so that its head is what is popular.
func Pool(items []shop.Item, sold []float64) []string {
	order := make([]int, len(items))
	shelves := map[int64]int{}
	for i := range items {
		order[i] = i
		shelves[items[i].Shelf] = 0
	}
	sort.Slice(order, func(a, b int) bool {
		i, j := order[a], order[b]
		if sold[i] != sold[j] {
			return sold[i] > sold[j]
		}
		return items[i].ID < items[j].ID
	})
	quota := max(1, PoolSize/max(1, len(shelves)))
	chosen := make(map[int]bool, PoolSize)
	for _, i := range order {
		if len(chosen) < PoolSize && shelves[items[i].Shelf] < quota {
			shelves[items[i].Shelf]++
			chosen[i] = true
		}
	}
	for _, i := range order {
		if len(chosen) == PoolSize {
			break
		}
		chosen[i] = true
	}
	pool := make([]string, 0, len(chosen))
	for _, i := range order {
		if chosen[i] {
			pool = append(pool, items[i].ID)
		}
	}
	return pool
}

// PoolOf chooses the candidates from a log of purchases: those of its last week.
func PoolOf(items []shop.Item, log []shop.Purchase) []string {
	counts := map[string]float64{}
	if n := len(log); n > 0 {
		from := log[n-1].Time.Add(-week)
		for _, p := range log {
			if p.Time.After(from) {
				counts[p.Item]++
			}
		}
	}
	sold := make([]float64, len(items))
	for i := range items {
		sold[i] = counts[items[i].ID]
	}
	return Pool(items, sold)
}

// Best returns the ids with the highest scores, best first; equal scores keep
// the order of the pool.
func Best(pool []string, scores []float64, n int) []string {
	order := make([]int, len(pool))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return scores[order[a]] > scores[order[b]] })
	best := make([]string, min(n, len(order)))
	for i := range best {
		best[i] = pool[order[i]]
	}
	return best
}
