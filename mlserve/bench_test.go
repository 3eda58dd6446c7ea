package mlserve_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
)

// constant costs next to nothing, so that what is left is the server's.
type constant struct {
	versioned

	out mlserve.Batch
}

func (c *constant) Predict(context.Context, mlserve.Batch) (mlserve.Batch, error) { return c.out, nil }

func newConstant() *constant {
	c := &constant{out: mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float64{1}}}}
	c.sig = twoColumns()
	return c
}

func BenchmarkPredict(b *testing.B) {
	input := mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: []float32{1, 2}}}
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprint("customer-", i)
	}
	for _, c := range []struct {
		name     string
		recorder *mlserve.Recorder
		split    bool
		judge    mlserve.Judge
		deadline bool
	}{
		{name: "bare"},
		{name: "split", split: true},
		{name: "deadline of the caller", split: true, deadline: true},
		{name: "split and recorder", split: true, recorder: &mlserve.Recorder{Sinks: []mlserve.Sink{func(context.Context, []mlserve.Event) error { return nil }}}},
		{name: "split and judge", split: true, judge: &mlserve.Sequential{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := mlserve.New(&mlserve.Options{Recorder: c.recorder})
			require.NoError(b, s.AddModel("m", "1", newConstant(), &mlserve.ModelOptions{Policy: mlserve.All()}))
			require.NoError(b, s.AddModel("m", "2", newConstant(), nil))
			ctx, cancel := context.WithCancel(bg)
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			if c.split {
				require.NoError(b, s.Split("m", mlserve.Traffic{Judge: c.judge, Arms: []mlserve.Arm{{Version: "1", Weight: 9}, {Version: "2", Weight: 1}}}))
			}
			call := bg
			if c.deadline {
				var done context.CancelFunc
				call, done = context.WithTimeout(bg, 900_000_000)
				defer done()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if _, err := s.Predict(call, "m", mlserve.Request{ID: "r", Key: keys[i%len(keys)], Input: input}); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-ended
		})
	}
}

func BenchmarkInfer(b *testing.B) {
	s := mlserve.New(nil)
	require.NoError(b, s.AddModel("m", "1", newVersioned(1), nil))
	h := s.Handler()
	b.ReportAllocs()
	for b.Loop() {
		if w := call(h, "POST", "/v2/models/m/infer", infer("[1,2]")); w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
