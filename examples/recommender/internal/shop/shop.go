// Package shop is the world outside the recommender: customers who visit and
// buy. Two shops exist: a generated one, whose taste and baskets shift at a
// moment of the caller's choosing, and the replay of a real one's invoices.
//
// Everything here runs on event time, the time in the shop; the load generator
// decides how fast it passes on the wall clock.
package shop

import "time"

// Customer is who visits.
type Customer struct {
	ID      string
	Segment int64 // a small number known of the customer: an age band, or a country
}

// Item is what can be bought.
type Item struct {
	ID    string
	Shelf int64   // a small number: the kind of thing it is
	Price float64 // pounds
}

// Visit is a customer asking for recommendations, with what the shop knows of
// the visit so far.
type Visit struct {
	Customer string    `json:"customer"`
	Basket   float64   `json:"basket"` // pounds already in the basket
	Depth    int       `json:"depth"`  // pages or lines seen in this visit
	Time     time.Time `json:"time"`
}

// Purchase is one line bought. It carries the visit it was made in, because
// that is what a model may know of it beforehand.
type Purchase struct {
	Seq      int       `json:"seq"` // 0, 1, 2, … in the order of the shop
	Customer string    `json:"customer"`
	Item     string    `json:"item"`
	Quantity int       `json:"quantity"`
	Price    float64   `json:"price"` // pounds a piece
	Basket   float64   `json:"basket"`
	Depth    int       `json:"depth"`
	Time     time.Time `json:"time"`
}

// Visit returns the visit the purchase was made in.
func (p Purchase) Visit() Visit {
	return Visit{Customer: p.Customer, Basket: p.Basket, Depth: p.Depth, Time: p.Time}
}

// Shop is a world to serve.
type Shop interface {
	// Customers and Items are known from the start.
	Customers() []Customer
	Items() []Item
	// History is what was bought before the first visit, oldest first.
	History() []Purchase
	// Next is the next visit and what is bought after it; false at the end.
	// It is not safe for concurrent use.
	Next() (Visit, []Purchase, bool)
	// Shift lets the shop change, from the next visit on, where it can be told to.
	Shift()
	// Shifted names the features that Shift moves.
	Shifted() []string
}
