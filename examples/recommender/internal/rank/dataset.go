package rank

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/featurestore"
)

const (
	negatives    = 7 // candidates not bought, for each that was
	maxPositives = 5000
)

// Dataset is a log of purchases made ready to learn from: the features as of
// every moment in it, and the candidates there were.
type Dataset struct {
	services *Services
	shop     shop.Shop
	log      []shop.Purchase
	store    *featurestore.Store
	pools    *pools
}

// NewDataset replays a log, oldest first, through the same definitions that
// serve. The log is kept and must not change.
func NewDataset(ctx context.Context, s *Services, sh shop.Shop, log []shop.Purchase) (*Dataset, error) {
	if len(log) == 0 {
		return nil, errors.New("no purchases to learn from")
	}
	clock := new(Clock)
	clock.Advance(log[len(log)-1].Time)
	store := featurestore.New(featurestore.NewMemoryOnline(len(sh.Customers())*2+len(sh.Items())*2),
		featurestore.NewMemoryOffline(), &featurestore.Options{Now: clock.Now})
	if err := Fill(ctx, store, sh, log); err != nil {
		return nil, fmt.Errorf("replaying %d purchases: %w", len(log), err)
	}
	return &Dataset{services: s, shop: sh, log: log, store: store, pools: poolsOf(sh.Items(), log)}, nil
}

// Table is a training set.
type Table struct {
	Columns []string
	Rows    [][]float64
	Labels  []float64
	// Observed are the indices of one candidate drawn for each visit: rows that
	// are independent, as a drift reference wants them.
	Observed []int
}

// Table makes a training set of the purchases with from <= Seq < to: what was
// bought, and for each some candidates that were not. Where there are more
// than 5,000 purchases the latest count.
func (d *Dataset) Table(ctx context.Context, from, to int, seed uint64) (*Table, error) {
	var bought []shop.Purchase
	for _, p := range slices.Backward(d.log) {
		if p.Seq >= from && p.Seq < to && len(bought) < maxPositives && slices.Contains(d.pools.at(p.Time), p.Item) {
			bought = append(bought, p)
		}
	}
	slices.Reverse(bought)
	if len(bought) == 0 {
		return nil, fmt.Errorf("no purchase of a candidate among purchases %d to %d", from, to)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	t := &Table{Columns: d.services.Ranking.Columns()}
	labels := func(yield func(featurestore.Label[Candidate], error) bool) {
		for _, p := range bought {
			pool := d.pools.at(p.Time)
			// One more than is learnt from, drawn regardless of what was bought: the
			// row for the drift reference.
			for i := range negatives + 2 {
				item, target := p.Item, 1.0
				if i > 0 {
					item, target = pool[rng.IntN(len(pool))], 0
				}
				if i <= negatives && i > 0 && item == p.Item {
					continue
				}
				label := featurestore.Label[Candidate]{Request: candidate(p.Visit(), item), Time: p.Time, Target: target}
				if i == negatives+1 {
					label.Target = -1
				}
				if !yield(label, nil) {
					return
				}
			}
		}
	}
	// Strict: the purchase itself is an event of the windows.
	for example, err := range d.services.Ranking.Join(ctx, d.store, labels, &featurestore.JoinOptions{Strict: true}) {
		if err != nil {
			return nil, err
		}
		if example.Target < 0 {
			t.Observed = append(t.Observed, len(t.Rows))
		}
		t.Rows = append(t.Rows, slices.Clone(example.Values))
		t.Labels = append(t.Labels, example.Target)
	}
	return t, nil
}

// Learn returns the rows and labels to train on, without those that were drawn
// for the drift reference only.
func (t *Table) Learn() ([][]float64, []float64) {
	rows, labels := make([][]float64, 0, len(t.Rows)), make([]float64, 0, len(t.Rows))
	for i, label := range t.Labels {
		if label >= 0 {
			rows, labels = append(rows, t.Rows[i]), append(labels, label)
		}
	}
	return rows, labels
}

func candidate(v shop.Visit, item string) Candidate {
	return Candidate{Customer: v.Customer, Item: item, Basket: v.Basket, Depth: float64(v.Depth)}
}
