package gbdt

import (
	"fmt"
	"slices"

	"github.com/mainstay-go/mainstay/mlserve"
)

// Model is a loaded model, a [mlserve.Model]. It is immutable: all its methods may be called at the same time. Make one with
// [Parse] or [Loader].
type Model struct {
	nodes     []node
	groups    [][]uint32 // per class or target: the roots of its trees, in file order
	base      []float32  // one margin for all groups, or one each
	features  int
	names     []string
	objective objective
}

var _ mlserve.Model = (*Model)(nil)

func newModel(f *file, o objective, base []float32, groups int) *Model {
	m := &Model{
		nodes: slices.Clip(f.forest.nodes), groups: make([][]uint32, groups), base: base,
		features: f.numFeature, names: f.names, objective: o,
	}
	for i, root := range f.forest.roots {
		g := f.groups[i]
		m.groups[g] = append(m.groups[g], root)
	}
	return m
}

// outputs is the number of predictions per row.
func (m *Model) outputs() int {
	if m.objective.output == softmax {
		return 1
	}
	return len(m.groups)
}

func (m *Model) start(g int) float32 {
	if len(m.base) == 1 {
		return m.base[0]
	}
	return m.base[g]
}

// rows checks the lengths of input and output and returns the number of rows.
func (m *Model) rows(out, in, width int) (int, error) {
	n := in / m.features
	if n*m.features != in {
		return 0, fmt.Errorf("gbdt: %w: %d values are no whole number of rows: the model has %d features", mlserve.ErrInput, in, m.features)
	}
	if out != n*width {
		return 0, fmt.Errorf("gbdt: %w: room for %d results, want %d: %d rows of %d", mlserve.ErrInput, out, n*width, n, width)
	}
	return n, nil
}

// Score writes the predictions of rows to out: what Booster.predict returns, each a float32 value. rows holds whole rows of as
// many values as the model has features, in its order, NaN for missing; it is not changed. out holds one value per row, or one
// per class or target for multi:softprob and models of several targets, row by row. The error, an
// [mlserve.ErrInput], means that the lengths do not fit and nothing was written. Score does not allocate.
func (m *Model) Score(out []float64, rows []float32) error {
	width := m.outputs()
	n, err := m.rows(len(out), len(rows), width)
	if err != nil {
		return err
	}
	for i := range n {
		m.predict(out[i*width:(i+1)*width], rows[i*m.features:(i+1)*m.features])
	}
	return nil
}

func (m *Model) predict(out []float64, row []float32) {
	if m.objective.output == softmax {
		out[0] = m.class(row)
		return
	}
	for g := range out {
		out[g] = float64(m.sum(g, row, m.start(g)))
	}
	m.objective.output.transform(out)
}

// class is the first group with the greatest margin.
func (m *Model) class(row []float32) float64 {
	best, top := 0, m.sum(0, row, m.start(0))
	for g := 1; g < len(m.groups); g++ {
		if s := m.sum(g, row, m.start(g)); s > top {
			best, top = g, s
		}
	}
	return float64(best)
}

// Margins writes the raw sums of the trees to out: what Booster.predict(output_margin=True) returns, in the same bits. rows is
// as for [Model.Score]; out holds, row by row, one value per class (also for multi:softmax) or target. It does not allocate.
func (m *Model) Margins(out, rows []float32) error {
	width := len(m.groups)
	n, err := m.rows(len(out), len(rows), width)
	if err != nil {
		return err
	}
	for i := range n {
		row := rows[i*m.features : (i+1)*m.features]
		for g := range width {
			out[i*width+g] = m.sum(g, row, m.start(g))
		}
	}
	return nil
}

// sum adds the leaves of a group's trees to a margin, in file order. Four trees are walked at a time, because a walk is a chain
// of loads that wait for each other and four chains wait together.
func (m *Model) sum(g int, row []float32, margin float32) float32 {
	nodes, roots := m.nodes, m.groups[g]
	for ; len(roots) >= 4; roots = roots[4:] {
		a, b, c, d := &nodes[roots[0]], &nodes[roots[1]], &nodes[roots[2]], &nodes[roots[3]]
		for a.mask|b.mask|c.mask|d.mask != 0 {
			a, b, c, d = a.next(nodes, row), b.next(nodes, row), c.next(nodes, row), d.next(nodes, row)
		}
		margin += a.cond
		margin += b.cond
		margin += c.cond
		margin += d.cond
	}
	for _, root := range roots {
		a := &nodes[root]
		for a.mask != 0 {
			a = a.next(nodes, row)
		}
		margin += a.cond
	}
	return margin
}

func (n *node) next(nodes []node, row []float32) *node {
	x := row[n.feature]
	right := uint8(1)
	if x < n.cond {
		right = 0
	}
	if x != x {
		right = n.missing
	}
	return &nodes[n.left+uint32(right&n.mask)]
}
