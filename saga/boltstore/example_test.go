package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/boltstore"
)

var Greet = saga.Define("greet", 1,
	saga.Before(
		saga.ReadOnly("say", func(_ context.Context, _ saga.Call, name string) (string, error) {
			return "hello, " + name, nil
		}, func(state *string, said string) { *state = said }),
	), nil)

// A saga that one process starts and another, later, executes.
func Example() {
	dir, _ := os.MkdirTemp("", "boltstore")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sagas.db")
	ctx := context.Background()

	store, _ := boltstore.Open(ctx, path, nil)
	runner, _ := saga.NewRunner(store, nil, Greet)
	fmt.Println(Greet.Start(ctx, runner, "1", "world"))
	_ = store.Close(ctx) // before anything was done

	store, _ = boltstore.Open(ctx, path, nil)
	runner, _ = saga.NewRunner(store, nil, Greet)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- runner.Run(running) }()
	fmt.Println(Greet.Wait(ctx, runner, "1"))
	stop()
	fmt.Println(<-ended, store.Close(ctx))
	// Output:
	// <nil>
	// hello, world <nil>
	// <nil> <nil>
}
