package gbdt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/stretchr/testify/require"
)

type object = map[string]any

// edited is a good model (8 trees of 15 nodes, 6 features) with one change.
func edited(t testing.TB, change func(model object)) []byte {
	t.Helper()
	var m object
	require.NoError(t, json.Unmarshal(corpus(t, "xgb-3.2.0/binary-logistic/model.json"), &m))
	change(m)
	data, err := json.Marshal(m)
	require.NoError(t, err)
	return data
}

func at(o object, path ...string) object {
	for _, key := range path {
		o = o[key].(object)
	}
	return o
}

func trees(m object) []any {
	return at(m, "learner", "gradient_booster", "model")["trees"].([]any)
}

func tree(m object, i int) object { return trees(m)[i].(object) }

func TestMalformed(t *testing.T) {
	shorten := func(key string) func(object) {
		return func(m object) {
			a := tree(m, 0)[key].([]any)
			tree(m, 0)[key] = a[:len(a)-1]
		}
	}
	set := func(key string, i int, v any) func(object) {
		return func(m object) { tree(m, 0)[key].([]any)[i] = v }
	}
	learner := func(key string, v any) func(object) {
		return func(m object) { at(m, "learner", "learner_model_param")[key] = v }
	}
	for _, c := range []struct {
		name   string
		change func(object)
		why    string
	}{
		{"short left_children", shorten("left_children"), "tree 0: num_nodes is 15, but left_children has 14 entries"},
		{"short right_children", shorten("right_children"), "arrays of unequal length: left_children 15, right_children 14"},
		{"short split_indices", shorten("split_indices"), "split_indices 14"},
		{"short split_conditions", shorten("split_conditions"), "split_conditions 14"},
		{"short default_left", shorten("default_left"), "default_left 14"},
		{"short split_type", shorten("split_type"), "split_type has 14 entries for 15 nodes"},
		{"categorical node", set("split_type", 0, 1), "tree 0: node 0: split type 1 is not supported"},
		{"orphaned subtree", func(m object) {
			tree(m, 0)["left_children"].([]any)[1], tree(m, 0)["right_children"].([]any)[1] = -1, -1
		}, "not reached from the root and not marked as deleted"},
		{"self loop", set("right_children", 0, 0), "child 0 is reached a second time"},
		{"right child only", set("left_children", 0, -1), "node 0: child -1 of 15 nodes"},
		{"very negative child", set("left_children", 0, math.MinInt32), "child -2147483648 of 15 nodes"},
		{"negative feature", set("split_indices", 0, -1), "splits on feature -1"},
		{"deleted feature, reached", set("split_indices", 0, deleted), "splits on feature 2147483647 of 6"},
		{"default neither left nor right", set("default_left", 0, 2), "default_left is 2"},
		{"fractional child", set("left_children", 0, 1.5), "1.5 is not a 32-bit integer"},
		{"leaf too large", set("split_conditions", 14, 1e300), "does not fit a float32"},
		{"no tree_param", func(m object) { delete(tree(m, 0), "tree_param") }, "tree 0: no tree_param"},
		{"no id", func(m object) { delete(tree(m, 0), "id") }, "ids must be 0, 1, 2"},
		{"no nodes", func(m object) { at(tree(m, 0), "tree_param")["num_nodes"] = "0" }, `"0" is not a whole number of at least 1`},
		{"number of nodes not told", func(m object) {
			t := tree(m, 0)
			delete(at(t, "tree_param"), "num_nodes")
			for _, list := range []string{"left_children", "right_children", "split_indices", "split_conditions", "default_left"} {
				delete(t, list)
			}
			delete(t, "split_type")
		}, "tree 0: its tree_param has no num_nodes"},
		{"no version", func(m object) { delete(m, "version") }, "no version"},
		{"version 0.9", func(m object) { m["version"] = []int{0, 90, 0} }, "version 0.90.0"},
		{"no learner", func(m object) { delete(m, "learner") }, `no key "learner"`},
		{"tree missing", func(m object) {
			at(m, "learner", "gradient_booster", "model")["trees"] = trees(m)[:7]
		}, "num_trees is 8, but there are 7 trees"},
		{"tree_info short", func(m object) {
			at(m, "learner", "gradient_booster", "model")["tree_info"] = []int{0}
		}, "tree_info has 1 entries for 8 trees"},
		{"indptr descending", func(m object) {
			at(m, "learner", "gradient_booster", "model")["iteration_indptr"] = []int{0, 2, 1}
		}, "iteration_indptr[2] is 1"},
		{"indptr too far", func(m object) {
			at(m, "learner", "gradient_booster", "model")["iteration_indptr"] = []int{0, 9}
		}, "iteration_indptr[1] is 9"},
		{"no booster model", func(m object) { delete(at(m, "learner", "gradient_booster"), "model") }, "no gbtree_model_param"},
		{"dart without weights", func(m object) { at(m, "learner", "gradient_booster")["name"] = "dart" }, "weight_drop has 0 entries for 8 trees"},
		{"names short", func(m object) { at(m, "learner")["feature_names"] = []string{"a"} }, "1 feature names for 6 features"},
		{"no features", learner("num_feature", "0"), `"0" is not a whole number of at least 1`},
		{"very many features", learner("num_feature", "2147483647"), "num_feature is 2147483647"},
		{"very many classes", learner("num_class", "2147483647"), "2147483647 classes or targets"},
		{"base score unclosed", learner("base_score", "[1E-1"), "no closing bracket"},
		{"base score list unbracketed", learner("base_score", "1E-1,2E-1"), "is not a number or a list"},
		{"base score empty", learner("base_score", ""), "is not a number or a list"},
		{"base score NaN", learner("base_score", "NaN"), "has no finite margin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(edited(t, c.change))
			require.ErrorContains(t, err, c.why)
			require.ErrorIs(t, err, mlserve.ErrModelFile)
		})
	}
	_, err := Parse(edited(t, func(object) {}))
	require.NoError(t, err, "the model that is edited is good")
}

