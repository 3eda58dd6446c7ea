package drift

import (
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// columns are so many rows of four features, one of them with labels.
func (w *world) columns(rows int) (x []float64, c []string, scores []float64, labels []bool) {
	for range rows {
		x = append(x, traits[4].number(w, false))
		c = append(c, traits[9].text(w, false))
		s, y := w.scored(false)
		scores, labels = append(scores, s), append(labels, y)
	}
	return x, c, scores, labels
}

// Parts that were fitted in the same cells add up to the whole, bit for bit, in any order and
// grouping, whatever the sizes of the parts.
func TestPartsAddUp(t *testing.T) {
	w := newWorld(51)
	for range 10 {
		x, c, s, y := w.columns(2000)
		of := func(from, to int) []Column {
			return []Column{Predictions("p", s[from:to], y[from:to], 0.5), Numbers("x", x[from:to]), Categories("c", c[from:to])}
		}
		first := fitted(t, of(0, 300)...)
		whole, err := first.Fit(of(0, 2000)...)
		if err != nil {
			t.Fatal(err)
		}
		parts, from := []*Reference{first}, 300
		for from < 2000 {
			to := min(2000, from+1+w.IntN(700))
			p, err := first.Fit(of(from, to)...)
			if err != nil {
				t.Fatal(err)
			}
			parts, from = append(parts, p), to
		}
		for len(parts) > 1 { // any two become one
			w.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			before := parts[0].ID() + parts[1].ID()
			sum, err := parts[0].Merge(parts[1])
			if err != nil {
				t.Fatal(err)
			}
			if parts[0].ID()+parts[1].ID() != before {
				t.Fatal("merging changed a part")
			}
			parts = append(parts[2:], sum)
		}
		if parts[0].ID() != whole.ID() {
			t.Fatal("the parts are not the whole")
		}
		back := throughBytes(t, parts[0])
		if again, err := back.Merge(first); err != nil || again.features[0].present != whole.features[0].present+first.features[0].present {
			t.Errorf("what was read back does not merge: %v", err)
		}
	}
}

func throughBytes(t *testing.T, r *Reference) *Reference {
	t.Helper()
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Reference
	if err := back.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return &back
}

// By hand: counts, missing values, and categories that only one side has.
func TestMergeByHand(t *testing.T) {
	nan := math.NaN()
	a := fitted(t, Numbers("x", []float64{1, 2, 3, nan}), Categories("c", []string{"b", "d", "d", ""}))
	b, err := a.Fit(Categories("c", []string{"a", "d", "e"}), Numbers("x", []float64{2, 2.5, 9, math.Inf(-1), nan, nan}))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := a.Merge(b)
	if err != nil {
		t.Fatal(err)
	}
	c, x := sum.features[0], sum.features[1]
	if !slices.Equal(c.categories, []string{"a", "b", "d", "e"}) || !slices.Equal(c.counts, []int64{1, 1, 3, 1}) || c.missing != 1 || c.present != 6 {
		t.Errorf("categories %v %v, %d missing, %d present", c.categories, c.counts, c.missing, c.present)
	}
	of := func(v float64) int64 { return x.counts[cellOf(x.edges, v)] }
	if of(1) != 1 || of(2) != 2 || of(2.5) != 1 || of(3) != 1 || of(9) != 1 || of(-7) != 1 || x.missing != 3 || x.present != 7 {
		t.Errorf("edges %v counts %v, %d missing, %d present", x.edges, x.counts, x.missing, x.present)
	}
}

func TestMergeRefuses(t *testing.T) {
	x, y := []float64{0.1, 0.4, 0.9}, []bool{false, false, true}
	base := fitted(t, Numbers("x", x), Predictions("p", x, y, 0.5), Categories("c", []string{"u"}))
	full := []Column{Numbers("x", x), Predictions("p", x, y, 0.5), Categories("c", []string{"u"})}
	many := make([]string, maxCategories)
	for i := range many {
		many[i] = strings.Repeat("z", 1+i%90) + string(rune('a'+i/90))
	}
	for name, c := range map[string]struct {
		try    func() (*Reference, error)
		want   string
		schema bool
	}{
		"fit: nothing":       {func() (*Reference, error) { return base.Fit() }, "at least one column", false},
		"fit: one lacks":     {func() (*Reference, error) { return base.Fit(full[:2]...) }, `feature "c"`, true},
		"fit: one more":      {func() (*Reference, error) { return base.Fit(append(full, Numbers("z", x))...) }, `feature "z"`, true},
		"fit: twice":         {func() (*Reference, error) { return base.Fit(append(full, full[0])...) }, "two columns", false},
		"fit: other kind":    {func() (*Reference, error) { return base.Fit(append(full[1:], Categories("x", []string{"1"}))...) }, "categorical, and in the reference numeric", true},
		"fit: no labels":     {func() (*Reference, error) { return base.Fit(full[0], full[2], Numbers("p", x)) }, "numeric, and in the reference predictions", true},
		"fit: few labels":    {func() (*Reference, error) { return base.Fit(full[0], full[2], Predictions("p", x, y[:2], 0.5)) }, "3 scores and 2 labels", false},
		"fit: threshold":     {func() (*Reference, error) { return base.Fit(full[0], full[2], Predictions("p", x, y, 0.4)) }, "a threshold of 0.4", true},
		"fit: no rows":       {func() (*Reference, error) { return base.Fit(Numbers("x", nil), full[1], full[2]) }, `feature "x": no rows`, false},
		"fit: no categories": {func() (*Reference, error) { return base.Fit(full[0], full[1], Categories("c", nil)) }, `feature "c": no rows`, false},
		"fit: zero":          {func() (*Reference, error) { return new(Reference).Fit(full...) }, "empty reference", false},
		"merge: nil":         {func() (*Reference, error) { return base.Merge(nil) }, "empty reference", false},
		"merge: zero":        {func() (*Reference, error) { return base.Merge(&Reference{}) }, "empty reference", false},
		"merge: into zero":   {func() (*Reference, error) { return new(Reference).Merge(base) }, "empty reference", false},
		"merge: features":    {func() (*Reference, error) { return base.Merge(fitted(t, full[:2]...)) }, `feature "c"`, true},
		"merge: other cells": {func() (*Reference, error) {
			return base.Merge(fitted(t, full[1], full[2], Numbers("x", []float64{1, 2, 3})))
		}, "different cells", false},
		"merge: threshold": {func() (*Reference, error) {
			return base.Merge(fitted(t, full[0], full[2], Predictions("p", x, y, 0.4)))
		}, "different cells", false},
		"merge: categories": {func() (*Reference, error) { return base.Merge(fitted(t, full[0], full[1], Categories("c", many))) }, "more categories than the limit", false},
	} {
		r, err := c.try()
		var e *Error
		if r != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrSchema) != c.schema {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// An iterator makes the reference that a slice makes, is read once, and no further than it has to be.
func TestColumnsFromIterators(t *testing.T) {
	w := newWorld(52)
	x, c, _, _ := w.columns(3000)
	x[7] = math.Inf(1)
	read := map[string]int{}
	slice := fitted(t, Numbers("x", x), Categories("c", c))
	seq := fitted(t, NumbersSeq("x", counted(read, "x", x)), CategoriesSeq("c", counted(read, "c", c)))
	if seq.ID() != slice.ID() || read["x"] != 3000 || read["c"] != 3000 {
		t.Errorf("IDs %s and %s, read %v", seq.ID(), slice.ID(), read)
	}
	part, err := slice.Fit(NumbersSeq("x", counted(read, "x", x)), CategoriesSeq("c", counted(read, "c", c)))
	if err != nil || part.ID() != slice.ID() || read["x"] != 6000 || read["c"] != 6000 {
		t.Errorf("in the same cells: %v, read %v", err, read)
	}
	endless := func(yield func(string) bool) {
		for i := 0; yield(strings.Repeat("y", i%50) + string(rune(0x4e00+i/50))); i++ {
			read["endless"]++
		}
	}
	for want, col := range map[string]Column{
		"more categories than the limit": CategoriesSeq("c", endless),
		`"empty": no rows`:               NumbersSeq("empty", slices.Values([]float64(nil))),
		`"none": no rows`:                NumbersSeq("none", nil),
		`"nought": no rows`:              CategoriesSeq("nought", nil),
	} {
		if _, err := Fit(col); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if read["endless"] > maxCategories+1 {
		t.Errorf("%d values were read of endless ones", read["endless"])
	}
}

func counted[T any](read map[string]int, name string, values []T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range values {
			read[name]++
			if !yield(v) {
				return
			}
		}
	}
}

// Cells that were cut for other rows see less of a drift, and never one that is not there: D on
// the cells is at most that of the values, and P not less but for the one-sample law in place of the exact one.
func TestForeignCellsSeeNoMore(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 3))
	for rep := range 50 {
		base := fitted(t, Numbers("x", draws(r, 200)))
		ref, cur := draws(r, 3000), draws(r, 500)
		by := []float64{0, 0.2, 3}[rep%3]
		for i := range cur {
			ref[i] += by // not what the cells were cut for
			cur[i] = math.Round(cur[i]*8)/8 + by/2
		}
		whole, err := base.Fit(Numbers("x", ref))
		if err != nil {
			t.Fatal(err)
		}
		win := newWindow(whole)
		for _, x := range cur {
			win.columns[0].add(atCells+cellOf(whole.features[0].edges, x), math.MaxUint64, nil)
		}
		got, want := whole.features[0].ks(win.columns[0].observed()), KS(ref, cur)
		if got.Stat > want.Stat*(1+1e-12) || got.P < want.P*0.99 && want.P > 1e-12 {
			t.Errorf("D %v with P %v on the cells, %v with %v of the values", got.Stat, got.P, want.Stat, want.P)
		}
	}
}
