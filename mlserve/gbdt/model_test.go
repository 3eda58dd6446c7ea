package gbdt

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/stretchr/testify/require"
)

func load(t testing.TB, name string) *Model {
	t.Helper()
	m, err := Parse(corpus(t, name+"/model.json"))
	require.NoError(t, err)
	return m
}

// TestLogf holds logf against glibc 2.36; the last seven are arguments where rounding math.Log gives another float32.
func TestLogf(t *testing.T) {
	golden := [][2]uint32{
		{0x3f7fffff, 0xb3800000}, {0x3f800001, 0x33ffffff}, {0x40b83759, 0x3fe00c43}, {0x358637bd, 0xc15d0c55},
		{0x497423f0, 0x415d0c54}, {0x00000001, 0xc2ce8ed0}, {0x7f7fffff, 0x42b17218}, {0x3e99999a, 0xbf9a1bc8},
		{0x3f333333, 0xbeb69e1a}, {0x3f330000, 0xbeb73077}, {0x3f32ffff, 0xbeb7307a}, {0x3f800000, 0},
		{0x3b0516fb, 0xc0c660ec}, {0x3baad93e, 0xc0a834ac}, {0x3e23261c, 0xbfeb1c8d}, {0x3f522cef, 0xbe49f7d3},
		{0x3ff2dbfc, 0x3f23f4ab}, {0x40955b0a, 0x3fc53231}, {0x421440f8, 0x40673559},
	}
	for i, g := range golden {
		x := math.Float32frombits(g[0])
		require.Equal(t, g[1], math.Float32bits(logf(x)), "logf(%v)", x)
		if i >= 12 {
			require.NotEqual(t, g[1], math.Float32bits(float32(math.Log(float64(x)))), "not a telling argument")
		}
	}
	require.True(t, math.IsInf(float64(logf(0)), -1))
	require.True(t, math.IsInf(float64(logf(float32(math.Inf(1)))), 1))
	require.True(t, math.IsNaN(float64(logf(-1))))
	require.True(t, math.IsNaN(float64(logf(float32(math.NaN())))))
}

func TestNoAllocation(t *testing.T) {
	for _, name := range []string{"xgb-3.2.0/binary-logistic", "xgb-3.2.0/multi-softprob", "xgb-3.2.0/multi-softmax"} {
		m := load(t, name)
		rows := make([]float32, 50*m.features)
		out, margins := make([]float64, 50*m.outputs()), make([]float32, 50*len(m.groups))
		require.Zero(t, testing.AllocsPerRun(10, func() {
			if m.Score(out, rows) != nil || m.Margins(margins, rows) != nil {
				panic("lengths")
			}
		}), name)
	}
}

// TestTies wants the first of equal classes: without trees all of them are equal.
func TestTies(t *testing.T) {
	m, err := Parse(edited(t, func(m object) {
		model := at(m, "learner", "gradient_booster", "model")
		model["trees"], model["tree_info"], model["iteration_indptr"] = []any{}, []any{}, []int{0}
		at(model, "gbtree_model_param")["num_trees"] = "0"
		at(m, "learner", "learner_model_param")["num_class"] = "3"
		at(m, "learner", "objective")["name"] = "multi:softmax"
	}))
	require.NoError(t, err)
	out := []float64{9}
	require.NoError(t, m.Score(out, make([]float32, 6)))
	require.Equal(t, []float64{0}, out)
}

func TestLengths(t *testing.T) {
	m := load(t, "xgb-3.2.0/multi-softmax") // 6 features, 3 classes, 1 output
	require.NoError(t, m.Score(make([]float64, 2), make([]float32, 12)))
	require.NoError(t, m.Margins(make([]float32, 6), make([]float32, 12)))
	require.NoError(t, m.Score(nil, nil))
	for _, err := range []error{
		m.Score(make([]float64, 2), make([]float32, 11)),
		m.Score(make([]float64, 6), make([]float32, 12)),
		m.Margins(make([]float32, 2), make([]float32, 12)),
		m.Margins(make([]float32, 6), make([]float32, 13)),
	} {
		require.ErrorIs(t, err, mlserve.ErrInput)
	}
}

func TestSignature(t *testing.T) {
	require.Equal(t, mlserve.Signature{
		Inputs: []mlserve.TensorSpec{{
			Name: "input", Type: mlserve.Float32, Shape: []int{-1, 6}, Missing: true,
			Columns: []string{"age", "income €", "x 0", "débit", "q=1", `a"b`},
		}},
		Outputs: []mlserve.TensorSpec{{Name: "output", Type: mlserve.Float32, Shape: []int{-1}}},
	}, load(t, "xgb-3.2.0/binary-logistic").Signature())
	s := load(t, "xgb-3.2.0/multi-softprob").Signature()
	require.Equal(t, []int{-1, 4}, s.Outputs[0].Shape)
	require.Nil(t, s.Inputs[0].Columns)
	require.Equal(t, []int{-1}, load(t, "xgb-3.2.0/multi-softmax").Signature().Outputs[0].Shape)
}

