package trainer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mainstay-go/mainstay/mlserve/gbdt"
	"github.com/stretchr/testify/require"
)

// sample draws rows with a share of missing values and labels with probability chance(row).
func sample(seed uint64, n, columns int, absent float64, chance func(row []float64) float64) (rows [][]float64, labels []float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		row := make([]float64, columns)
		for j := range row {
			row[j] = r.NormFloat64()
			if j%3 == 2 {
				row[j] = float64(r.IntN(5)) // few values
			}
			if r.Float64() < absent {
				row[j] = math.NaN()
			}
		}
		label := 0.0
		if r.Float64() < chance(row) {
			label = 1
		}
		rows, labels = append(rows, row), append(labels, label)
	}
	return rows, labels
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "c" + string(rune('a'+i))
	}
	return out
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func xor(row []float64) float64 {
	if row[0] > 0 != (row[1] > 0) {
		return 0.95
	}
	return 0.05
}

func linear(row []float64) float64 { return sigmoid(2*row[0] - row[1] + 0.5*row[2]) }

func scores(b *Booster, rows [][]float64) []float64 {
	out := make([]float64, len(rows))
	for i, row := range rows {
		out[i] = float64(b.Margin(row))
	}
	return out
}

func TestLearns(t *testing.T) {
	present := func(row []float64) float64 { // only the absence of a value tells
		if row[0] != row[0] {
			return 0.9
		}
		return 0.1
	}
	for _, c := range []struct {
		name   string
		chance func([]float64) float64
		absent float64
		o      Options
		least  float64 // the best possible is 0.95, 0.89, 0.87
	}{
		{"exclusive or", xor, 0, Options{}, 0.92},
		{"linear", linear, 0, Options{}, 0.86},
		{"missing", present, 0.3, Options{}, 0.85},
		{"one tree of depth one", present, 0.3, Options{Rounds: 1, Depth: 1}, 0.85},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, labels := sample(1, 6000, 4, c.absent, c.chance)
			b, err := Train(t.Context(), names(4), rows, labels, c.o)
			require.NoError(t, err)
			rows, labels = sample(2, 4000, 4, c.absent, c.chance)
			require.Greater(t, AUC(scores(b, rows), labels), c.least)
			var mean, want float64
			for i, row := range rows {
				mean += sigmoid(float64(b.Margin(row)))
				want += labels[i]
			}
			require.InDelta(t, want/4000, mean/4000, 0.03, "probabilities that mean what they say")
		})
	}
}

// TestMissingTakesEitherSide wants one split to part the missing from everything else, and to send them to whichever half of the
// values they resemble.
func TestMissingTakesEitherSide(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		positive []float64 // these values have label 1
		left     bool
		value    float32
	}{
		{[]float64{nan}, true, 1},
		{[]float64{1, 2}, false, 2.5},
		{[]float64{1, nan}, true, 1.5},
		{[]float64{3, nan}, false, 2.5},
	} {
		var rows [][]float64
		var labels []float64
		for i := range 400 {
			v := []float64{1, 2, 3, nan}[i%4]
			label := 0.0
			for _, p := range c.positive {
				if v == p || (v != v && p != p) {
					label = 1
				}
			}
			rows, labels = append(rows, []float64{v}), append(labels, label)
		}
		b, err := Train(t.Context(), []string{"a"}, rows, labels, Options{Rounds: 1, Depth: 1, Subsample: 1})
		require.NoError(t, err)
		require.InDelta(t, 1.0, AUC(scores(b, rows), labels), 0, c.positive)
		require.Equal(t, c.left, b.trees[0][0].missingLeft, c.positive)
		require.InDelta(t, c.value, b.trees[0][0].value, 0)
	}
}

func TestNoiseTeachesNothing(t *testing.T) {
	chance := func([]float64) float64 { return 0.5 }
	rows, labels := sample(1, 4000, 4, 0, chance)
	b, err := Train(t.Context(), names(4), rows, labels, Options{})
	require.NoError(t, err)
	rows, labels = sample(2, 4000, 4, 0, chance)
	require.InDelta(t, 0.5, AUC(scores(b, rows), labels), 0.04)
}

