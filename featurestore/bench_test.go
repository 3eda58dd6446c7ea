package featurestore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
)

type benchUser struct {
	Orders int64   `feature:"orders_1h"`
	Spent  float64 `feature:"spent_7d"`
}

type benchItem struct {
	Sold1h int64    `feature:"sold_1h"`
	Sold7d int64    `feature:"sold_7d"`
	Sum    float64  `feature:"sum_1d"`
	Avg    *float64 `feature:"avg_7d"`
}

var (
	benchUsers = featurestore.NewWindows[benchUser]("users", byCustomer, nil,
		byCustomer.Count("orders_1h", time.Hour), byCustomer.Sum("spent_7d", 7*24*time.Hour, amount))
	benchItems = featurestore.NewWindows[benchItem]("items", byItem, nil,
		byItem.Count("sold_1h", time.Hour), byItem.Count("sold_7d", 7*24*time.Hour),
		byItem.Sum("sum_1d", 24*time.Hour, amount), byItem.Avg("avg_7d", 7*24*time.Hour, amount))
)

// benchStore holds a week of 100,000 sales of 1,000 items to 5,000 customers.
func benchStore(b *testing.B) (*featurestore.Store, []sale) {
	b.Helper()
	var now time.Time
	s := featurestore.New(featurestore.NewMemoryOnline(100_000), nil, &featurestore.Options{Now: func() time.Time { return now }})
	rng := rand.New(rand.NewPCG(1, 1))
	var sales []sale
	for i := range 100_000 {
		now = start.Add(time.Duration(i) * 6 * time.Second)
		sales = append(sales, sale{
			ID: fmt.Sprint("event-", i), Customer: fmt.Sprint("customer-", rng.IntN(5000)),
			Item: int64(rng.ExpFloat64() * 150), At: now, Amount: rng.Float64(),
		})
	}
	for _, err := range []error{
		benchUsers.Backfill(b.Context(), s, values(sales)), benchItems.Backfill(b.Context(), s, values(sales)),
	} {
		if err != nil {
			b.Fatal(err)
		}
	}
	return s, sales
}

// One request of the recommender: 50 candidates of one customer.
func BenchmarkVectors51Rows(b *testing.B) {
	s, sales := benchStore(b)
	svc, err := featurestore.NewService[candidate]("ranking", benchUsers, benchItems)
	if err != nil {
		b.Fatal(err)
	}
	reqs := make([]candidate, 50)
	for i := range reqs {
		reqs[i] = candidate{Customer: sales[0].Customer, Item: int64(i)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := svc.Vectors(context.Background(), s, reqs...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/51, "ns/row")
}

func BenchmarkGetBatch50(b *testing.B) {
	s, _ := benchStore(b)
	keys := make([]article, 50)
	for i := range keys {
		keys[i].ID = int64(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := benchItems.GetBatch(context.Background(), s, keys); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/50, "ns/row")
}

func BenchmarkIngest(b *testing.B) {
	s, sales := benchStore(b)
	ingest := benchItems.Ingest(s)
	last := sales[len(sales)-1].At
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := sales[i%len(sales)]
		e.ID, e.At = fmt.Sprint("new-", i), last.Add(time.Duration(i%int(10*time.Minute))) // the clock stands at last
		if err := ingest(context.Background(), e, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJoin(b *testing.B) {
	ctx, c := context.Background(), &clock{}
	s := newStore(c)
	var labels []featurestore.Label[candidate]
	for i := range 10_000 {
		c.set(start.Add(time.Duration(i) * time.Minute))
		e := sale{ID: fmt.Sprint(i), Customer: fmt.Sprint(i % 100), At: c.now(), Amount: 1}
		if err := benchUsers.Ingest(s)(ctx, e, nil); err != nil {
			b.Fatal(err)
		}
		labels = append(labels, featurestore.Label[candidate]{Request: candidate{Customer: e.Customer}, Time: e.At})
	}
	svc, err := featurestore.NewService[candidate]("s", benchUsers)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range svc.Join(ctx, s, values(labels), nil) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(labels)), "ns/label")
}
