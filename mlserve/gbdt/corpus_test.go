package gbdt

import (
	"archive/tar"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/stretchr/testify/require"
)

// ours are the files of XGBoost that load, by version; each must give XGBoost's margins bit for bit.
var ours = map[string][]string{
	"xgb-1.7.6": {
		"base-score-given", "binary-logistic", "count-poisson", "dart", "early-stop", "empty", "missing-both", "multi-softmax",
		"multi-softprob", "reg-absoluteerror", "reg-squarederror", "rf-parallel", "single-leaf",
	},
	"xgb-2.1.4": {
		"base-score-given", "binary-logistic", "count-poisson", "dart", "early-stop", "empty", "multi-softprob",
		"reg-absoluteerror", "single-leaf",
	},
	"xgb-3.2.0": {
		"base-score-given", "binary-hinge", "binary-logistic", "binary-logitraw", "count-poisson", "dart", "dart-softprob", "deep",
		"early-stop", "empty", "exact-pruned", "missing-both", "monotone", "multi-output-scalar", "multi-softmax", "multi-softprob",
		"rank-ndcg", "rank-pairwise", "reg-absoluteerror", "reg-gamma", "reg-logistic", "reg-pseudohuber", "reg-quantile3",
		"reg-squarederror", "reg-squaredlogerror", "reg-tweedie", "rf-parallel", "single-leaf", "speed-100x6", "survival-aft",
		"survival-cox", "wide",
	},
}

// refused are the files that must not load, and what the error must say.
var refused = map[string]string{
	"xgb-1.7.6/cat-onehot/model.json":          "categorical splits are not supported",
	"xgb-1.7.6/cat-partition/model.json":       "categorical splits are not supported",
	"xgb-1.7.6/gblinear/model.json":            `booster "gblinear" is not supported`,
	"xgb-2.1.4/cat-partition/model.json":       "categorical splits are not supported",
	"xgb-3.2.0/binary-logistic/model.ubj":      "a UBJSON file: not supported",
	"xgb-3.2.0/cat-onehot/model.json":          "categorical splits are not supported",
	"xgb-3.2.0/cat-pandas/model.json":          "categorical splits are not supported",
	"xgb-3.2.0/cat-partition/model.json":       "categorical splits are not supported",
	"xgb-3.2.0/gblinear-softprob/model.json":   `booster "gblinear" is not supported`,
	"xgb-3.2.0/gblinear/model.json":            `booster "gblinear" is not supported`,
	"xgb-3.2.0/multi-output-vector/model.json": "vector leaves (multi_strategy=multi_output_tree) are not supported",
	"bad/xgb-base-score-length.json":           "2 base scores for 3 groups",
	"bad/xgb-child-out-of-range.json":          "tree 1: node 0: child 99999 of",
	"bad/xgb-cycle.json":                       "tree 0: node 1: child 0 is reached a second time",
	"bad/xgb-deep-nesting.json":                "learner: byte 11: found '[' where an object should be",
	"bad/xgb-duplicate-tree-id.json":           "tree 1: its id is 0",
	"bad/xgb-feature-out-of-range.json":        "splits on feature 6 of 6",
	"bad/xgb-half-leaf.json":                   "child -1 of",
	"bad/xgb-huge-length.ubj":                  "a UBJSON file: not supported",
	"bad/xgb-nan-threshold.json":               "the threshold is not a number",
	"bad/xgb-num-nodes-huge.json":              "num_nodes is 2147483647, but left_children has",
	"bad/xgb-num-trees-negative.json":          `learner.gradient_booster.model.gbtree_model_param.num_trees: byte`,
	"bad/xgb-pickle.bin":                       "a Python pickle: refused",
	"bad/xgb-shared-child.json":                "is reached a second time",
	"bad/xgb-tree-info-out-of-range.json":      "tree 2 belongs to group 5 of 1",
	"bad/xgb-truncated.json":                   "it is cut off",
	"bad/xgb-truncated.ubj":                    "a UBJSON file: not supported",
	"bad/xgb-unequal-arrays.json":              "not an XGBoost JSON model: it starts with",
	"bad/xgb-unknown-objective.json":           `objective "binary:magic" is not supported`,
	"bad/xgb-version-99.json":                  "version 99.0.0: known are 1, 2 and 3",
	"bad/xgb-wrong-objective.json":             "objective multi:softprob with num_class 0",
}