func file(t *testing.T, b *Booster) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, b.WriteJSON(&out))
	return out.Bytes()
}

func TestSeed(t *testing.T) {
	rows, labels := sample(1, 2000, 5, 0.1, linear)
	train := func(o Options) []byte {
		b, err := Train(t.Context(), names(5), rows, labels, o)
		require.NoError(t, err)
		return file(t, b)
	}
	first := train(Options{Seed: 7})
	require.True(t, bytes.Equal(first, train(Options{Seed: 7})), "equal seeds, equal bytes")
	require.False(t, bytes.Equal(first, train(Options{Seed: 8})), "the seed draws the rows")
	require.True(t, bytes.Equal(train(Options{Subsample: 1}), train(Options{Subsample: 1, Seed: 9})), "nothing is drawn")
}

// TestRoundTrip evaluates the file as the server will: the margins are the trainer's own in every bit, on rows it has seen, on
// new ones, and around every threshold.
func TestRoundTrip(t *testing.T) {
	for _, n := range []int{1, 60, 5000} {
		rows, labels := sample(3, n, 5, 0.2, linear)
		b, err := Train(t.Context(), names(5), rows, labels, Options{})
		require.NoError(t, err)
		m, err := gbdt.Parse(file(t, b))
		require.NoError(t, err)
		require.Equal(t, names(5), m.Signature().Inputs[0].Columns)

		fresh, _ := sample(4, 500, 5, 0.2, linear)
		rows = append(rows, fresh...)
		for _, tree := range b.trees {
			for _, s := range tree {
				if s.left < 0 {
					continue
				}
				for _, v := range []float32{
					s.value, math.Nextafter32(s.value, float32(math.Inf(-1))), math.Nextafter32(s.value, float32(math.Inf(1))),
				} {
					row := []float64{0, 0, 0, 0, 0}
					row[s.column] = float64(v)
					rows = append(rows, row)
				}
			}
		}
		var flat []float32
		for _, row := range rows {
			for _, v := range row {
				flat = append(flat, float32(v))
			}
		}
		margins := make([]float32, len(rows))
		require.NoError(t, m.Margins(margins, flat))
		for i, row := range rows {
			require.Equal(t, math.Float32bits(margins[i]), math.Float32bits(b.Margin(row)), "row %d of %d", i, n)
		}
	}
}

// TestTrainingMargins holds the sums that training continued, made from bins, against the tree walk on the values.
func TestTrainingMargins(t *testing.T) {
	rows, labels := sample(5, 3000, 5, 0.2, linear)
	o, err := Options{}.withDefaults()
	require.NoError(t, err)
	d, err := discretise(t.Context(), rows, 5, o.Bins)
	require.NoError(t, err)
	g := newGrower(d, o)
	b := &Booster{}
	margins := make([]float32, len(rows))
	random := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		require.NoError(t, g.gradients(t.Context(), margins, labels, random))
		tree, err := g.grow(t.Context())
		require.NoError(t, err)
		g.update(tree, margins)
		b.trees = append(b.trees, tree)
	}
	for i, row := range rows {
		require.Equal(t, math.Float32bits(b.Margin(row)), math.Float32bits(margins[i]), "row %d", i)
	}
}

// TestChildrenAddUp checks every tree's bookkeeping: hessians of children add up to their parent's and are at least the minimum.
func TestChildrenAddUp(t *testing.T) {
	rows, labels := sample(6, 3000, 5, 0.2, linear)
	b, err := Train(t.Context(), names(5), rows, labels, Options{MinChildWeight: 20, Depth: 4})
	require.NoError(t, err)
	require.Equal(t, 40, b.Trees())
	splits := 0
	for _, tree := range b.trees {
		require.LessOrEqual(t, len(tree), 31)
		for i, n := range tree {
			if n.left < 0 {
				continue
			}
			splits++
			left, right := tree[n.left], tree[n.right]
			require.InEpsilon(t, n.hessian, left.hessian+right.hessian, 1e-5)
			require.GreaterOrEqual(t, min(left.hessian, right.hessian), float32(20))
			require.Equal(t, int32(i), left.parent)
			require.Equal(t, int32(i), right.parent)
			require.Positive(t, n.gain)
		}
	}
	require.Greater(t, splits, 100)
}