func TestPredictRefuses(t *testing.T) {
	m := load(t, "xgb-3.2.0/binary-logistic")
	row := make([]float32, 6)
	for name, in := range map[string]mlserve.Batch{
		"nothing":       nil,
		"two tensors":   append(mlserve.Rows(row), mlserve.Rows(row)...),
		"other name":    {{Name: "x", Shape: []int{1, 6}, Data: row}},
		"integers":      {{Shape: []int{1, 6}, Data: make([]int64, 6)}},
		"too few":       mlserve.Rows(row[:5]),
		"ragged":        mlserve.Rows(row, row[:5]),
		"flat":          {{Shape: []int{6}, Data: row}},
		"short data":    {{Shape: []int{2, 6}, Data: row}},
		"odd data":      {{Shape: []int{1, 6}, Data: make([]float32, 7)}},
		"negative rows": {{Shape: []int{-1, 6}, Data: row}},
		"overflow":      {{Shape: []int{math.MaxInt/6 + 2, 6}, Data: row}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := m.Predict(t.Context(), in)
			require.ErrorIs(t, err, mlserve.ErrInput)
			require.Nil(t, out)
		})
	}
	out, err := m.Predict(t.Context(), mlserve.Rows[float32]())
	require.NoError(t, err)
	require.Equal(t, mlserve.Batch{{Name: "output", Shape: []int{0}, Data: []float32{}}}, out)
	require.NoError(t, m.Close())
}

// ended ends after a number of looks at it.
type ended struct {
	context.Context
	looks, after int
}

func (e *ended) Err() error {
	if e.looks++; e.looks > e.after {
		return context.Canceled
	}
	return nil
}

func TestPredictStopsBetweenBlocks(t *testing.T) {
	m := load(t, "xgb-3.2.0/speed-100x6")
	const n = 1000 // 100 trees: seven blocks
	in := mlserve.Batch{{Shape: []int{n, m.features}, Data: make([]float64, n*m.features)}}
	ctx := &ended{Context: t.Context(), after: 3}
	_, err := m.Predict(ctx, in)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 4, ctx.looks)

	cause := errors.New("the client left")
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err = m.Predict(cancelled, in)
	require.ErrorIs(t, err, cause)
}

func TestLoader(t *testing.T) {
	data := corpus(t, "xgb-3.2.0/binary-logistic/model.json")
	listed := func(names ...string) mlserve.Manifest {
		m := mlserve.Manifest{Reference: "reference.json", SHA256: map[string]string{}}
		for _, n := range names {
			m.SHA256[n] = "…"
		}
		return m
	}
	files := fstest.MapFS{
		"model.json": {Data: data}, "ranker.json": {Data: data}, "reference.json": {Data: []byte("{}")},
		"cut.json": {Data: data[:100]},
	}
	for _, names := range [][]string{
		{"model.json", "reference.json", "cut.json"}, {"ranker.json", "reference.json"}, {"ranker.json", "notes.txt"},
	} {
		m, err := Loader{}.Load(t.Context(), files, listed(names...))
		require.NoError(t, err)
		out, err := m.Predict(t.Context(), mlserve.Rows(make([]float64, 6)))
		require.NoError(t, err)
		require.Equal(t, []int{1}, out[0].Shape)
	}
	for _, c := range []struct {
		names  []string
		loader Loader
		why    string
	}{
		{[]string{"reference.json"}, Loader{}, "no model.json among the files"},
		{[]string{"ranker.json", "cut.json"}, Loader{}, `"cut.json" "ranker.json"`},
		{[]string{"cut.json"}, Loader{}, "the string that starts here does not end"},
		{[]string{"model.json"}, Loader{MaxBytes: 99}, "larger than Loader.MaxBytes 99"},
		{[]string{"model.json"}, Loader{MaxNodes: 20}, "more than Loader.MaxNodes 20"},
	} {
		m, err := c.loader.Load(t.Context(), files, listed(c.names...))
		require.ErrorIs(t, err, mlserve.ErrModelFile, c.names)
		require.ErrorContains(t, err, c.why)
		require.Nil(t, m)
	}
	_, err := Loader{}.Load(t.Context(), fstest.MapFS{}, listed("model.json"))
	require.ErrorContains(t, err, "read model.json")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Loader{}.Load(cancelled, files, listed("model.json"))
	require.ErrorIs(t, err, context.Canceled)
}

func TestErrorsNameThePlace(t *testing.T) {
	_, err := Parse([]byte(`{"learner":{"gradient_booster":{"model":{"trees":[{"default_left":[0,1,"x"]}]}}}}`))
	require.EqualError(t, err, "gbdt: bad model file: learner.gradient_booster.model.trees.0.default_left.2: byte 71: found '\"' where a number should be")
	long := strings.Repeat("x", 5000)
	_, err = Parse([]byte(`{"` + long + `":}`))
	require.Error(t, err)
	require.Less(t, len(err.Error()), 300)
}

// BenchmarkScore rotates over 1,000 rows: one row repeated is learned by the branch predictor.
func BenchmarkScore(b *testing.B) {
	m := load(b, "xgb-3.2.0/speed-100x6")
	const n = 1000
	rows := make([]float32, n*m.features)
	state := uint64(7)
	for i := range rows {
		state = state*6364136223846793005 + 1442695040888963407
		rows[i] = float32(int64(state)>>40) / (1 << 22)
	}
	for _, size := range []int{1, n} {
		b.Run(map[int]string{1: "row", n: "batch"}[size], func(b *testing.B) {
			b.ReportAllocs()
			out := make([]float64, size)
			i := 0
			for b.Loop() {
				if err := m.Score(out, rows[i*m.features:(i+size)*m.features]); err != nil {
					b.Fatal(err)
				}
				i = (i + size) % n
			}
		})
	}
}