func TestMalformedText(t *testing.T) {
	good := string(corpus(t, "xgb-3.2.0/binary-logistic/model.json"))
	replaced := func(old, with string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, with, 1)
	}
	leaf := func(value string) string {
		data := edited(t, func(m object) { tree(m, 0)["split_conditions"].([]any)[14] = 123456.75 })
		return strings.Replace(string(data), "123456.75", value, 1)
	}
	for _, c := range []struct{ name, text, why string }{
		{"empty", " \n", "the file is empty"},
		{"html", "<html>", "not an XGBoost JSON model"},
		{"dump", `[{"nodeid":0}]`, "dump_model"},
		{"old binary", "binf\x00\x00", "old binary format"},
		{"LightGBM", "tree\nversion=v4\n", "LightGBM"},
		{"trailing", good + "{}", "more text after the model"},
		{"key twice", replaced(`"learner":{`, `"version":[3,2,0],"learner":{`), `key "version" comes twice`},
		{"list cut", replaced(`"split_indices":[`, `"split_indices":[,`), "learner.gradient_booster.model.trees.0.split_indices.0: byte"},
		{"NaN as feature", replaced(`"split_indices":[`, `"split_indices":[NaN,`), "where a number should be"},
		{"leaf NaN", leaf("NaN"), "tree 0: node 14: leaf value NaN is not finite"},
		{"leaf infinite", leaf("-Infinity"), "tree 0: node 14: leaf value -Inf is not finite"},
		{"deep, ignored key", replaced(`"attributes":{}`, `"attributes":`+strings.Repeat("[", 20000)), "nested deeper than 64"},
		{"deep objects, ignored key", replaced(`"attributes":{}`, `"attributes":`+strings.Repeat(`{"a":`, 20000)), "nested deeper than 64"},
		{"bad number", replaced(`"default_left":[`, `"default_left":[1.,`), "where a number should be"},
		{"open string", `{"learner`, "the string that starts here does not end"},
		{"escaped quote at the end", `{"learner\"`, "the string that starts here does not end"},
		{"bad escape", `{"\x":1}`, "bad escape"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			require.ErrorContains(t, err, c.why)
		})
	}
}

// TestEveryCut parses every beginning of a file: none may load, none may panic.
func TestEveryCut(t *testing.T) {
	good := bytes.TrimSpace(corpus(t, "xgb-3.2.0/base-score-given/model.json"))
	for i := range good {
		_, err := Parse(good[:i])
		require.ErrorIs(t, err, mlserve.ErrModelFile, "the first %d bytes", i)
	}
}

