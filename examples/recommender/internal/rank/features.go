// Package rank holds what training and serving must agree on: the definitions
// of the features, the candidates a customer chooses from, how a training set
// is made of purchases, and how a model is judged on later ones.
package rank

import (
	"context"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/featurestore"
)

// Model is the name of the ranking model, and Fallback of the smaller one that
// the gateway keeps for when the first is late.
const (
	Model    = "ranker"
	Fallback = "ranker-small"
)

// Candidate is one item considered for one visit: a row of the model's input.
type Candidate struct {
	Customer string  `feature:"customer"`
	Item     string  `feature:"item"`
	Basket   float64 `feature:"visit_basket"`
	Depth    float64 `feature:"visit_depth"`
}

// Visitor is the part of a Candidate that the user service knows.
type Visitor struct {
	Customer string  `feature:"customer"`
	Basket   float64 `feature:"visit_basket"`
	Depth    float64 `feature:"visit_depth"`
}

// Thing is the part of a Candidate that the item service knows.
type Thing struct {
	Item string `feature:"item"`
}

type customerKey struct {
	ID string `feature:"customer"`
}

type itemKey struct {
	ID string `feature:"item"`
}

type customerCard struct {
	Segment int64 `feature:"segment,default=0"`
}

type itemCard struct {
	Shelf int64   `feature:"shelf,default=0"`
	Price float64 `feature:"price,default=0"`
}

type spending struct {
	Orders float64 `feature:"customer_orders_7d"`
	Spent  float64 `feature:"customer_spent_7d"`
}

type sales struct {
	Day  float64 `feature:"item_orders_1d"`
	Week float64 `feature:"item_orders_7d"`
}

type visitIn struct {
	Basket float64 `feature:"visit_basket"`
	Depth  float64 `feature:"visit_depth"`
}

type visitOut struct {
	Basket float64 `feature:"basket"`
	Depth  float64 `feature:"depth"`
}

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Event time passes thousands of times faster than the wall clock here: a
// broker that is away for ten seconds delays events by days. Tiles of six
// hours keep the windows small.
var windowOptions = &featurestore.WindowOptions{Hop: 6 * time.Hour, Lateness: 4 * day}

var (
	byCustomer = featurestore.By(
		func(p shop.Purchase) customerKey { return customerKey{p.Customer} }, purchaseTime, PurchaseID)
	byItem = featurestore.By(
		func(p shop.Purchase) itemKey { return itemKey{p.Item} }, purchaseTime, PurchaseID)

	// Customers holds what is known of customers from the start.
	Customers = featurestore.NewView[customerKey, customerCard]("customers", 0)
	// Items holds what is known of items from the start.
	Items = featurestore.NewView[itemKey, itemCard]("items", 0)
	// Spending is computed from a customer's purchases.
	Spending = featurestore.NewWindows[spending]("spending", byCustomer, windowOptions,
		byCustomer.Count("customer_orders_7d", week),
		byCustomer.Sum("customer_spent_7d", week, func(p shop.Purchase) float64 { return float64(p.Quantity) * p.Price }))
	// Sales is computed from an item's purchases.
	Sales = featurestore.NewWindows[sales]("sales", byItem, windowOptions,
		byItem.Count("item_orders_1d", day),
		byItem.Count("item_orders_7d", week))
	visit = featurestore.OnDemand("visit", func(in visitIn) visitOut { return visitOut(in) })
)

func purchaseTime(p shop.Purchase) time.Time { return p.Time }

// PurchaseID is the id of a purchase everywhere: of its message, in the inbox
// and in the windows.
func PurchaseID(p shop.Purchase) string { return "p" + strconv.Itoa(p.Seq) }

// Services are the vectors made of the definitions.
type Services struct {
	// Ranking is the model's input, Visitors its first columns, Things the rest.
	Ranking  *featurestore.Service[Candidate]
	Visitors *featurestore.Service[Visitor]
	Things   *featurestore.Service[Thing]
}

// NewServices ties the definitions together.
func NewServices() (*Services, error) {
	visitors, err := featurestore.NewService[Visitor]("visitors", Customers, Spending, visit)
	if err != nil {
		return nil, err
	}
	things, err := featurestore.NewService[Thing]("things", Items, Sales)
	if err != nil {
		return nil, err
	}
	ranking, err := featurestore.NewService[Candidate]("ranking", Customers, Spending, visit, Items, Sales)
	if err != nil {
		return nil, err
	}
	return &Services{Ranking: ranking, Visitors: visitors, Things: things}, nil
}

