package features_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/features"
)

func Example() {
	ctx := context.Background()
	store := featurestore.New(featurestore.NewMemoryOnline(1000), nil, nil)
	if _, err := profiles.Put(ctx, store, user{"u1"}, profile{Age: 41, Spent: 9}, time.Now()); err != nil {
		fmt.Println(err)
	}
	scoring, err := featurestore.NewService[user]("scoring", profiles)
	if err != nil {
		fmt.Println(err)
	}
	models := mlserve.New(nil)
	if err := models.AddModel("scorer", "1", sum{}, nil); err != nil {
		fmt.Println(err)
	}
	scorer := features.New(models, "scorer", store, scoring)
	resp, err := scorer.Predict(ctx, "u1", user{"u1"})
	fmt.Println(resp.Output[0].Data, err)
	// Output: [50] <nil>
}