func TestExtremes(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		rows   [][]float64
		labels []float64
		want   float64 // of the first row
	}{
		"one row":         {[][]float64{{1, 2}}, []float64{1}, 0.9999},
		"one class":       {[][]float64{{1, 2}, {3, 4}, {5, 6}}, []float64{0, 0, 0}, 0.0001},
		"constant":        {[][]float64{{1, 2}, {1, 2}, {1, 2}, {1, 2}}, []float64{0, 1, 0, 1}, 0.5},
		"nothing present": {[][]float64{{nan, nan}, {nan, nan}}, []float64{0, 1}, 0.5},
		"largest values":  {[][]float64{{math.MaxFloat32, 0}, {-math.MaxFloat32, 0}}, []float64{0, 1}, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Train(t.Context(), []string{"a", "b"}, c.rows, c.labels, Options{Subsample: 1})
			require.NoError(t, err)
			require.InDelta(t, c.want, sigmoid(float64(b.Margin(c.rows[0]))), 0.02)
			_, err = gbdt.Parse(file(t, b))
			require.NoError(t, err)
		})
	}
}

func TestRefuses(t *testing.T) {
	two, row := []string{"a", "b"}, [][]float64{{1, 2}}
	for _, c := range []struct {
		why     string
		columns []string
		rows    [][]float64
		labels  []float64
		o       Options
	}{
		{"no columns", nil, row, []float64{1}, Options{}},
		{"no rows", two, nil, nil, Options{}},
		{"2 labels for 1 rows", two, row, []float64{1, 0}, Options{}},
		{"row 0 has 2 values for 1 columns", two[:1], row, []float64{1}, Options{}},
		{"label 0 is 2", two, row, []float64{2}, Options{}},
		{"label 0 is NaN", two, row, []float64{math.NaN()}, Options{}},
		{`row 0, column "b": +Inf`, two, [][]float64{{1, math.Inf(1)}}, []float64{1}, Options{}},
		{`column "a": 1e+300 is not finite`, two, [][]float64{{1e300, 1}}, []float64{1}, Options{}},
		{"Rounds -1", two, row, []float64{1}, Options{Rounds: -1}},
		{"Depth 11", two, row, []float64{1}, Options{Depth: 11}},
		{"LearningRate 2", two, row, []float64{1}, Options{LearningRate: 2}},
		{"LearningRate NaN", two, row, []float64{1}, Options{LearningRate: math.NaN()}},
		{"MinChildWeight -1", two, row, []float64{1}, Options{MinChildWeight: -1}},
		{"Lambda +Inf", two, row, []float64{1}, Options{Lambda: math.Inf(1)}},
		{"Bins 256", two, row, []float64{1}, Options{Bins: 256}},
		{"Subsample 1.5", two, row, []float64{1}, Options{Subsample: 1.5}},
	} {
		b, err := Train(t.Context(), c.columns, c.rows, c.labels, c.o)
		require.ErrorContains(t, err, "trainer: ")
		require.ErrorContains(t, err, c.why)
		require.Nil(t, b)
	}
}

func TestPauseAndCancel(t *testing.T) {
	rows, labels := sample(1, 500, 3, 0, linear)
	pauses := 0
	b, err := Train(t.Context(), names(3), rows, labels, Options{Rounds: 10, Pause: func() { pauses++ }})
	require.NoError(t, err)
	require.Equal(t, 10, b.Trees())
	require.Equal(t, 9, pauses, "between trees")

	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	pauses = 0
	b, err = Train(ctx, names(3), rows, labels, Options{Rounds: 10, Pause: func() {
		if pauses++; pauses == 4 {
			cancel(cause)
		}
	}})
	require.ErrorIs(t, err, cause)
	require.Nil(t, b)
	require.Equal(t, 4, pauses)
}

