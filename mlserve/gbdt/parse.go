package gbdt

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mainstay-go/mainstay/mlserve"
)

const (
	defaultMaxBytes = 256 << 20
	defaultMaxNodes = 8 << 20
	maxFeatures     = 1 << 24
	maxGroups       = 1 << 12 // classes or targets: an output row is allocated from this claim
	noLimit         = math.MaxInt32
)

// file is what a model file says, before its parts are held against each other.
type file struct {
	version []int32
	learner bool

	booster    string
	model      bool // the booster is made of trees
	parallel   int
	numTrees   int
	forest     forest
	groups     []int32 // per tree
	indptr     []int32
	weightDrop []float32

	baseScore  string
	numClass   int
	numFeature int
	numTarget  int

	objective string
	names     []string
}

// Parse reads an XGBoost JSON model with the default limits of [Loader]. The bytes are not kept. Errors
// wrap [mlserve.ErrModelFile] and say what is wrong and where (tree and node, or key and byte).
func Parse(data []byte) (*Model, error) {
	return parse(data, defaultMaxBytes, defaultMaxNodes)
}

func parse(data []byte, maxBytes int64, maxNodes int) (*Model, error) {
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("gbdt: %w: larger than Loader.MaxBytes %d", mlserve.ErrModelFile, maxBytes)
	}
	m, err := readModel(data, maxNodes)
	if err != nil {
		return nil, fmt.Errorf("gbdt: %w: %w", mlserve.ErrModelFile, err)
	}
	return m, nil
}

func readModel(data []byte, maxNodes int) (*Model, error) {
	if err := foreign(data); err != nil {
		return nil, err
	}
	r := &reader{data: data}
	f := &file{forest: forest{maxNodes: maxNodes}}
	if err := f.read(r); err != nil {
		return nil, err
	}
	if r.peek() != 0 || r.pos < len(data) {
		return nil, r.errorf("more text after the model")
	}
	return f.build()
}

// foreign names the formats that are often mistaken for this one.
func foreign(data []byte) error {
	head := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(head) == 0:
		return errors.New("the file is empty")
	case head[0] == 0x80:
		return errors.New("a Python pickle: refused, pickles can run code; save with Booster.save_model(\"model.json\")")
	case len(head) > 1 && head[0] == '{' && strings.IndexByte("LiUIl#$", head[1]) >= 0:
		return errors.New("a UBJSON file: not supported; save with Booster.save_model(\"model.json\")")
	case bytes.HasPrefix(head, []byte("binf")), bytes.HasPrefix(head, []byte("bs64")):
		return errors.New("XGBoost's old binary format: not supported; save with Booster.save_model(\"model.json\")")
	case bytes.HasPrefix(head, []byte("tree\n")), bytes.HasPrefix(head, []byte("tree\r\n")):
		return errors.New("a LightGBM text model: not supported")
	case head[0] == '[':
		return errors.New("a JSON array, such as dump_model writes: it lacks base score and objective; save with Booster.save_model(\"model.json\")")
	case head[0] != '{':
		return fmt.Errorf("not an XGBoost JSON model: it starts with %q", head[:min(len(head), 8)])
	}
	return nil
}

func (f *file) read(r *reader) error {
	return r.object(func(key string) (err error) {
		switch key {
		case "version":
			f.version, err = list(r, f.version, 3, r.integer)
		case "learner":
			f.learner = true
			err = f.readLearner(r)
		default:
			err = r.skip()
		}
		return err
	})
}

