package mlserve_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
)

func TestConform(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	one := mlserve.Signature{Inputs: []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float32, Shape: []int{-1, 2}}}}
	missing := mlserve.Signature{Inputs: []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float64, Shape: []int{-1, 2}, Missing: true}}}
	two := mlserve.Signature{Inputs: []mlserve.TensorSpec{
		{Name: "id", Type: mlserve.Int64, Shape: []int{-1}}, {Name: "x", Type: mlserve.Float32, Shape: []int{-1, 2}}}}
	ids := mlserve.Tensor{Name: "id", Shape: []int{1}, Data: []int64{7}}
	xs := mlserve.Tensor{Name: "x", Shape: []int{1, 2}, Data: []float32{1, 2}}
	wide := mlserve.Tensor{Name: "x", Shape: []int{1, 2}, Data: []float64{1, 0.1}}
	for name, c := range map[string]struct {
		sig  mlserve.Signature
		in   mlserve.Batch
		want mlserve.Batch // nil: ErrInput
	}{
		"as it is":               {one, mlserve.Batch{xs}, mlserve.Batch{xs}},
		"unnamed":                {one, mlserve.Rows([]float32{1, 2}), mlserve.Batch{xs}},
		"rounded to float32":     {one, mlserve.Rows([]float64{1, 0.1}), mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: []float32{1, 0.1}}}},
		"widened":                {missing, mlserve.Batch{xs}, mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: []float64{1, 2}}}},
		"in their order":         {two, mlserve.Batch{wide, ids}, mlserve.Batch{ids, {Name: "x", Shape: []int{1, 2}, Data: []float32{1, 0.1}}}},
		"swapped, no conversion": {two, mlserve.Batch{xs, ids}, mlserve.Batch{ids, xs}},
		"same name twice":        {two, mlserve.Batch{ids, ids}, nil},
		"unnamed among two":      {two, mlserve.Batch{ids, {Shape: []int{1, 2}, Data: []float32{1, 2}}}, nil},
		"no tensors":             {one, nil, nil},
		"too many":               {one, mlserve.Batch{xs, ids}, nil},
		"another name":           {one, mlserve.Batch{ids}, nil},
		"another type":           {two, mlserve.Batch{{Name: "id", Shape: []int{1}, Data: []int32{7}}, xs}, nil},
		"another width":          {one, mlserve.Rows([]float64{1, 2, 3}), nil},
		"ragged":                 {one, mlserve.Rows([]float64{1, 2}, []float64{3}), nil},
		"ragged, but adding up":  {one, mlserve.Rows([]float64{1, 2}, []float64{3}, []float64{4, 5, 6}), nil},
		"no rows":                {one, mlserve.Batch{{Name: "x", Shape: []int{0, 2}, Data: []float32{}}}, nil},
		"no rows at all":         {one, mlserve.Rows[float64](), nil},
		"rows disagree":          {two, mlserve.Batch{{Name: "id", Shape: []int{2}, Data: []int64{7, 8}}, xs}, nil},
		"shape lies":             {one, mlserve.Batch{{Name: "x", Shape: []int{2, 2}, Data: []float32{1, 2}}}, nil},
		"shape overflows":        {one, mlserve.Batch{{Name: "x", Shape: []int{math.MaxInt, math.MaxInt}, Data: []float32{1}}}, nil},
		"no shape":               {one, mlserve.Batch{{Name: "x", Data: []float32{1}}}, nil},
		"no data":                {one, mlserve.Batch{{Name: "x", Shape: []int{1, 2}}}, nil},
		"odd data":               {one, mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: []int{1, 2}}}, nil},
		"NaN":                    {one, mlserve.Rows([]float64{1, nan}), nil},
		"infinity":               {one, mlserve.Rows([]float64{1, inf}), nil},
		"infinity is the model's, where values may be missing": {missing, mlserve.Rows([]float64{1, inf}),
			mlserve.Batch{{Name: "x", Shape: []int{1, 2}, Data: []float64{1, inf}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.sig.Conform(c.in)
			if c.want == nil {
				require.ErrorIs(t, err, mlserve.ErrInput)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	got, err := missing.Conform(mlserve.Rows([]float64{1, nan}))
	require.NoError(t, err)
	require.True(t, math.IsNaN(got[0].Data.([]float64)[1]))
	require.Equal(t, []float64{1, 0.1}, wide.Data, "the input is left alone")
}

func TestFloat64s(t *testing.T) {
	b := mlserve.Batch{
		{Name: "wide", Shape: []int{2, 1, 2}, Data: []float32{1, 2, 3, 4}},
		{Name: "flat", Shape: []int{2}, Data: []bool{true, false}},
		{Name: "text", Shape: []int{2}, Data: []string{"a", "b"}},
	}
	got, err := b.Float64s("wide")
	require.NoError(t, err)
	require.Equal(t, [][]float64{{1, 2}, {3, 4}}, got)
	got, err = b.Float64s("flat")
	require.NoError(t, err)
	require.Equal(t, [][]float64{{1}, {0}}, got)
	_, err = b.Float64s("text")
	require.ErrorIs(t, err, mlserve.ErrInput)
	_, err = b.Float64s("")
	require.ErrorIs(t, err, mlserve.ErrNotFound)
	_, err = b.Float64s("none")
	require.ErrorIs(t, err, mlserve.ErrNotFound)
}

func TestTensorJSON(t *testing.T) {
	for in, want := range map[string]mlserve.Tensor{
		`{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[null,-1e-3]]}`: {Name: "x", Shape: []int{2, 2}, Data: []float32{1, 2.5, float32(math.NaN()), -1e-3}},
		`{"name":"x","shape":[2],"datatype":"INT32","data":[ 1 , -2 ]}`:              {Name: "x", Shape: []int{2}, Data: []int32{1, -2}},
		`{"name":"x","shape":[3],"datatype":"BYTES","data":["a\"]","b,[",""]}`:       {Name: "x", Shape: []int{3}, Data: []string{`a"]`, "b,[", ""}},
		`{"name":"x","shape":[1],"datatype":"BOOL","data":[true]}`:                   {Name: "x", Shape: []int{1}, Data: []bool{true}},
		`{"name":"x","shape":[0,3],"datatype":"FP64","data":[]}`:                     {Name: "x", Shape: []int{0, 3}, Data: []float64{}},
	} {
		var got mlserve.Tensor
		require.NoError(t, json.Unmarshal([]byte(in), &got), in)
		if d, ok := want.Data.([]float32); ok {
			require.Equal(t, math.Float32bits(d[0]), math.Float32bits(got.Data.([]float32)[0]))
			require.True(t, math.IsNaN(float64(got.Data.([]float32)[2])))
			continue
		}
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		`{"name":"x","shape":[2],"datatype":"FP32","data":[1]}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":[1,2]}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":1}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":[true]}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":["1"]}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":[1e39]}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":{"a":1}}`,
		`{"name":"x","shape":[1],"datatype":"INT32","data":[2147483648]}`,
		`{"name":"x","shape":[1],"datatype":"INT64","data":[1.5]}`,
		`{"name":"x","shape":[1],"datatype":"INT64","data":[null]}`,
		`{"name":"x","shape":[1],"datatype":"BOOL","data":[1]}`,
		`{"name":"x","shape":[1],"datatype":"BYTES","data":[1]}`,
		`{"name":"x","shape":[1],"datatype":"FP16","data":[1]}`,
		`{"name":"x","shape":[],"datatype":"FP32","data":[1]}`,
		`{"name":"x","shape":[-1],"datatype":"FP32","data":[1]}`,
		`{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[]}`,
		`{"name":"x","shape":[1099511627776],"datatype":"BYTES","data":["a"]}`, // 16 TB, if believed
		`{"name":"x","shape":[1],"datatype":"FP32"}`,
		`{"name":"x","shape":[1],"datatype":"FP32","data":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}`,
		`[]`,
	} {
		var got mlserve.Tensor
		require.ErrorIs(t, json.Unmarshal([]byte(in), &got), mlserve.ErrInput, in)
	}
	_, err := json.Marshal(mlserve.Tensor{Name: "x", Shape: []int{1}, Data: []float64{math.Inf(-1)}})
	require.ErrorIs(t, err, mlserve.ErrOutput)
}
