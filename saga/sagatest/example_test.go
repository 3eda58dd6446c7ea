package sagatest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/sagatest"
)

type Order struct{ Reserved bool }

// shop is the world: what the steps change.
type shop struct{ stock, sold int }

func (s *shop) definition() *saga.Definition[Order] {
	held := map[string]bool{} // by saga: a second reservation is the first one again
	return saga.Define("order", 1,
		saga.Before(saga.Undoable("reserve",
			func(_ context.Context, c saga.Call, _ Order) (bool, error) {
				if !held[c.Saga] {
					held[c.Saga] = true
					s.stock--
				}
				return true, nil
			},
			func(_ context.Context, c saga.Call, _ Order, _ saga.Outcome[bool]) error {
				if held[c.Saga] {
					delete(held, c.Saga)
					s.stock++
				}
				return nil
			},
			func(o *Order, ok bool) { o.Reserved = ok })),
		saga.Pivot("sell", func(context.Context, saga.Call, Order) (int, error) {
			s.sold = 1
			return s.sold, nil
		}, nil),
	)
}

func (s *shop) conserved(end sagatest.End[Order]) error {
	if end.Status != saga.Parked && s.stock+s.sold != 10 {
		return fmt.Errorf("%d in stock and %d sold, of 10", s.stock, s.sold)
	}
	return nil
}

// In a test file, this is func TestOrder(t *testing.T).
func ExampleExplore() {
	test := func(t *testing.T) {
		sagatest.Explore(t, func() sagatest.Case[Order] {
			s := &shop{stock: 10}
			return sagatest.Case[Order]{Definition: s.definition(), Check: s.conserved}
		}, &sagatest.Options{Pairs: true})
	}
	fmt.Println(passes("TestOrder", test))
	// Output: true
}