func (f *file) readLearner(r *reader) error {
	return r.object(func(key string) (err error) {
		switch key {
		case "feature_names":
			f.names, err = list(r, f.names, maxFeatures, r.text)
		case "gradient_booster":
			err = f.readBooster(r)
		case "learner_model_param":
			err = r.object(func(key string) (err error) {
				switch key {
				case "base_score":
					f.baseScore, err = r.text()
				case "num_class":
					f.numClass, err = r.count(0)
				case "num_feature":
					f.numFeature, err = r.count(1)
				case "num_target":
					f.numTarget, err = r.count(0)
				default:
					err = r.skip()
				}
				return err
			})
		case "objective":
			err = r.object(func(key string) (err error) {
				if key == "name" {
					f.objective, err = r.text()
					return err
				}
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
}

// readBooster reads gradient_booster. DART keeps a whole gbtree booster inside its own.
func (f *file) readBooster(r *reader) error {
	return r.object(func(key string) (err error) {
		switch key {
		case "name":
			f.booster, err = r.text()
		case "weight_drop":
			f.weightDrop, err = list(r, f.weightDrop, noLimit, r.float)
		case "model":
			err = f.readTrees(r)
		case "gbtree":
			err = r.object(func(key string) error {
				if key == "model" {
					return f.readTrees(r)
				}
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
}

func (f *file) readTrees(r *reader) error {
	if f.model {
		return r.errorf("a second list of trees")
	}
	return r.object(func(key string) (err error) {
		switch key {
		case "gbtree_model_param":
			f.model = true
			err = r.object(func(key string) (err error) {
				switch key {
				case "num_parallel_tree":
					f.parallel, err = r.count(0)
				case "num_trees":
					f.numTrees, err = r.count(0)
				default:
					err = r.skip()
				}
				return err
			})
		case "tree_info":
			f.groups, err = list(r, f.groups, noLimit, r.integer)
		case "iteration_indptr":
			f.indptr, err = list(r, f.indptr, noLimit, r.integer)
		case "trees":
			var raw rawTree
			err = r.array(func(i int) error {
				if err := raw.read(r, f.forest.maxNodes); err != nil {
					return err
				}
				if err := f.forest.add(i, &raw); err != nil {
					return fmt.Errorf("tree %d: %w", i, err)
				}
				return nil
			})
		default:
			err = r.skip()
		}
		return err
	})
}

// count reads a whole number of at least low. XGBoost writes the numbers of its parameter objects as strings.
func (r *reader) count(low int) (int, error) {
	s, err := r.text()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil || int(v) < low {
		return 0, r.errorf("%q is not a whole number of at least %d", clip(s), low)
	}
	return int(v), nil
}

// build holds the parts of the file against each other and makes the model.
func (f *file) build() (*Model, error) {
	switch {
	case !f.learner:
		return nil, errors.New("not an XGBoost model: no key \"learner\"")
	case len(f.version) != 3:
		return nil, errors.New("no version of three numbers: not written by save_model")
	case f.version[0] < 1 || f.version[0] > 3:
		return nil, fmt.Errorf("version %d.%d.%d: known are 1, 2 and 3", f.version[0], f.version[1], f.version[2])
	case f.booster != "gbtree" && f.booster != "dart":
		return nil, fmt.Errorf("booster %q is not supported: gbtree and dart are", clip(f.booster))
	case !f.model:
		return nil, errors.New("gradient_booster has no gbtree_model_param")
	case f.numFeature < 1 || f.numFeature > maxFeatures:
		return nil, fmt.Errorf("num_feature is %d, not within 1 and %d", f.numFeature, maxFeatures)
	case len(f.names) != 0 && len(f.names) != f.numFeature:
		return nil, fmt.Errorf("%d feature names for %d features", len(f.names), f.numFeature)
	}
	objective, err := findObjective(f.objective)
	if err != nil {
		return nil, err
	}
	groups := max(f.numClass, f.numTarget, 1)
	switch {
	case groups > maxGroups:
		return nil, fmt.Errorf("%d classes or targets, more than %d", groups, maxGroups)
	case objective.classes && (f.numClass < 1 || f.numTarget > 1):
		return nil, fmt.Errorf("objective %s with num_class %d and num_target %d", f.objective, f.numClass, f.numTarget)
	}
	if err := f.checkTrees(groups); err != nil {
		return nil, err
	}
	base, err := baseMargins(f.baseScore, objective)
	if err != nil {
		return nil, err
	}
	if len(base) != 1 && len(base) != groups {
		return nil, fmt.Errorf("%d base scores for %d groups", len(base), groups)
	}
	return newModel(f, objective, base, groups), nil
}

// checkTrees holds the lists that run along the trees against the trees, and applies DART's weights.
func (f *file) checkTrees(groups int) error {
	n := len(f.forest.roots)
	switch {
	case f.numTrees != n:
		return fmt.Errorf("num_trees is %d, but there are %d trees", f.numTrees, n)
	case len(f.groups) != n:
		return fmt.Errorf("tree_info has %d entries for %d trees", len(f.groups), n)
	}
	for i, g := range f.groups {
		if g < 0 || int(g) >= groups {
			return fmt.Errorf("tree %d belongs to group %d of %d", i, g, groups)
		}
	}
	if at := f.forest.widest; at.feature >= int32(f.numFeature) {
		return fmt.Errorf("tree %d, node %d: splits on feature %d of %d", at.tree, at.node, at.feature, f.numFeature)
	}
	for i, at := range f.indptr {
		if at < 0 || int(at) > n || (i > 0 && at < f.indptr[i-1]) {
			return fmt.Errorf("iteration_indptr[%d] is %d: not an ascending list of trees up to %d", i, at, n)
		}
	}
	if f.booster != "dart" {
		return nil
	}
	if len(f.weightDrop) != n {
		return fmt.Errorf("weight_drop has %d entries for %d trees", len(f.weightDrop), n)
	}
	return f.forest.weigh(f.weightDrop)
}

// baseMargins reads base_score, one number or from 3.1 on a list in brackets, and takes it through the objective's link.
func baseMargins(s string, o objective) ([]float32, error) {
	inner, listed := strings.CutPrefix(s, "[")
	if listed {
		var closed bool
		if inner, closed = strings.CutSuffix(inner, "]"); !closed {
			return nil, fmt.Errorf("base_score %q: no closing bracket", clip(s))
		}
	}
	var base []float32
	for part := range strings.SplitSeq(inner, ",") {
		score, err := strconv.ParseFloat(strings.TrimSpace(part), 32)
		if err != nil || len(base) > 0 && !listed {
			return nil, fmt.Errorf("base_score %q is not a number or a list of numbers", clip(s))
		}
		margin := o.link(float32(score))
		if margin-margin != 0 {
			return nil, fmt.Errorf("base_score %s has no finite margin under objective %s", clip(part), o.name)
		}
		if len(base) == maxGroups {
			return nil, fmt.Errorf("more than %d base scores", maxGroups)
		}
		base = append(base, margin)
	}
	return base, nil
}
