package trainer

import (
	"encoding/json"
	"io"
	"strconv"
)

// WriteJSON writes the model in the spelling of XGBoost 2.1, which 1.7 to 3.x read.
func (b *Booster) WriteJSON(w io.Writer) error {
	trees := make([]jsonTree, len(b.trees))
	boundaries := make([]int, len(b.trees)+1)
	for i, t := range b.trees {
		trees[i] = t.json(i, len(b.columns))
		boundaries[i+1] = i + 1
	}
	types := make([]string, len(b.columns))
	for i := range types {
		types[i] = "float"
	}
	return json.NewEncoder(w).Encode(object{
		"version": []int{2, 1, 0},
		"learner": object{
			"attributes":    object{},
			"feature_names": b.columns,
			"feature_types": types,
			"gradient_booster": object{
				"name": "gbtree",
				"model": object{
					"gbtree_model_param": object{"num_parallel_tree": "1", "num_trees": strconv.Itoa(len(trees))},
					"iteration_indptr":   boundaries,
					"tree_info":          make([]int, len(trees)),
					"trees":              trees,
				},
			},
			"learner_model_param": object{
				"base_score": string(decimal(nil, b.baseScore)), "boost_from_average": "0",
				"num_class": "0", "num_feature": strconv.Itoa(len(b.columns)), "num_target": "1",
			},
			"objective": object{"name": "binary:logistic", "reg_loss_param": object{"scale_pos_weight": "1"}},
		},
	})
}

type object = map[string]any

type jsonTree struct {
	BaseWeights        floats            `json:"base_weights"`
	Categories         []int             `json:"categories"`
	CategoriesNodes    []int             `json:"categories_nodes"`
	CategoriesSegments []int             `json:"categories_segments"`
	CategoriesSizes    []int             `json:"categories_sizes"`
	DefaultLeft        []int             `json:"default_left"`
	ID                 int               `json:"id"`
	LeftChildren       []int32           `json:"left_children"`
	LossChanges        floats            `json:"loss_changes"`
	Parents            []int32           `json:"parents"`
	RightChildren      []int32           `json:"right_children"`
	SplitConditions    floats            `json:"split_conditions"`
	SplitIndices       []int32           `json:"split_indices"`
	SplitType          []int             `json:"split_type"`
	SumHessian         floats            `json:"sum_hessian"`
	TreeParam          map[string]string `json:"tree_param"`
}

func (t tree) json(id, columns int) jsonTree {
	const noParent = 1<<31 - 1
	none := []int{}
	j := jsonTree{
		ID: id, DefaultLeft: make([]int, len(t)), SplitType: make([]int, len(t)),
		Categories: none, CategoriesNodes: none, CategoriesSegments: none, CategoriesSizes: none,
		TreeParam: map[string]string{
			"num_deleted": "0", "num_feature": strconv.Itoa(columns), "num_nodes": strconv.Itoa(len(t)), "size_leaf_vector": "1",
		},
	}
	for i, n := range t {
		if n.parent < 0 {
			n.parent = noParent
		}
		if n.missingLeft {
			j.DefaultLeft[i] = 1
		}
		j.BaseWeights = append(j.BaseWeights, n.weight)
		j.LeftChildren = append(j.LeftChildren, n.left)
		j.LossChanges = append(j.LossChanges, n.gain)
		j.Parents = append(j.Parents, n.parent)
		j.RightChildren = append(j.RightChildren, n.right)
		j.SplitConditions = append(j.SplitConditions, n.value)
		j.SplitIndices = append(j.SplitIndices, n.column)
		j.SumHessian = append(j.SumHessian, n.hessian)
	}
	return j
}

// floats are written with an exponent and the digits a float32 needs: XGBoost takes a number without either for an integer, and
// refuses one in their place.
type floats []float32

// MarshalJSON implements [json.Marshaler].
func (f floats) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, v := range f {
		if i > 0 {
			out = append(out, ',')
		}
		out = decimal(out, v)
	}
	return append(out, ']'), nil
}

func decimal(dst []byte, v float32) []byte {
	return strconv.AppendFloat(dst, float64(v), 'E', -1, 32)
}
