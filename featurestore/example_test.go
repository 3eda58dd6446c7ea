package featurestore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
)

type User struct {
	ID string `feature:"user_id"`
}

type Profile struct {
	Age  int64    `feature:"age,default=0"`
	Risk *float64 `feature:"risk"` // may be null
}

type Purchase struct {
	ID     string
	User   string
	At     time.Time
	Amount float64
}

type Spending struct {
	Orders int64   `feature:"orders_1h"`
	Spent  float64 `feature:"spent_7d"`
}

// Definitions are package variables, shared by training and serving.
var (
	Profiles = featurestore.NewView[User, Profile]("profile", 24*time.Hour)

	byUser = featurestore.By(
		func(p Purchase) User { return User{p.User} },
		func(p Purchase) time.Time { return p.At },
		func(p Purchase) string { return p.ID })
	UserSpending = featurestore.NewWindows[Spending]("spending", byUser, nil,
		byUser.Count("orders_1h", time.Hour),
		byUser.Sum("spent_7d", 7*24*time.Hour, func(p Purchase) float64 { return p.Amount }))
)

var noon = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// exampleStore shows a fixed time; programs leave Now out.
func exampleStore(now func() time.Time) *featurestore.Store {
	return featurestore.New(featurestore.NewMemoryOnline(100_000), featurestore.NewMemoryOffline(),
		&featurestore.Options{Now: now})
}

func atNoon() time.Time { return noon }

func ExampleView() {
	ctx, store := context.Background(), exampleStore(atNoon)
	outcome, err := Profiles.Put(ctx, store, User{"u1"}, Profile{Age: 41}, noon)
	fmt.Println(outcome, err)
	outcome, err = Profiles.Put(ctx, store, User{"u1"}, Profile{Age: 40}, noon.Add(-time.Hour))
	fmt.Println(outcome, err)

	rows, err := Profiles.GetBatch(ctx, store, []User{{"u1"}, {"u2"}})
	for _, row := range rows {
		fmt.Println(row.Features.Age, row.Features.Risk, row.Status, err)
	}
	// Output:
	// applied <nil>
	// stale <nil>
	// 41 <nil> hit <nil>
	// 0 <nil> missing <nil>
}

func ExampleWindows() {
	now := noon
	ctx, store := context.Background(), exampleStore(func() time.Time { return now })
	ingest := UserSpending.Ingest(store) // the handler of a topic: Purchases.On(ingest)
	for _, p := range []Purchase{
		{"p1", "u1", noon.Add(-2 * time.Hour), 10},
		{"p2", "u1", noon.Add(-time.Minute), 5},
		{"p2", "u1", noon.Add(-time.Minute), 5}, // delivered again
	} {
		if err := ingest(ctx, p, nil); err != nil {
			fmt.Println(err)
		}
	}
	row, err := UserSpending.Get(ctx, store, User{"u1"})
	fmt.Println(row.Features.Orders, row.Features.Spent, err)

	now = noon.Add(2 * time.Hour) // nothing new: the windows age by themselves
	row, err = UserSpending.Get(ctx, store, User{"u1"})
	fmt.Println(row.Features.Orders, row.Features.Spent, err)
	// Output:
	// 1 15 <nil>
	// 0 15 <nil>
}

// Request is what a model is asked about.
type Request struct {
	UserID string  `feature:"user_id"`
	Basket float64 `feature:"basket"`
}

type RatioIn struct {
	Basket float64 `feature:"basket"` // of the request
	Spent  float64 `feature:"spent_7d"`
}

type RatioOut struct {
	Ratio float64 `feature:"basket_ratio"`
}

var BasketRatio = featurestore.OnDemand("basket_ratio", func(in RatioIn) RatioOut {
	return RatioOut{in.Basket / (in.Spent + in.Basket)}
})

