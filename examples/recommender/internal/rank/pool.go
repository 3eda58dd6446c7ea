package rank

import (
	"sort"
	"time"

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

// pools are the candidates as they changed over a log: those of each tile of
// six hours, chosen by the sales of the week before it.
type pools struct {
	tile  time.Duration
	first int64
	of    [][]string
}

// poolsOf chooses candidates all along a log, oldest first, as the item service
// does while it serves.
func poolsOf(items []shop.Item, log []shop.Purchase) *pools {
	p := &pools{tile: windowOptions.Hop}
	index := make(map[string]int, len(items))
	for i, item := range items {
		index[item.ID] = i
	}
	p.first = p.number(log[0].Time)
	last := p.number(log[len(log)-1].Time)
	sold := make([]float64, len(items))
	from, to := 0, 0
	for n := p.first; n <= last; n++ {
		begin := time.Unix(0, n*int64(p.tile))
		for to < len(log) && log[to].Time.Before(begin) {
			sold[index[log[to].Item]]++
			to++
		}
		for from < to && log[from].Time.Before(begin.Add(-week)) {
			sold[index[log[from].Item]]--
			from++
		}
		p.of = append(p.of, Pool(items, sold))
	}
	return p
}

func (p *pools) number(t time.Time) int64 { return t.UnixNano() / int64(p.tile) }

// at returns the candidates at a time within the log.
func (p *pools) at(t time.Time) []string {
	return p.of[min(max(p.number(t)-p.first, 0), int64(len(p.of)-1))]
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
