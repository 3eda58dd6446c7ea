package drift

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fit makes a Reference of other rows of the same columns, counted in the cells of r: what
// [Reference.Merge] can add to r, and to others made this way. Each part of a training
// set is fitted where it lies, or one after the other where all would not fit into memory:
//
//	whole, err := drift.Fit(first...)      // a part that looks like all of them: it chooses the cells
//	part, err := whole.Fit(next...)        // any other, here or on another machine
//	whole, err = whole.Merge(part)
//
// The cells are as fine as those of Fit where r was fitted on rows like these; where it was not,
// some hold more of the rows, and KS, which looks between cells, sees less of a drift within them. It
// does not see more than there is. The columns have to be those of r, in any order: others
// are [ErrSchema], as is another threshold of [Predictions]. r does not change.
func (r *Reference) Fit(columns ...Column) (*Reference, error) {
	if len(r.features) == 0 {
		return nil, errorf("an empty reference has no cells: use the function Fit first")
	}
	features := make([]*feature, 0, len(columns))
	for _, c := range columns {
		f := r.find(c.name)
		if f == nil {
			return nil, featureError(c.name, fmt.Errorf("the reference has no such feature: %w", ErrSchema))
		}
		g, err := f.fit(c)
		if err != nil {
			return nil, featureError(c.name, err)
		}
		features = append(features, g)
	}
	n := &Reference{}
	if err := n.set(features); err != nil {
		return nil, err
	}
	if err := r.sameSchema(n); err != nil {
		return nil, err
	}
	return n, nil
}

// fit counts another column in the cells of f.
func (f *feature) fit(c Column) (*feature, error) {
	switch {
	case kindName(c.kind, c.predictions) != f.kindName():
		return nil, fmt.Errorf("%s, and in the reference %s: %w", kindName(c.kind, c.predictions), f.kindName(), ErrSchema)
	case f.kind == categorical:
		return c.fit()
	}
	g := &feature{name: f.name, kind: numeric, edges: f.edges, bin: f.bin, threshold: f.threshold}
	values := c.numberSeq
	if values == nil {
		values = slices.Values(c.numbers)
	}
	g.count(values)
	if c.predictions {
		if c.threshold != f.threshold {
			return nil, fmt.Errorf("a threshold of %v, and in the reference %v: %w", c.threshold, f.threshold, ErrSchema)
		}
		return g, g.label(c)
	}
	return g, nil
}

// Merge returns the reference of the rows of r and of o, which do not change: counts are added, so
// the order in which parts are merged does not matter, and nothing is lost. It does so for parts
// that have the same cells, as [Reference.Fit] makes them; categories need not be the same. Numbers in other
// cells are an error, as nobody knows any more where in a cell the rows were; other
// features are [ErrSchema].
//
// Rows that are in both count twice.
func (r *Reference) Merge(o *Reference) (*Reference, error) {
	if o == nil || len(r.features) == 0 || len(o.features) == 0 {
		return nil, errorf("an empty reference cannot be merged")
	}
	if err := r.sameSchema(o); err != nil {
		return nil, err
	}
	features := make([]*feature, len(r.features))
	for i, f := range r.features { // both are in the order of their names
		sum, err := f.plus(o.features[i])
		if err != nil {
			return nil, featureError(f.name, err)
		}
		features[i] = sum
	}
	n := &Reference{}
	if err := n.set(features); err != nil {
		return nil, err
	}
	return n, nil
}

func (f *feature) plus(g *feature) (*feature, error) {
	sum := &feature{name: f.name, kind: f.kind, missing: f.missing + g.missing, edges: f.edges, bin: f.bin, threshold: f.threshold}
	if f.kind == categorical {
		sum.addCategories(f, g)
		return sum, nil
	}
	if !slices.Equal(f.edges, g.edges) || !slices.Equal(f.bin, g.bin) || f.threshold != g.threshold {
		return nil, errors.New("the references were cut into different cells: make one by the method Fit of the other")
	}
	sum.counts = slices.Clone(f.counts)
	for k, c := range g.counts {
		sum.counts[k] += c
	}
	sum.labels = f.labels.plus(g.labels)
	return sum, nil
}

func (f *feature) addCategories(a, b *feature) {
	for i, j := 0, 0; i < len(a.categories) || j < len(b.categories); {
		var order int
		switch {
		case j == len(b.categories):
			order = -1
		case i == len(a.categories):
			order = 1
		default:
			order = strings.Compare(a.categories[i], b.categories[j])
		}
		var name string
		var n int64
		if order <= 0 {
			name, n = a.categories[i], a.counts[i]
			i++
		}
		if order >= 0 {
			name, n = b.categories[j], n+b.counts[j]
			j++
		}
		f.categories, f.counts = append(f.categories, name), append(f.counts, n)
	}
}