func TestSpellings(t *testing.T) {
	booleans := edited(t, func(m object) {
		for i := range trees(m) {
			flags := tree(m, i)["default_left"].([]any)
			for j, v := range flags {
				flags[j] = v.(float64) == 1
			}
		}
		delete(at(m, "learner", "learner_model_param"), "num_target")
		delete(at(m, "learner", "gradient_booster", "model"), "iteration_indptr")
		m["version"] = []int{1, 0, 0}
	})
	want, err := Parse(corpus(t, "xgb-3.2.0/binary-logistic/model.json"))
	require.NoError(t, err)
	got, err := Parse(booleans)
	require.NoError(t, err)
	require.Equal(t, want.nodes, got.nodes)

	escaped := edited(t, func(m object) {
		at(m, "learner")["feature_names"] = []string{`a"b`, "ü\n", `\`, "d", "e", "f"}
	})
	got, err = Parse(escaped)
	require.NoError(t, err)
	require.Equal(t, []string{`a"b`, "ü\n", `\`, "d", "e", "f"}, got.Signature().Inputs[0].Columns)
}

// TestMemory holds what parsing allocates against the size of the file, for files that claim more than they hold.
func TestMemory(t *testing.T) {
	files := [][]byte{
		corpus(t, "xgb-3.2.0/speed-100x6/model.json"),
		corpus(t, "bad/xgb-num-nodes-huge.json"),
		edited(t, func(m object) { at(m, "learner", "learner_model_param")["num_feature"] = "16777216" }),
		edited(t, func(m object) { at(m, "learner", "learner_model_param")["num_target"] = "4096" }),
		edited(t, func(m object) {
			at(m, "learner", "gradient_booster", "model", "gbtree_model_param")["num_trees"] = "2147483647"
		}),
		fmt.Appendf(nil, `{"learner":{"feature_names":[%s""]}}`, strings.Repeat(`"",`, 1<<18)),
		fmt.Appendf(nil, `{"learner":{"gradient_booster":{"weight_drop":[%s0]}}}`, strings.Repeat("0,", 1<<18)),
	}
	for i, data := range files {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		Parse(data)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<18+48*len(data)), "file %d of %d bytes", i, len(data))
	}
}

func TestLimits(t *testing.T) {
	data := corpus(t, "xgb-3.2.0/binary-logistic/model.json")
	m, err := Parse(data)
	require.NoError(t, err)
	nodes := len(m.nodes)
	_, err = parse(data, int64(len(data)), nodes)
	require.NoError(t, err)
	_, err = parse(data, int64(len(data))-1, nodes)
	require.ErrorContains(t, err, "larger than Loader.MaxBytes")
	_, err = parse(data, int64(len(data)), nodes-1)
	require.ErrorContains(t, err, "more than Loader.MaxNodes")
	_, err = parse(data, int64(len(data)), 3)
	require.ErrorContains(t, err, "more than 3 elements")
}

// FuzzParse wants no panic and no endless walk from any file, and an answer from every model that loads.
func FuzzParse(f *testing.F) {
	for _, name := range []string{
		"xgb-3.2.0/empty/model.json", "xgb-3.2.0/single-leaf/model.json", "xgb-1.7.6/base-score-given/model.json",
		"xgb-2.1.4/dart/model.json", "xgb-3.2.0/exact-pruned/model.json", "xgb-3.2.0/multi-softmax/model.json",
		"xgb-3.2.0/cat-onehot/model.json", "xgb-3.2.0/gblinear/model.json", "xgb-3.2.0/multi-output-vector/model.json",
		"bad/xgb-cycle.json", "bad/xgb-nan-threshold.json", "bad/xgb-truncated.json", "bad/xgb-pickle.bin",
	} {
		f.Add(corpus(f, name))
	}
	f.Add([]byte(`{"version":[3,2,0],"learner":{"attributes":{},"feature_names":["a","b"],"gradient_booster":{"name":"gbtree",` +
		`"model":{"gbtree_model_param":{"num_trees":"1"},"tree_info":[0],"trees":[{"id":0,"tree_param":{"num_nodes":"3"},` +
		`"left_children":[1,-1,-1],"right_children":[2,-1,-1],"split_indices":[1,0,0],"split_conditions":[0.5,-1,1],` +
		`"default_left":[1,0,0]}]}},"learner_model_param":{"base_score":"5E-1","num_class":"0","num_feature":"2"},` +
		`"objective":{"name":"binary:logistic"}}}`))
	f.Add([]byte(`{"version":[3,2,0],"learner":{"gradient_booster":{"name":"gbtree","model":{"trees":[{"id":0,"tree_param":{}}]}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data, 1<<20, 1<<16)
		if err != nil {
			require.ErrorIs(t, err, mlserve.ErrModelFile)
			return
		}
		if m.features > 1<<12 {
			return
		}
		row := make([]float32, m.features)
		out := make([]float64, m.outputs())
		for _, v := range []float64{0, -1, 0.5, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat32} {
			for i := range row {
				row[i] = float32(v)
			}
			require.NoError(t, m.Score(out, row))
		}
	})
}

// TestMutations changes single bytes of a good file, most of which leaves the syntax whole: a cheap, repeatable relative of FuzzParse.
func TestMutations(t *testing.T) {
	rounds := 2000
	if os.Getenv("MAINSTAY_SOAK") != "" {
		rounds = 200000
	}
	seed := bytes.TrimSpace(corpus(t, "xgb-2.1.4/dart/model.json"))
	state := uint64(1)
	random := func(n int) int {
		state = state*6364136223846793005 + 1442695040888963407
		return int(state>>33) % n
	}
	loaded := 0
	row := []float32{0.1, -2, float32(math.NaN()), 1, 3, 0}
	for range rounds {
		data := bytes.Clone(seed)
		for range 1 + random(3) {
			data[random(len(data))] = "0123456789-,.eE[]{}\""[random(20)]
		}
		m, err := Parse(data)
		if err != nil {
			continue
		}
		loaded++
		if m.features == len(row) {
			require.NoError(t, m.Score(make([]float64, m.outputs()), row))
		}
	}
	require.Positive(t, loaded)
	require.Less(t, loaded, rounds)
}
