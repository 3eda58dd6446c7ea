package trainer

import (
	"context"
	"math"
	"math/rand/v2"
)

// minGain is the least decrease of the loss that is worth a split.
const minGain = 1e-6

// split is one node of a tree: a leaf if left is -1.
type split struct {
	parent, left, right int32
	column              int32
	cut                 int32   // index of the threshold among the column's cuts
	value               float32 // the threshold, or a leaf's contribution
	missingLeft         bool
	gain, hessian       float32
	weight              float32 // the node's optimum before the learning rate; of a leaf, its value
}

type tree []split

// leaf walks the tree as XGBoost does: float32, left if less, NaN by default.
func (t tree) leaf(row []float64) float32 {
	n := &t[0]
	for n.left >= 0 {
		x := float32(row[n.column])
		if x < n.value || (x != x && n.missingLeft) {
			n = &t[n.left]
		} else {
			n = &t[n.right]
		}
	}
	return n.value
}

// sums of gradients and hessians of the loss, over some rows.
type sums struct{ g, h float64 }

func (s sums) minus(o sums) sums { return sums{s.g - o.g, s.h - o.h} }
func (s sums) plus(o sums) sums  { return sums{s.g + o.g, s.h + o.h} }

// grower holds what the trees share: the data, and buffers that are reused.
type grower struct {
	*table
	o         Options
	loss      []sums // per row
	sample    []int32
	spare     []int32
	histogram int // bins of all columns together, each maxBins+1 wide
	free      [][]sums
}

func newGrower(d *table, o Options) *grower {
	return &grower{table: d, o: o, loss: make([]sums, d.rows), histogram: d.columns * (maxBins + 1)}
}

// gradients takes the derivatives of the loss at the margins and draws the rows of the next tree.
func (g *grower) gradients(ctx context.Context, margins []float32, labels []float64, random *rand.Rand) error {
	g.sample = g.sample[:0]
	for i, m := range margins {
		if i%yieldEvery == 0 {
			if err := yield(ctx); err != nil {
				return err
			}
		}
		p := 1 / (1 + math.Exp(-float64(m)))
		g.loss[i] = sums{p - labels[i], max(p*(1-p), 1e-16)}
		if g.o.Subsample == 1 || random.Float64() < g.o.Subsample {
			g.sample = append(g.sample, int32(i))
		}
	}
	return nil
}

// part is a node that may still be split: its place in the tree, its rows and their histogram.
type part struct {
	node      int32
	rows      []int32
	total     sums
	histogram []sums
}

// grow makes a tree from the current gradients, level by level.
func (g *grower) grow(ctx context.Context) (tree, error) {
	root := part{rows: g.sample}
	for _, r := range root.rows {
		root.total = root.total.plus(g.loss[r])
	}
	var err error
	if root.histogram, err = g.fill(ctx, root.rows); err != nil {
		return nil, err
	}
	t := tree{g.node(-1, root.total)}
	level := []part{root}
	for range g.o.Depth {
		var next []part
		for _, p := range level {
			at, ok := g.best(p)
			if !ok {
				g.release(p.histogram)
				continue
			}
			left, right, err := g.divide(ctx, p, at)
			if err != nil {
				return nil, err
			}
			n := &t[p.node]
			n.left, n.right = int32(len(t)), int32(len(t)+1)
			n.column, n.cut, n.missingLeft, n.gain = int32(at.column), int32(at.cut), at.missingLeft, float32(at.gain)
			n.value = g.cuts[at.column][at.cut]
			left.node, right.node = n.left, n.right
			t = append(t, g.node(p.node, left.total), g.node(p.node, right.total))
			next = append(next, left, right)
		}
		level = next
	}
	for _, p := range level {
		g.release(p.histogram)
	}
	for i := range t {
		if n := &t[i]; n.left < 0 {
			n.value = float32(float64(n.weight) * g.o.LearningRate)
			n.weight = n.value
		}
	}
	return t, nil
}

func (g *grower) node(parent int32, s sums) split {
	return split{parent: parent, left: -1, right: -1, hessian: float32(s.h), weight: float32(-s.g / (s.h + g.o.Lambda))}
}

