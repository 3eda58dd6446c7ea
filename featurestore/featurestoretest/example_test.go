package featurestoretest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/featurestore/featurestoretest"
)

type Customer struct {
	ID string `feature:"customer"`
}

type Order struct {
	ID, Customer string
	At           time.Time
	Total        float64
}

type Orders struct {
	Count int64   `feature:"orders_1h"`
	Total float64 `feature:"total_1d"`
}

var (
	byCustomer = featurestore.By(
		func(o Order) Customer { return Customer{o.Customer} },
		func(o Order) time.Time { return o.At },
		func(o Order) string { return o.ID })
	Recent = featurestore.NewWindows[Orders]("recent", byCustomer, nil,
		byCustomer.Count("orders_1h", time.Hour),
		byCustomer.Sum("total_1d", 24*time.Hour, func(o Order) float64 { return o.Total }))
)

func TestParityOfOneDefinition(t *testing.T) {
	ranking, err := featurestore.NewService[Customer]("ranking", Recent)
	if err != nil {
		t.Fatal(err)
	}
	var orders []Order
	var labels []featurestore.Label[Customer]
	for i := range 100 {
		at := time.Date(2024, 5, 1, 0, 17*i, 0, 0, time.UTC)
		orders = append(orders, Order{fmt.Sprint(i), "c", at, 0.1 * float64(i)})
		labels = append(labels, featurestore.Label[Customer]{Request: Customer{"c"}, Time: at})
	}
	featurestoretest.Parity(t, ranking, labels, nil, featurestoretest.Events(Recent, orders))
}

// In a test of one's own definitions, as TestParityOfOneDefinition above.
func ExampleParity() {
	var orders []Order                        // what happened
	var labels []featurestore.Label[Customer] // what is to be predicted, and when
	ranking, err := featurestore.NewService[Customer]("ranking", Recent)
	_ = func(t *testing.T) { // func TestParity(t *testing.T)
		if err != nil {
			t.Fatal(err)
		}
		featurestoretest.Parity(t, ranking, labels, nil, featurestoretest.Events(Recent, orders))
	}
}

// A store of one's own passes the kit before it is put under definitions.
func ExampleTestOnline() {
	_ = func(t *testing.T) { // func TestMyStore(t *testing.T)
		featurestoretest.TestOnline(t, func(*testing.T) featurestore.Online {
			return featurestore.NewMemoryOnline(10_000)
		})
	}
}