// archive is the whole of testdata/xgboost.tar.gz, by name.
var archive = sync.OnceValues(func() (map[string][]byte, error) {
	f, err := os.Open("testdata/xgboost.tar.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
})

func corpus(t testing.TB, name string) []byte {
	t.Helper()
	files, err := archive()
	require.NoError(t, err)
	require.Contains(t, files, name)
	return files[name]
}

// TestCorpusIsListed fails for a file of which nobody said whether it must load.
func TestCorpusIsListed(t *testing.T) {
	files, err := archive()
	require.NoError(t, err)
	want := map[string]bool{}
	for version, cases := range ours {
		for _, c := range cases {
			want[version+"/"+c+"/model.json"] = true
		}
	}
	for name := range refused {
		require.False(t, want[name], "%s is listed twice", name)
		want[name] = true
	}
	have := map[string]bool{}
	for name := range files {
		if !strings.HasSuffix(name, "/expect.json") && !strings.HasSuffix(name, "/input.csv") {
			have[name] = true
		}
	}
	require.Equal(t, want, have)
}

func TestCorpusRefused(t *testing.T) {
	for name, why := range refused {
		t.Run(name, func(t *testing.T) {
			m, err := Parse(corpus(t, name))
			require.ErrorContains(t, err, why)
			require.ErrorIs(t, err, mlserve.ErrModelFile)
			require.Nil(t, m)
		})
	}
}

// expectation is what the library that wrote the file predicts.
type expectation struct {
	Trees, Rows, Cols int
	Check             string
	Runs              []run
}

type run struct {
	Name       string
	Range      [2]int
	Margin     bits
	Pred       bits
	BaseMargin *bits `json:"base_margin"`
}

type bits struct {
	Shape []int
	Bits  string
}

func (b bits) floats(t *testing.T) []float32 {
	t.Helper()
	out := make([]float32, len(b.Bits)/8)
	for i := range out {
		v, err := strconv.ParseUint(b.Bits[i*8:i*8+8], 16, 32)
		require.NoError(t, err)
		out[i] = math.Float32frombits(uint32(v))
	}
	return out
}

func readInput(t *testing.T, text []byte, e expectation) []float32 {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	require.NoError(t, err)
	var values []float32
	var check uint64
	for _, record := range records[1:] {
		for _, s := range record {
			v, err := strconv.ParseFloat(s, 32)
			require.NoError(t, err)
			b := uint64(math.Float32bits(float32(v)))
			if v != v {
				b = 0x7fc00000
			}
			check += b * uint64(2*len(values)+1)
			values = append(values, float32(v))
		}
	}
	require.Len(t, values, e.Rows*e.Cols)
	want, err := strconv.ParseUint(e.Check, 16, 64)
	require.NoError(t, err)
	require.Equal(t, want, check, "the input was not read as it was written")
	return values
}

func TestCorpusMargins(t *testing.T) {
	var margins, predictions, inexact int
	for version, cases := range ours {
		for _, c := range cases {
			name := version + "/" + c
			t.Run(name, func(t *testing.T) {
				var e expectation
				require.NoError(t, json.Unmarshal(corpus(t, name+"/expect.json"), &e))
				rows := readInput(t, corpus(t, name+"/input.csv"), e)
				require.NotEmpty(t, e.Runs)
				for _, run := range e.Runs {
					m := slice(t, corpus(t, name+"/model.json"), e, run.Range)
					got := evaluate(t, m, rows, run)
					requireBits(t, run.Margin.floats(t), got, run.Name)
					margins += len(got)
					want := run.Pred.floats(t)
					inexact += requireClose(t, m, want, predict(t, m, got, rows, run), run.Name)
					predictions += len(want)
				}
			})
		}
	}
	t.Logf("%d margins equal in bits; of %d predictions %d are 1 or 2 units in the last place off", margins, predictions, inexact)
	require.Equal(t, 6827, margins, "every run of every case was compared")
}

// slice is the model of the boosting iterations [from, to), or of all.
func slice(t *testing.T, data []byte, e expectation, iterations [2]int) *Model {
	t.Helper()
	f := &file{forest: forest{maxNodes: defaultMaxNodes}}
	require.NoError(t, f.read(&reader{data: data}))
	m, err := f.build()
	require.NoError(t, err)
	require.Len(t, f.forest.roots, e.Trees)
	if iterations == [2]int{} {
		return m
	}
	stride := max(1, f.parallel) * len(m.groups)
	f.forest.roots = f.forest.roots[iterations[0]*stride : iterations[1]*stride]
	f.groups = f.groups[iterations[0]*stride : iterations[1]*stride]
	return newModel(f, m.objective, m.base, len(m.groups))
}

func evaluate(t *testing.T, m *Model, rows []float32, run run) []float32 {
	t.Helper()
	n, width := len(rows)/m.features, len(m.groups)
	require.Equal(t, n, run.Margin.Shape[0])
	out := make([]float32, n*width)
	if run.BaseMargin != nil {
		starts := run.BaseMargin.floats(t)
		for i := range out {
			row := i / width
			out[i] = m.sum(i%width, rows[row*m.features:(row+1)*m.features], starts[i])
		}
		return out
	}
	require.NoError(t, m.Margins(out, rows))
	single := make([]float32, width)
	for i := range n { // a row by itself
		require.NoError(t, m.Margins(single, rows[i*m.features:(i+1)*m.features]))
		requireBits(t, out[i*width:(i+1)*width], single, "row by row")
	}
	return out
}

func requireBits(t *testing.T, want, got []float32, name string) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			t.Fatalf("%s: value %d is %x (%v), want %x (%v)", name, i, math.Float32bits(got[i]), got[i], math.Float32bits(want[i]), want[i])
		}
	}
}