// candidate is a way to split a part.
type candidate struct {
	gain        float64
	column, cut int
	missingLeft bool
	left        sums
}

// best looks at every cut of every column, with the missing on either side. The first of equals wins.
func (g *grower) best(p part) (candidate, bool) {
	score := func(s sums) float64 { return s.g * s.g / (s.h + g.o.Lambda) }
	whole := score(p.total)
	found := candidate{gain: minGain}
	ok := false
	try := func(column, cut int, left sums, missingLeft bool) {
		right := p.total.minus(left)
		if left.h < g.o.MinChildWeight || right.h < g.o.MinChildWeight {
			return
		}
		if gain := score(left) + score(right) - whole; gain > found.gain {
			found, ok = candidate{gain, column, cut, missingLeft, left}, true
		}
	}
	for column, cuts := range g.cuts {
		h := p.histogram[column*(maxBins+1):]
		absent := h[missing]
		var below sums // of the present values under the cut
		for cut := range cuts {
			if cut > 0 {
				below = below.plus(h[cut])
			}
			if absent.h <= 1e-9*p.total.h { // what subtraction leaves of none
				// Those to come go with the many.
				try(column, cut, below, below.h > p.total.h/2)
				continue
			}
			try(column, cut, below.plus(absent), true)
			try(column, cut, below, false)
		}
	}
	return found, ok
}

// divide parts the rows, in order, fills the smaller side's histogram and subtracts it from the parent's for the other.
func (g *grower) divide(ctx context.Context, p part, at candidate) (left, right part, err error) {
	g.spare = g.spare[:0]
	kept := p.rows[:0]
	for _, r := range p.rows {
		if at.goesLeft(g.bins[int(r)*g.columns+at.column]) {
			kept = append(kept, r)
		} else {
			g.spare = append(g.spare, r)
		}
	}
	n := len(kept)
	copy(p.rows[n:], g.spare)
	left = part{rows: p.rows[:n:n], total: at.left}
	right = part{rows: p.rows[n:], total: p.total.minus(at.left)}
	small, large := &left, &right
	if len(left.rows) > len(right.rows) {
		small, large = &right, &left
	}
	if small.histogram, err = g.fill(ctx, small.rows); err != nil {
		return left, right, err
	}
	large.histogram = p.histogram
	for i, s := range small.histogram {
		large.histogram[i] = large.histogram[i].minus(s)
	}
	return left, right, nil
}

func (c candidate) goesLeft(bin uint8) bool {
	if bin == missing {
		return c.missingLeft
	}
	return int(bin) <= c.cut
}

// fill adds up the rows' gradients per column and bin.
func (g *grower) fill(ctx context.Context, rows []int32) ([]sums, error) {
	h := g.take()
	for i, r := range rows {
		if i%yieldEvery == 0 {
			if err := yield(ctx); err != nil {
				return nil, err
			}
		}
		s := g.loss[r]
		base := 0
		for _, bin := range g.bins[int(r)*g.columns : (int(r)+1)*g.columns] {
			e := &h[base+int(bin)]
			e.g += s.g
			e.h += s.h
			base += maxBins + 1
		}
	}
	return h, nil
}

func (g *grower) take() []sums {
	if n := len(g.free); n > 0 {
		h := g.free[n-1]
		g.free = g.free[:n-1]
		clear(h)
		return h
	}
	return make([]sums, g.histogram)
}

func (g *grower) release(h []sums) { g.free = append(g.free, h) }

// update adds the tree to every row's margin, sampled or not.
func (g *grower) update(t tree, margins []float32) {
	for i := range margins {
		bins := g.bins[i*g.columns : (i+1)*g.columns]
		n := &t[0]
		for n.left >= 0 {
			if (candidate{cut: int(n.cut), missingLeft: n.missingLeft}).goesLeft(bins[n.column]) {
				n = &t[n.left]
			} else {
				n = &t[n.right]
			}
		}
		margins[i] += n.value
	}
}