// PutCards writes what is known of customers and items, as of a time.
func PutCards(ctx context.Context, st *featurestore.Store, s shop.Shop, at time.Time) error {
	customers := make([]featurestore.Put[customerKey, customerCard], 0, len(s.Customers()))
	for _, c := range s.Customers() {
		customers = append(customers, featurestore.Put[customerKey, customerCard]{
			Key: customerKey{c.ID}, Features: customerCard{c.Segment}, Event: at, Created: at})
	}
	if _, err := Customers.PutBatch(ctx, st, customers); err != nil {
		return err
	}
	items := make([]featurestore.Put[itemKey, itemCard], 0, len(s.Items()))
	for _, i := range s.Items() {
		items = append(items, featurestore.Put[itemKey, itemCard]{
			Key: itemKey{i.ID}, Features: itemCard{i.Shelf, i.Price}, Event: at, Created: at})
	}
	_, err := Items.PutBatch(ctx, st, items)
	return err
}

// Fill brings a store to the state after the purchases: cards, then windows.
func Fill(ctx context.Context, st *featurestore.Store, s shop.Shop, purchases []shop.Purchase) error {
	if len(purchases) == 0 {
		return nil
	}
	if err := PutCards(ctx, st, s, purchases[0].Time.Add(-day)); err != nil {
		return err
	}
	if err := Spending.Backfill(ctx, st, each(purchases)); err != nil {
		return err
	}
	return Sales.Backfill(ctx, st, each(purchases))
}

func each(purchases []shop.Purchase) func(func(shop.Purchase, error) bool) {
	return func(yield func(shop.Purchase, error) bool) {
		for _, p := range purchases {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// WeeklySales reads the week's orders of items, in their order, zero where
// nothing is known.
func WeeklySales(ctx context.Context, st *featurestore.Store, items []shop.Item) ([]float64, error) {
	keys := make([]itemKey, len(items))
	for i, item := range items {
		keys[i] = itemKey{item.ID}
	}
	rows, err := Sales.GetBatch(ctx, st, keys)
	if err != nil {
		return nil, err
	}
	orders := make([]float64, len(rows))
	for i := range rows {
		orders[i] = rows[i].Features.Week
	}
	return orders, nil
}

// Totals are the window values of one customer or item, for comparing them
// with a fold of the log.
type Totals struct {
	Orders, Spent float64 // of a customer, over seven days
	Day, Week     float64 // orders of an item
}

// ReadTotals reads the windows of customers and items from a store.
func ReadTotals(ctx context.Context, st *featurestore.Store, s shop.Shop) (map[string]Totals, error) {
	totals := make(map[string]Totals, len(s.Customers())+len(s.Items()))
	customers := make([]customerKey, len(s.Customers()))
	for i, c := range s.Customers() {
		customers[i] = customerKey{c.ID}
	}
	spent, err := Spending.GetBatch(ctx, st, customers)
	if err != nil {
		return nil, err
	}
	for i, row := range spent {
		totals["customer "+customers[i].ID] = Totals{Orders: row.Features.Orders, Spent: row.Features.Spent}
	}
	items := make([]itemKey, len(s.Items()))
	for i, item := range s.Items() {
		items[i] = itemKey{item.ID}
	}
	sold, err := Sales.GetBatch(ctx, st, items)
	if err != nil {
		return nil, err
	}
	for i, row := range sold {
		totals["item "+items[i].ID] = Totals{Day: row.Features.Day, Week: row.Features.Week}
	}
	return totals, nil
}

// FoldTotals computes the same from the log, one purchase after the other, by
// the definition of a sawtooth window and nothing else: the events from the
// boundary of the tile in which now-w lies up to now, each counted once.
func FoldTotals(s shop.Shop, log []shop.Purchase, now time.Time) map[string]Totals {
	totals := make(map[string]Totals, len(s.Customers())+len(s.Items()))
	for _, c := range s.Customers() {
		totals["customer "+c.ID] = Totals{}
	}
	for _, i := range s.Items() {
		totals["item "+i.ID] = Totals{}
	}
	start := func(w time.Duration) time.Time { return now.Add(-w).Truncate(windowOptions.Hop) }
	dayStart, weekStart := start(day), start(week)
	for _, p := range log {
		if p.Time.After(now) || p.Time.Before(weekStart) {
			continue
		}
		c := totals["customer "+p.Customer]
		c.Orders++
		c.Spent += float64(p.Quantity) * p.Price
		totals["customer "+p.Customer] = c
		i := totals["item "+p.Item]
		i.Week++
		if !p.Time.Before(dayStart) {
			i.Day++
		}
		totals["item "+p.Item] = i
	}
	return totals
}
