package featurestore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/featurestore/featurestoretest"
	"github.com/stretchr/testify/require"
)

func TestMemoryOnline(t *testing.T) {
	featurestoretest.TestOnline(t, func(*testing.T) featurestore.Online { return featurestore.NewMemoryOnline(10_000) })
}

func TestMemoryOffline(t *testing.T) {
	featurestoretest.TestOffline(t, func(*testing.T) featurestore.Offline { return featurestore.NewMemoryOffline() })
}

type shopper struct {
	ID string `feature:"customer"`
}

type article struct {
	ID int64 `feature:"item"`
}

type candidate struct {
	Customer string `feature:"customer"`
	Item     int64  `feature:"item"`
	Hour     int64  `feature:"hour"`
}

type sale struct {
	ID       string
	Customer string
	Item     int64
	At       time.Time
	Amount   float64
}

type spending struct {
	Orders  int64    `feature:"orders_1h"`
	Spent1h float64  `feature:"spent_1h"`
	Spent7d *float64 `feature:"spent_7d"`
	Avg     *float64 `feature:"avg_1d"`
	Var     *float64 `feature:"var_30d"`
	Last    float64  `feature:"last_1d,default=-1"`
	First   *float64 `feature:"first_20d"`
}

type popularity struct {
	Sold int64    `feature:"sold_1d"`
	Max  *float64 `feature:"max_3d"`
	Min  *float64 `feature:"min_3d"`
}

type profile struct {
	Age     *int64 `feature:"age"`
	Country string `feature:"country,default=??"`
	Gold    bool   `feature:"gold"`
}

type ratioIn struct {
	Spent   *float64 `feature:"spent_7d"`
	Orders  int64    `feature:"orders_1h"`
	Country string   `feature:"country"`
	Hour    int64    `feature:"hour"`
}

type ratioOut struct {
	PerOrder float64 `feature:"per_order"`
	Abroad   bool    `feature:"abroad"`
	Night    bool    `feature:"night"`
}

var (
	saleAt = func(s sale) time.Time { return s.At }
	saleID = func(s sale) string { return s.ID }
	amount = func(s sale) float64 { return s.Amount }

	byCustomer = featurestore.By(func(s sale) shopper { return shopper{s.Customer} }, saleAt, saleID)
	byItem     = featurestore.By(func(s sale) article { return article{s.Item} }, saleAt, saleID)
	profiles   = featurestore.NewView[shopper, profile]("profile", 36*time.Hour)
	ratio      = featurestore.OnDemand("ratio", func(in ratioIn) ratioOut {
		out := ratioOut{PerOrder: -1, Abroad: in.Country != "GB", Night: in.Hour < 6}
		if in.Spent != nil && in.Orders > 0 {
			out.PerOrder = *in.Spent / float64(in.Orders)
		}
		return out
	})
)

func spendingWindows(o *featurestore.WindowOptions) *featurestore.Windows[shopper, sale, spending] {
	day := 24 * time.Hour
	return featurestore.NewWindows[spending]("spending", byCustomer, o,
		byCustomer.Count("orders_1h", time.Hour),
		byCustomer.Sum("spent_1h", time.Hour, amount),
		byCustomer.Sum("spent_7d", 7*day, amount),
		byCustomer.Avg("avg_1d", day, amount),
		byCustomer.Variance("var_30d", 30*day, amount),
		byCustomer.Last("last_1d", day, amount),
		byCustomer.First("first_20d", 20*day, amount))
}

func popularityWindows(o *featurestore.WindowOptions) *featurestore.Windows[article, sale, popularity] {
	day := 24 * time.Hour
	return featurestore.NewWindows[popularity]("popularity", byItem, o,
		byItem.Max("max_3d", 3*day, amount), byItem.Count("sold_1d", day), byItem.Min("min_3d", 3*day, amount))
}

var start = time.Date(2011, 3, 1, 8, 0, 0, 0, time.UTC)

// shop makes sales whose sums depend on the order of addition, and labels at,
// just before and just after them.
func shop(rng *rand.Rand, n int, span time.Duration) (sales []sale, labels []featurestore.Label[candidate], puts []featurestore.Put[shopper, profile]) {
	for i := range n {
		s := sale{
			ID: fmt.Sprint("e", i), Customer: fmt.Sprint("c", rng.IntN(4)), Item: int64(rng.IntN(5)),
			At:     start.Add(time.Duration(rng.Int64N(int64(span)))).Truncate(time.Duration(1 + rng.IntN(2)*int(time.Minute))),
			Amount: rng.NormFloat64()*1e3 + 0.1,
		}
		sales = append(sales, s)
		for _, d := range []time.Duration{0, time.Duration(rng.Int64N(int64(2 * time.Hour))), -1, 1}[rng.IntN(3):] {
			labels = append(labels, featurestore.Label[candidate]{
				Request: candidate{s.Customer, int64(rng.IntN(6)), int64(s.At.Hour())}, Time: s.At.Add(d),
			})
		}
		if i%5 == 0 {
			age := int64(i)
			p := featurestore.Put[shopper, profile]{
				Key: shopper{s.Customer}, Features: profile{Age: &age, Country: []string{"GB", "FR"}[i%2]},
				Event: s.At, Seq: int64(i), Delete: rng.IntN(8) == 0,
			}
			if rng.IntN(3) == 0 {
				p.Features.Age = nil
			}
			if rng.IntN(3) == 0 {
				p.Created = s.At.Add(time.Duration(rng.Int64N(int64(5 * time.Hour))))
			}
			puts = append(puts, p)
		}
	}
	return sales, labels, puts
}

func TestParity(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("MAINSTAY_SOAK") != "" {
		seeds = 60
	}
	for seed := range seeds {
		for _, o := range []*featurestore.WindowOptions{
			nil,
			{Lateness: 20 * time.Minute},
			{Lateness: -1},
			{Hop: 7 * time.Minute},
			{Mode: featurestore.Hopping},
			{Mode: featurestore.Sliding, Lateness: 3 * time.Hour},
		} {
			t.Run(fmt.Sprintf("%d/%+v", seed, o), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				span := []time.Duration{3 * time.Hour, 48 * time.Hour, 60 * 24 * time.Hour}[seed%3]
				sales, labels, puts := shop(rng, 120, span)
				w, p := spendingWindows(o), popularityWindows(o)
				svc, err := featurestore.NewService[candidate]("ranking", w, p, profiles, ratio)
				require.NoError(t, err)
				featurestoretest.Parity(t, svc, labels,
					&featurestoretest.Options{Seed: seed, Late: 0.3, Duplicates: 0.3, Lateness: time.Hour},
					featurestoretest.Events(w, sales), featurestoretest.Events(p, sales), featurestoretest.Puts(profiles, puts))
			})
		}
	}
}

func TestMemoryOnlineLimit(t *testing.T) {
	ctx, m := context.Background(), featurestore.NewMemoryOnline(2)
	write := func(key string, ttl time.Duration) error {
		_, err := m.Write(ctx, []featurestore.Record{{Ref: featurestore.Ref{View: "v", Key: key}, Event: start, TTL: ttl}})
		return err
	}
	require.NoError(t, write("a", 0))
	require.NoError(t, write("b", 1)) // a nanosecond
	require.NoError(t, write("c", 0), "b is past its time and makes room")
	require.Equal(t, 2, m.Len())
	require.ErrorContains(t, write("d", 0), "limit of 2 rows")
	require.NoError(t, write("a", 0), "a row that is there needs no room")
	require.Equal(t, 2, m.Len())
}
