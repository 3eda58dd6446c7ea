package mlserve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing/fstest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/mlserve"
)

// scaled is a model that multiplies, read from a file by scaledLoader.
type scaled struct{ Factor float32 }

func (scaled) Signature() mlserve.Signature {
	return mlserve.Signature{
		Inputs:  []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float32, Shape: []int{-1, 1}}},
		Outputs: []mlserve.TensorSpec{{Name: "y", Type: mlserve.Float32, Shape: []int{-1}}},
	}
}

func (m scaled) Predict(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	x := in[0].Data.([]float32)
	out := make([]float32, len(x))
	for i := range x {
		out[i] = m.Factor * x[i]
	}
	return mlserve.Batch{{Name: "y", Shape: []int{len(out)}, Data: out}}, nil
}

func (scaled) Close() error { return nil }

type scaledLoader struct{}

func (scaledLoader) Load(_ context.Context, files fs.FS, _ mlserve.Manifest) (mlserve.Model, error) {
	data, err := fs.ReadFile(files, "model.json")
	if err != nil {
		return nil, err
	}
	var m scaled
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", mlserve.ErrModelFile, err)
	}
	return m, nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func release(r mlserve.Registry, version, model string) {
	check(r.Publish(context.Background(), mlserve.Manifest{
		Model: "scale", Version: version,
		Golden: []mlserve.Golden{{In: mlserve.Rows([]float32{0}), Out: mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float32{0}}}}},
	}, fstest.MapFS{"model.json": {Data: []byte(model)}}))
}

// A new version takes over; a broken one does not.
func Example() {
	ctx := context.Background()
	path, err := os.MkdirTemp("", "models")
	check(err)
	defer os.RemoveAll(path)
	registry := mlserve.NewDir(path)
	release(registry, "1", `{"Factor": 2}`)

	models := mlserve.New(nil)
	check(models.Add(ctx, "scale", registry, scaledLoader{}, nil))
	ask := func() {
		resp, err := models.Predict(ctx, "scale", mlserve.Request{Input: mlserve.Rows([]float64{21})})
		check(err)
		fmt.Println("version", resp.Version, "says", resp.Output[0].Data)
	}
	ask()
	release(registry, "2", `{"Factor": 3}`)
	check(models.Refresh(ctx, "scale")) // models.Run does this every few seconds
	ask()
	release(registry, "3", `{"Factor": "four"}`)
	fmt.Println(errors.Is(models.Refresh(ctx, "scale"), mlserve.ErrModelFile))
	ask()
	// Output:
	// version 1 says [42]
	// version 2 says [63]
	// true
	// version 2 says [63]
}

// A model, its HTTP server, and the end of both.
func ExampleServer_Run() {
	models := mlserve.New(nil)
	check(models.AddModel("scale", "1", scaled{2}, nil))
	ctx, cancel := context.WithCancel(context.Background())
	serveHTTP := func(ctx context.Context) error { // as concurrencyhttp.Serve does
		srv := httptest.NewServer(models.Handler())
		defer srv.Close()
		resp, err := http.Get(srv.URL + "/v2/models/scale/ready")
		check(err)
		check(resp.Body.Close())
		fmt.Println(resp.StatusCode)
		cancel()
		<-ctx.Done()
		return nil
	}
	fmt.Println(concurrency.Run(ctx, models.Run, serveHTTP))
	// Output:
	// 200
	// <nil>
}

// A tenth of the customers get the canary, and stay with it.
func ExampleServer_Split() {
	ctx := context.Background()
	models := mlserve.New(nil)
	check(models.AddModel("scale", "1", scaled{2}, &mlserve.ModelOptions{Policy: mlserve.All()}))
	check(models.AddModel("scale", "2", scaled{3}, nil))
	judge := &mlserve.Sequential{MinKeys: 200}
	check(models.Split("scale", mlserve.Traffic{Judge: judge, Arms: []mlserve.Arm{
		{Name: "stable", Version: "1", Weight: 90},
		{Name: "canary", Version: "2", Weight: 10},
	}}))
	arms := map[string]int{}
	for i := range 10_000 {
		resp, err := models.Predict(ctx, "scale", mlserve.Request{Key: fmt.Sprint("customer-", i), Input: mlserve.Rows([]float64{1})})
		check(err)
		arms[resp.Arm]++
	}
	fmt.Println("canary between 9 and 11 %:", arms["canary"] > 900 && arms["canary"] < 1100)
	fmt.Println(judge.Verdict().Decision)
	// Output:
	// canary between 9 and 11 %: true
	// promote
}

// A version that is late is answered for.
func ExampleRung() {
	models := mlserve.New(nil)
	popular := func(context.Context, mlserve.Request) (mlserve.Batch, error) {
		return mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float32{7}}}, nil
	}
	check(models.AddModel("scale", "1", slowModel{scaled{2}}, &mlserve.ModelOptions{
		Timeout: 20 * time.Millisecond,
		Ladder:  []mlserve.Rung{{Name: "popular", Answer: popular}},
	}))
	resp, err := models.Predict(context.Background(), "scale", mlserve.Request{Input: mlserve.Rows([]float64{21})})
	fmt.Println(resp.Output[0].Data, resp.Degraded, err)
	// Output: [7] popular: late <nil>
}

// slowModel never answers before its context ends.
type slowModel struct{ scaled }

func (slowModel) Predict(ctx context.Context, _ mlserve.Batch) (mlserve.Batch, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The plain protocol; the Open Inference Protocol is at /v2.
func ExampleServer_Handler() {
	models := mlserve.New(nil)
	check(models.AddModel("scale", "1", scaled{2}, nil))
	w := httptest.NewRecorder()
	body := strings.NewReader(`{"id": "r1", "key": "customer-7", "rows": [[21], [0.5]]}`)
	models.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/predict", body))
	fmt.Println(w.Code, w.Body)
	// Output: 200 {"model":"scale","version":"1","id":"r1","arm":"primary","predictions":[42,1]}
}

// A judge is asked whenever one likes; here after every customer.
func ExampleSequential() {
	judge := &mlserve.Sequential{}
	for i := range 1000 {
		judge.Observe(mlserve.Outcome{Key: fmt.Sprint("a", i), Control: true, Metric: mlserve.MetricErrors})
		judge.Observe(mlserve.Outcome{Key: fmt.Sprint("b", i), Metric: mlserve.MetricErrors, Value: 1})
		if v := judge.Verdict(); v.Decision != mlserve.Hold {
			fmt.Println(v.Decision, "after", v.Evidence[0].Keys, "customers")
			break
		}
	}
	// Output: rollback after 6 customers
}