func ExampleService() {
	ctx, store := context.Background(), exampleStore(atNoon)
	fraud, err := featurestore.NewService[Request]("fraud", UserSpending, Profiles, BasketRatio)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := UserSpending.Ingest(store)(ctx, Purchase{"p1", "u1", noon, 30}, nil); err != nil {
		fmt.Println(err)
	}
	vectors, err := fraud.Vectors(ctx, store, Request{"u1", 10}, Request{"u2", 10})
	fmt.Println(fraud.Columns())
	for i, values := range vectors.Values {
		fmt.Println(values, vectors.Status[i], err)
	}
	// Output:
	// [orders_1h spent_7d age risk basket_ratio]
	// [1 30 0 NaN 0.25] [hit missing missing] <nil>
	// [0 0 0 NaN 1] [missing missing missing] <nil>
}

// The training set has, for each label, what the model would have been given
// at that time: the purchase that was made later does not leak into it.
func ExampleService_Join() {
	now := noon
	ctx, store := context.Background(), exampleStore(func() time.Time { return now })
	fraud, err := featurestore.NewService[Request]("fraud", UserSpending)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, amount := range []float64{30, 12, 8} {
		now = noon.Add(time.Duration(i) * time.Hour)
		if err := UserSpending.Ingest(store)(ctx, Purchase{fmt.Sprint("p", i), "u1", now, amount}, nil); err != nil {
			fmt.Println(err)
		}
	}
	labels := func(yield func(featurestore.Label[Request], error) bool) {
		for _, minutes := range []int{-1, 30, 90, 150} {
			if !yield(featurestore.Label[Request]{Request: Request{UserID: "u1"}, Time: noon.Add(time.Duration(minutes) * time.Minute)}, nil) {
				return
			}
		}
	}
	for example, err := range fraud.Join(ctx, store, labels, nil) {
		fmt.Println(example.Time.Format("15:04"), example.Values, example.Status, err)
	}
	// Output:
	// 11:59 [0 0] [missing] <nil>
	// 12:30 [1 30] [hit] <nil>
	// 13:30 [1 42] [hit] <nil>
	// 14:30 [1 50] [hit] <nil>
}

func ExampleIngest() {
	type signup struct {
		User string
		Age  int64
		At   time.Time
	}
	ctx, store := context.Background(), exampleStore(atNoon)
	ingest := featurestore.Ingest(store, Profiles, func(s signup) []featurestore.Put[User, Profile] {
		return []featurestore.Put[User, Profile]{{Key: User{s.User}, Features: Profile{Age: s.Age}, Event: s.At, Created: s.At}}
	})
	fmt.Println(ingest(ctx, signup{"u1", 29, noon}, nil))
	row, err := Profiles.Get(ctx, store, User{"u1"})
	fmt.Println(row.Features.Age, err)
	// Output:
	// <nil>
	// 29 <nil>
}

// The online store lost a row, and the next event began a new one.
func ExampleView_Rebuild() {
	ctx, history := context.Background(), featurestore.NewMemoryOffline()
	options := &featurestore.Options{Now: atNoon}
	store := featurestore.New(featurestore.NewMemoryOnline(1000), history, options)
	ingest := func(p Purchase) {
		if err := UserSpending.Ingest(store)(ctx, p, nil); err != nil {
			fmt.Println(err)
		}
	}
	ingest(Purchase{"p1", "u1", noon.Add(-48 * time.Hour), 30})
	ingest(Purchase{"p2", "u1", noon, 12})

	store = featurestore.New(featurestore.NewMemoryOnline(1000), history, options)
	ingest(Purchase{"p3", "u1", noon, 8})
	row, err := UserSpending.Get(ctx, store, User{"u1"})
	fmt.Println(row.Features.Spent, err)

	fmt.Println(UserSpending.Rebuild(ctx, store))
	row, err = UserSpending.Get(ctx, store, User{"u1"})
	fmt.Println(row.Features.Spent, err)
	// Output:
	// 8 <nil>
	// <nil>
	// 50 <nil>
}