// predict goes through Score and Predict, which must agree.
func predict(t *testing.T, m *Model, margins, rows []float32, run run) []float64 {
	t.Helper()
	if run.BaseMargin != nil {
		out := make([]float64, len(margins))
		for i, v := range margins {
			out[i] = float64(v)
		}
		require.Equal(t, len(out), m.outputs()*run.Margin.Shape[0])
		for i := 0; i < len(out); i += m.outputs() {
			m.objective.output.transform(out[i : i+m.outputs()])
		}
		return out
	}
	n := len(rows) / m.features
	out := make([]float64, n*m.outputs())
	require.NoError(t, m.Score(out, rows))
	wide := make([]float64, len(rows))
	for i, v := range rows {
		wide[i] = float64(v)
	}
	for _, data := range []any{rows, wide} {
		answer, err := m.Predict(t.Context(), mlserve.Batch{{Shape: []int{n, m.features}, Data: data}})
		require.NoError(t, err)
		require.Len(t, answer, 1)
		require.Len(t, answer[0].Data, len(out))
		for i, v := range answer[0].Data.([]float32) {
			require.Equal(t, math.Float64bits(out[i]), math.Float64bits(float64(v)))
		}
	}
	return out
}

// requireClose wants exact predictions, or two units in the last place where XGBoost asked the C library for an exponential.
func requireClose(t *testing.T, m *Model, want []float32, got []float64, name string) (inexact int) {
	t.Helper()
	require.Len(t, got, len(want))
	exact := slices.Contains([]output{identity, hinge, softmax}, m.objective.output)
	for i := range want {
		w, g := math.Float32bits(want[i]), math.Float32bits(float32(got[i]))
		require.Equal(t, math.Float64bits(got[i]), math.Float64bits(float64(float32(got[i]))), "not a float32 value")
		d := int64(w) - int64(g)
		if d != 0 && (exact || d > 2 || d < -2) {
			t.Fatalf("%s: prediction %d is %v, want %v", name, i, got[i], want[i])
		}
		if d != 0 {
			inexact++
		}
	}
	return inexact
}
