package shop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

const (
	shelves      = 6
	perShelf     = 60
	customers    = 6000
	historyDays  = 14
	buyShare     = 0.9 // of visits end in a purchase
	medianBasket = 20.0
)

// taste is how likely a customer of segment s buys from shelf s, s+1, …
var taste = [shelves]float64{0.60, 0.20, 0.05, 0.05, 0.05, 0.05}

// Generated is a shop whose customers buy by taste: six segments of equal size
// and six shelves of equal size, each segment with a favourite shelf, each
// shelf with favourite items.
//
// A shift does two things at once, as a season does. Baskets and visits grow,
// which a drift monitor can see; and every segment moves on to another shelf,
// which only a new model can learn. The moves cancel out over all customers,
// so that how often an item or a shelf is bought stays the same: what shifts
// is exactly what Shifted names.
type Generated struct {
	rng       *rand.Rand
	customers []Customer
	items     []Item
	popular   [perShelf]float64 // cumulative, the same within every shelf
	step      time.Duration
	now       time.Time
	seq       int
	moved     int
	history   []Purchase
}

// NewGenerated makes a shop from a seed. One visit comes every step of event
// time. The history covers fourteen days at the same pace, at most 30,000
// visits.
func NewGenerated(seed uint64, step time.Duration) *Generated {
	g := &Generated{
		rng:  rand.New(rand.NewPCG(seed, 0x5eed)),
		step: step,
		now:  time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC),
	}
	for i := range customers {
		g.customers = append(g.customers, Customer{ID: fmt.Sprintf("c%04d", i), Segment: int64(i % shelves)})
	}
	total := 0.0
	for rank := range perShelf {
		total += math.Pow(float64(rank+1), -0.8)
		g.popular[rank] = total
	}
	for i := range shelves * perShelf {
		price := math.Round(100*4*math.Exp(0.7*g.rng.NormFloat64())) / 100
		g.items = append(g.items, Item{ID: fmt.Sprintf("i%03d", i), Shelf: int64(i % shelves), Price: max(price, 0.5)})
	}
	visits := min(int(historyDays*24*time.Hour/step), 30_000)
	for range visits {
		_, bought, _ := g.Next()
		g.history = append(g.history, bought...)
	}
	return g
}

// Customers implements Shop.
func (g *Generated) Customers() []Customer { return g.customers }

// Items implements Shop.
func (g *Generated) Items() []Item { return g.items }

// History implements Shop.
func (g *Generated) History() []Purchase { return g.history }

// Shift implements Shop.
func (g *Generated) Shift() { g.moved = shelves / 2 }

// Shifted implements Shop.
func (g *Generated) Shifted() []string { return []string{"basket", "depth"} }

// Next implements Shop; a generated shop has no end.
func (g *Generated) Next() (Visit, []Purchase, bool) {
	g.now = g.now.Add(g.step)
	customer := g.customers[g.rng.IntN(len(g.customers))]
	basket := medianBasket * math.Exp(0.6*g.rng.NormFloat64())
	depth := 1 + int(3*g.rng.ExpFloat64())
	if g.moved > 0 {
		basket *= 1.8
		depth += 3
	}
	visit := Visit{Customer: customer.ID, Basket: math.Round(basket*100) / 100, Depth: depth, Time: g.now}
	if g.rng.Float64() >= buyShare {
		return visit, nil, true
	}
	item := g.choose(customer)
	p := Purchase{
		Seq: g.seq, Customer: customer.ID, Item: item.ID, Quantity: 1 + g.rng.IntN(3), Price: item.Price,
		Basket: visit.Basket, Depth: visit.Depth, Time: visit.Time,
	}
	g.seq++
	return visit, []Purchase{p}, true
}

// choose draws a shelf by the customer's taste and an item by its popularity.
func (g *Generated) choose(c Customer) Item {
	draw, shelf := g.rng.Float64(), 0
	for draw -= taste[0]; draw > 0 && shelf < shelves-1; draw -= taste[shelf] {
		shelf++
	}
	shelf = (shelf + int(c.Segment) + g.moved) % shelves
	draw = g.rng.Float64() * g.popular[perShelf-1]
	rank := 0
	for rank < perShelf-1 && g.popular[rank] < draw {
		rank++
	}
	return g.items[rank*shelves+shelf]
}
