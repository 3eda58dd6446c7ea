package mlserve_test

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/mlservetest"
)

// collect flattens what was measured: "name{k=v,…}" → value, of a histogram
// its count.
func collect(t *testing.T, r *sdk.ManualReader) map[string]int64 {
	var rm metricdata.ResourceMetrics
	require.NoError(t, r.Collect(bg, &rm))
	out := map[string]int64{}
	key := func(name string, set attribute.Set) string {
		var parts []string
		for _, kv := range set.ToSlice() {
			parts = append(parts, string(kv.Key)+"="+kv.Value.String())
		}
		sort.Strings(parts)
		return strings.TrimPrefix(name, "mainstay.mlserve.") + "{" + strings.Join(parts, ",") + "}"
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					out[key(m.Name, p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[key(m.Name, p.Attributes)] = int64(p.Count)
				}
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	reader := sdk.NewManualReader()
	s := mlserve.New(&mlserve.Options{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))})
	class := newAnswering(func(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
		n := in[0].Shape[0]
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprint("class-", int(in[0].Data.([]float32)[2*i])%5)
		}
		return mlserve.Batch{{Name: "y", Shape: []int{n}, Data: out}}, nil
	})
	class.sig.Outputs[0].Type = mlserve.Bytes
	faulty := &mlservetest.Faulty{Model: class}
	require.NoError(t, s.AddModel("m", "1", faulty, &mlserve.ModelOptions{
		Classes: 3, Ladder: []mlserve.Rung{{Name: "popular", Answer: popular(0, nil)}},
	}))
	for range 2 {
		_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(10)})
		require.NoError(t, err)
	}
	_, err := s.Predict(bg, "m", mlserve.Request{Input: mlserve.Rows([]float32{1})})
	require.ErrorIs(t, err, mlserve.ErrInput)
	faulty.ErrorRate = 1
	_, err = s.Predict(bg, "m", mlserve.Request{Input: rows(1)})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{
		"request.duration{arm=primary,model=m,outcome=ok,version=1}":       2,
		"request.duration{arm=primary,model=m,outcome=invalid,version=1}":  1,
		"request.duration{arm=primary,model=m,outcome=degraded,version=1}": 1,
		"predictions{class=class-0,model=m,version=1}":                     4,
		"predictions{class=class-1,model=m,version=1}":                     4,
		"predictions{class=class-2,model=m,version=1}":                     4,
		"predictions{class=other,model=m,version=1}":                       8,
		"degraded{model=m,reason=failed,rung=popular}":                     1,
		"model.loaded{model=m,version=1}":                                  1,
	}, collect(t, reader))
	other := newAnswering(faulty.Model.Predict)
	other.sig = class.sig
	require.NoError(t, s.AddModel("m", "2", other, nil))
	got := collect(t, reader)
	require.Zero(t, got["model.loaded{model=m,version=1}"])
	require.EqualValues(t, 1, got["model.loaded{model=m,version=2}"])
}

func TestScoresAreCountedByTenthOrByTheBestColumn(t *testing.T) {
	for name, c := range map[string]struct {
		spec mlserve.TensorSpec
		out  mlserve.Tensor
		want map[string]int64
	}{
		"score": {mlserve.TensorSpec{Name: "y", Type: mlserve.Float32, Shape: []int{-1}},
			mlserve.Tensor{Name: "y", Shape: []int{5}, Data: []float32{0, 0.05, 0.31, 1, 37}},
			map[string]int64{"0.0": 2, "0.3": 1, "0.9": 1, "other": 1}},
		"named classes": {mlserve.TensorSpec{Name: "y", Type: mlserve.Float64, Shape: []int{-1, 2}, Columns: []string{"no", "yes"}},
			mlserve.Tensor{Name: "y", Shape: []int{5, 2}, Data: []float64{1, 0, 0, 1, 0.4, 0.6, 0.2, 0.3, 9, 1}},
			map[string]int64{"no": 2, "yes": 3}},
		"classes": {mlserve.TensorSpec{Name: "y", Type: mlserve.Int64, Shape: []int{-1, 1}},
			mlserve.Tensor{Name: "y", Shape: []int{5, 1}, Data: []int64{3, 3, -1, 3, 3}},
			map[string]int64{"3": 4, "-1": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			reader := sdk.NewManualReader()
			s := mlserve.New(&mlserve.Options{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))})
			m := newAnswering(func(context.Context, mlserve.Batch) (mlserve.Batch, error) { return mlserve.Batch{c.out}, nil })
			m.sig.Outputs[0] = c.spec
			calls := 0
			m.f = func(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
				if in[0].Shape[0] != 5 {
					return nil, errBroken // the warm-up's single row
				}
				calls++
				return mlserve.Batch{c.out}, nil
			}
			require.NoError(t, s.AddModel("m", "1", m, nil))
			_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(5)})
			require.NoError(t, err)
			got := map[string]int64{}
			for k, v := range collect(t, reader) {
				if rest, ok := strings.CutPrefix(k, "predictions{class="); ok {
					got[strings.TrimSuffix(rest, ",model=m,version=1}")] = v
				}
			}
			require.Equal(t, c.want, got)
		})
	}
}
