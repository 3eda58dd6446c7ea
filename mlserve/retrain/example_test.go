package retrain_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve/retrain"
)

func ExampleLimited() {
	start := func(_ context.Context, r retrain.Request) (retrain.Run, error) {
		return retrain.Run{ID: "run for " + r.Reason}, nil
	}
	guard := idempotency.New(idempotency.NewMemoryStore(1000), nil)
	trigger := retrain.Limited(guard, retrain.Limits{Debounce: -1}, start)

	for _, alert := range []string{"a", "a", "b"} {
		run, err := trigger(context.Background(), retrain.Request{
			Key: idempotency.Key{Scope: "drift", ID: alert}, Model: "ranker", Reason: "alert " + alert,
		})
		fmt.Printf("%q limited: %v\n", run.ID, errors.Is(err, retrain.ErrLimited))
	}
	// Output:
	// "run for alert a" limited: false
	// "run for alert a" limited: false
	// "" limited: true
}
