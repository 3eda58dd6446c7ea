package rollout_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"testing/fstest"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/retrain"
	"github.com/mainstay-go/mainstay/mlserve/rollout"
	"github.com/mainstay-go/mainstay/saga"
)

// mean is the simplest of models.
type mean struct{ value float64 }

func (m mean) Signature() mlserve.Signature {
	return mlserve.Signature{
		Inputs:  []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float64, Shape: []int{-1, 1}}},
		Outputs: []mlserve.TensorSpec{{Name: "y", Type: mlserve.Float64, Shape: []int{-1}}},
	}
}

func (m mean) Predict(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	out := make([]float64, in[0].Shape[0])
	for i := range out {
		out[i] = m.value
	}
	return mlserve.Batch{{Name: "y", Shape: []int{len(out)}, Data: out}}, nil
}

func (m mean) Close() error { return nil }

type loader struct{}

func (loader) Load(_ context.Context, files fs.FS, _ mlserve.Manifest) (mlserve.Model, error) {
	text, err := fs.ReadFile(files, "mean.txt")
	if err != nil {
		return nil, err
	}
	var m mean
	_, err = fmt.Sscan(string(text), &m.value)
	return m, err
}

func file(mean string) fs.FS { return fstest.MapFS{"mean.txt": {Data: []byte(mean)}} }

// A drift alert starts a rollout; the same alert again does not start another.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	dir, _ := os.MkdirTemp("", "models")
	defer os.RemoveAll(dir)
	models := mlserve.NewDir(dir)
	_ = models.Publish(ctx, mlserve.Manifest{Model: "price", Version: "1"}, file("10"))
	_ = models.Alias(ctx, "price", "champion", "1")
	server := mlserve.New(nil)
	if err := server.Add(ctx, "price", models, loader{}, &mlserve.ModelOptions{Policy: mlserve.Alias("champion")}); err != nil {
		panic(err)
	}

	rolling := rollout.Define("price-rollout", 1, rollout.Plan{
		Model: "price", Server: server, Registry: models,
		Train: func(_ context.Context, _ saga.Call, cause string) (rollout.Candidate, error) {
			return rollout.Candidate{Manifest: mlserve.Manifest{Version: "2", Metadata: map[string]string{"cause": cause}}}, nil
		},
		Open:   func(rollout.Candidate) (fs.FS, error) { return file("12"), nil },
		Canary: []rollout.Stage{{Share: 0.1, For: 10 * time.Millisecond}}, // without a Judge, time alone decides
	})
	runner, err := saga.NewRunner(saga.NewMemoryStore(), nil, rolling)
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()

	guard := idempotency.New(idempotency.NewMemoryStore(1000), nil)
	trigger := retrain.Limited(guard, retrain.Limits{PerDay: 4}, rollout.Trigger(rolling, runner))
	alert := retrain.Request{Key: idempotency.Key{Scope: "drift", ID: "alert-7"}, Model: "price", Reason: "a drift of age"}
	run, _ := trigger(ctx, alert)
	same, err := trigger(ctx, alert)
	fmt.Println(run == same, err)

	state, err := rolling.Wait(ctx, runner, run.ID)
	fmt.Println(state.Previous, "→", state.Candidate.Manifest.Version, state.Candidate.Manifest.Metadata["cause"], err)
	answer, err := server.Predict(ctx, "price", mlserve.Request{Input: mlserve.Rows([]float64{1})})
	fmt.Println(answer.Version, answer.Output[0].Data, err)
	stop()
	<-ended
	// Output:
	// true <nil>
	// 1 → 2 a drift of age <nil>
	// 2 [12] <nil>
}