// TestInputIsLent checks that neither rows nor labels are written to.
func TestInputIsLent(t *testing.T) {
	rows, labels := sample(1, 300, 3, 0.1, linear)
	again, againLabels := sample(1, 300, 3, 0.1, linear)
	_, err := Train(t.Context(), names(3), rows, labels, Options{})
	require.NoError(t, err)
	require.Equal(t, againLabels, labels)
	for i := range rows {
		for j := range rows[i] {
			require.Equal(t, math.Float64bits(again[i][j]), math.Float64bits(rows[i][j]))
		}
	}
}

func TestCuts(t *testing.T) {
	require.Nil(t, cutsOf(nil, 4))
	require.Equal(t, []float32{1}, cutsOf([]float32{1, 1, 1}, 4))
	require.Equal(t, []float32{1, 1.5, 3}, cutsOf([]float32{1, 1, 2, 4}, 4))
	require.Equal(t, []float32{1, 1.5}, cutsOf([]float32{1, 2, 2, 2, 2, 2, 2, 2, 2, 3}, 2))
	next := math.Nextafter32(1, 2)
	require.Equal(t, []float32{1, next}, cutsOf([]float32{1, next}, 4), "a threshold must part its neighbours")
	many := make([]float32, 1000)
	for i := range many {
		many[i] = float32(i)
	}
	cuts := cutsOf(many, 10)
	require.Equal(t, []float32{0, 99.5, 199.5, 299.5, 399.5, 499.5, 599.5, 699.5, 799.5, 899.5}, cuts)
}

func TestAUC(t *testing.T) {
	labels := []float64{0, 0, 1, 1}
	require.InDelta(t, 1.0, AUC([]float64{1, 2, 3, 4}, labels), 0)
	require.InDelta(t, 0.0, AUC([]float64{4, 3, 2, 1}, labels), 0)
	require.InDelta(t, 0.75, AUC([]float64{0.1, 0.4, 0.35, 0.8}, labels), 0) // pairs won: 3 of 4
	require.InDelta(t, 0.5, AUC([]float64{1, 1, 1, 1}, labels), 0)
	require.InDelta(t, 0.875, AUC([]float64{1, 2, 2, 3}, labels), 0) // three pairs won, one tied
	require.True(t, math.IsNaN(AUC([]float64{1, 2}, []float64{1, 1})))
	require.True(t, math.IsNaN(AUC([]float64{1, math.NaN()}, []float64{0, 1})))
	require.True(t, math.IsNaN(AUC(nil, nil)))
}

// TestFile pins the spelling that XGBoost needs: numbers of parameters as strings, floats with an exponent.
func TestFile(t *testing.T) {
	rows, labels := sample(1, 500, 3, 0, linear)
	b, err := Train(t.Context(), names(3), rows, labels, Options{Rounds: 2, Depth: 1})
	require.NoError(t, err)
	text := string(file(t, b))
	for _, part := range []string{
		`"version":[2,1,0]`, `"feature_names":["ca","cb","cc"]`, `"num_trees":"2"`, `"iteration_indptr":[0,1,2]`, `"tree_info":[0,0]`,
		`"num_feature":"3"`, `"objective":{"name":"binary:logistic"`, `"left_children":[1,-1,-1]`, `"right_children":[2,-1,-1]`,
		`"parents":[2147483647,0,0]`, `"categories":[]`, `"num_nodes":"3"`,
	} {
		require.Contains(t, text, part)
	}
	require.Equal(t, "5E-01", string(decimal(nil, 0.5)))
	require.Equal(t, 2, strings.Count(text, `"split_conditions":[`))
}

func BenchmarkTrain(b *testing.B) {
	rows, labels := sample(1, 50_000, 12, 0.05, linear)
	for b.Loop() {
		if _, err := Train(b.Context(), names(12), rows, labels, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
