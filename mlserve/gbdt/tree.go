package gbdt

import (
	"errors"
	"fmt"
)

// deleted marks a node the pruner removed: it stays in the arrays and is reached by nobody.
const deleted = 1<<31 - 1

// node is one split or leaf, 16 bytes. The children of a split are neighbours, so one index and the outcome of the comparison
// find the next node. A leaf leads to itself: trees of different depth can be walked side by side without asking which ended.
type node struct {
	cond    float32 // threshold, or a leaf's value
	feature int32   // a leaf asks feature 0 and ignores the answer
	left    uint32
	missing uint8 // where NaN goes: 0 left, 1 right
	mask    uint8 // 1 for a split, 0 for a leaf
}

// forest is all trees of a file, their reachable nodes in one array.
type forest struct {
	nodes    []node
	roots    []uint32 // per tree, in file order
	maxNodes int
	widest   struct{ feature, tree, node int32 } // the highest feature asked for, and where

	order []int32 // scratch of add
	seen  []bool
}

// rawTree is a tree as the file has it: parallel arrays, one entry per node. Its arrays are reused from tree to tree.
type rawTree struct {
	id                   int32
	numNodes, leafWidth  int
	left, right, feature []int32
	cond                 []float32
	missing, kind        []int32
	hasID, hasParam      bool
	categories, vector   bool
}

func (t *rawTree) read(r *reader, maxNodes int) error {
	*t = rawTree{
		left: t.left[:0], right: t.right[:0], feature: t.feature[:0],
		cond: t.cond[:0], missing: t.missing[:0], kind: t.kind[:0],
	}
	return r.object(func(key string) (err error) {
		switch key {
		case "id":
			t.hasID = true
			t.id, err = r.integer()
		case "left_children":
			t.left, err = list(r, t.left, maxNodes, r.integer)
		case "right_children":
			t.right, err = list(r, t.right, maxNodes, r.integer)
		case "split_indices":
			t.feature, err = list(r, t.feature, maxNodes, r.integer)
		case "split_conditions":
			t.cond, err = list(r, t.cond, maxNodes, r.float)
		case "default_left":
			t.missing, err = list(r, t.missing, maxNodes, r.integer)
		case "split_type":
			t.kind, err = list(r, t.kind, maxNodes, r.integer)
		case "categories_nodes":
			t.categories, err = r.occupied()
		case "leaf_weights":
			t.vector, err = r.occupied()
		case "tree_param":
			t.hasParam = true
			err = r.object(func(key string) (err error) {
				switch key {
				case "num_nodes":
					t.numNodes, err = r.count(1)
				case "size_leaf_vector":
					t.leafWidth, err = r.count(0)
				default:
					err = r.skip()
				}
				return err
			})
		default:
			err = r.skip()
		}
		return err
	})
}

// occupied skips an array and reports whether it had elements.
func (r *reader) occupied() (bool, error) {
	var some bool
	err := r.array(func(int) error {
		some = true
		return r.skip()
	})
	return some, err
}

func (t *rawTree) check(position int) error {
	n := len(t.left)
	switch {
	case !t.hasParam:
		return errors.New("no tree_param")
	case !t.hasID || int(t.id) != position:
		return fmt.Errorf("its id is %d: ids must be 0, 1, 2, … in order", t.id)
	case t.leafWidth > 1 || t.vector:
		return errors.New("vector leaves (multi_strategy=multi_output_tree) are not supported")
	case t.categories:
		return errors.New("categorical splits are not supported")
	case t.numNodes < 1: // the count that is there is at least 1
		return errors.New("its tree_param has no num_nodes")
	case n != t.numNodes:
		return fmt.Errorf("num_nodes is %d, but left_children has %d entries", t.numNodes, n)
	case len(t.right) != n, len(t.feature) != n, len(t.cond) != n, len(t.missing) != n:
		return fmt.Errorf("arrays of unequal length: left_children %d, right_children %d, split_indices %d, split_conditions %d, default_left %d",
			n, len(t.right), len(t.feature), len(t.cond), len(t.missing))
	case len(t.kind) != 0 && len(t.kind) != n:
		return fmt.Errorf("split_type has %d entries for %d nodes", len(t.kind), n)
	}
	return nil
}

// add appends a tree's reachable nodes level by level, children side by side, and checks that they are a tree.
func (f *forest) add(position int, t *rawTree) error {
	if err := t.check(position); err != nil {
		return err
	}
	n := len(t.left)
	if len(f.nodes)+n > f.maxNodes {
		return fmt.Errorf("more than Loader.MaxNodes %d nodes", f.maxNodes)
	}
	root := uint32(len(f.nodes))
	f.seen = append(f.seen[:0], make([]bool, n)...)
	f.seen[0] = true
	f.order = append(f.order[:0], 0)
	for at := 0; at < len(f.order); at++ {
		i := f.order[at]
		here := node{cond: t.cond[i], left: root + uint32(at)}
		if t.left[i] == -1 && t.right[i] == -1 {
			if here.cond-here.cond != 0 {
				return fmt.Errorf("node %d: leaf value %v is not finite", i, here.cond)
			}
			f.nodes = append(f.nodes, here)
			continue
		}
		if err := t.checkSplit(i); err != nil {
			return err
		}
		here.feature, here.left, here.mask = t.feature[i], root+uint32(len(f.order)), 1
		if t.missing[i] == 0 {
			here.missing = 1
		}
		if here.feature > f.widest.feature {
			f.widest.feature, f.widest.tree, f.widest.node = here.feature, int32(position), i
		}
		for _, child := range [2]int32{t.left[i], t.right[i]} {
			if f.seen[child] {
				return fmt.Errorf("node %d: child %d is reached a second time: a cycle or a shared node, not a tree", i, child)
			}
			f.seen[child] = true
			f.order = append(f.order, child)
		}
		f.nodes = append(f.nodes, here)
	}
	for i, reached := range f.seen {
		if !reached && t.feature[i] != deleted {
			return fmt.Errorf("node %d: not reached from the root and not marked as deleted", i)
		}
	}
	f.roots = append(f.roots, root)
	return nil
}

func (t *rawTree) checkSplit(i int32) error {
	for _, child := range [2]int32{t.left[i], t.right[i]} {
		if child < 0 || int(child) >= len(t.left) {
			return fmt.Errorf("node %d: child %d of %d nodes", i, child, len(t.left))
		}
	}
	switch {
	case len(t.kind) != 0 && t.kind[i] != 0:
		return fmt.Errorf("node %d: split type %d is not supported: numeric splits are", i, t.kind[i])
	case t.cond[i] != t.cond[i]:
		return fmt.Errorf("node %d: the threshold is not a number", i)
	case t.feature[i] < 0:
		return fmt.Errorf("node %d: splits on feature %d", i, t.feature[i])
	case t.missing[i] != 0 && t.missing[i] != 1:
		return fmt.Errorf("node %d: default_left is %d, not 0 or 1", i, t.missing[i])
	}
	return nil
}

// weigh multiplies each tree's leaves by its weight. DART sums float32(leaf*weight), so doing it once here gives the same bits.
func (f *forest) weigh(weights []float32) error {
	for i, root := range f.roots {
		end := uint32(len(f.nodes))
		if i+1 < len(f.roots) {
			end = f.roots[i+1]
		}
		for j := root; j < end; j++ {
			n := &f.nodes[j]
			if n.mask != 0 {
				continue
			}
			if n.cond *= weights[i]; n.cond-n.cond != 0 {
				return fmt.Errorf("tree %d: weight_drop %v makes a leaf that is not finite", i, weights[i])
			}
		}
	}
	return nil
}
