package gbdt_test

import (
	"context"
	"fmt"
	"math"
	"testing/fstest"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/gbdt"
)

// One tree over two features: visits < 3 (missing: left) gives -1, else +1.
const stump = `{"version": [3, 2, 0], "learner": {
	"attributes": {}, "feature_names": ["age", "visits"], "feature_types": ["float", "float"],
	"gradient_booster": {"name": "gbtree", "model": {
		"gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "1"}, "iteration_indptr": [0, 1], "tree_info": [0],
		"trees": [{"id": 0, "tree_param": {"num_deleted": "0", "num_feature": "2", "num_nodes": "3", "size_leaf_vector": "1"},
			"left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [1, 0, 0],
			"split_conditions": [3, -1, 1], "default_left": [1, 0, 0]}]}},
	"learner_model_param": {"base_score": "[5E-1]", "num_class": "0", "num_feature": "2", "num_target": "1"},
	"objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}}}`

func ExampleParse() {
	m, err := gbdt.Parse([]byte(stump))
	if err != nil {
		fmt.Println(err)
		return
	}
	missing := float32(math.NaN())
	rows := []float32{
		30, 1,
		30, 5,
		30, missing,
	}
	margins, scores := make([]float32, 3), make([]float64, 3)
	if err := m.Margins(margins, rows); err != nil {
		fmt.Println(err)
	}
	if err := m.Score(scores, rows); err != nil {
		fmt.Println(err)
	}
	fmt.Println(m.Signature().Inputs[0].Columns)
	fmt.Println(margins)
	fmt.Printf("%.3f\n", scores)
	// Output:
	// [age visits]
	// [-1 1 -1]
	// [0.269 0.731 0.269]
}

func ExampleLoader() {
	ctx := context.Background()
	files := fstest.MapFS{"model.json": {Data: []byte(stump)}}
	manifest := mlserve.Manifest{Model: "ranker", Version: "1", SHA256: map[string]string{"model.json": "…"}}

	m, err := gbdt.Loader{}.Load(ctx, files, manifest)
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := m.Predict(ctx, mlserve.Rows([]float64{30, 1}, []float64{30, 5}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(out[0].Name, out[0].Shape, out[0].Data)

	_, err = gbdt.Loader{MaxBytes: 100}.Load(ctx, files, manifest)
	fmt.Println(err)
	// Output:
	// output [2] [0.26894143 0.7310586]
	// gbdt: bad model file: larger than Loader.MaxBytes 100
}
