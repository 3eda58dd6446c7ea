package drift

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a Reference. They bound what a damaged or hostile file can ask for.
const (
	maxFeatures   = 10_000
	maxName       = 1 << 10
	maxCategories = 10_000
	maxCategory   = 1 << 12
	maxCells      = 4 * cellCount
	maxCounts     = max(maxCells+1, maxCategories)
	maxBins       = 64
	maxRows       = 1 << 38
	maxThreshold  = 1e300
)

type kind uint8

const (
	numeric     kind = 1
	categorical kind = 2
)

func (k kind) String() string {
	if k == numeric {
		return "numeric"
	}
	return "categorical"
}

// Reference is what the training data looked like, a few kilobytes per
// feature. It is immutable and safe for concurrent use once made; only
// UnmarshalBinary and UnmarshalJSON write into it, and they belong to a new one.
// The zero value describes no feature and is refused by NewMonitor.
type Reference struct {
	features    []*feature // by name
	id          string
	schema      string
	predictions int // index of the feature with labels; -1 if there is none
}

// feature is one column of a Reference.
type feature struct {
	name    string
	kind    kind
	missing int64   // missing values among the rows
	counts  []int64 // per cell or category
	present int64   // sum of counts

	edges []float64 // numeric: cell k is (edges[k-1], edges[k]], len(counts)-1 of them
	cells *lookup   // numeric: finds the cell of a value
	bin   []uint8   // numeric: the PSI bin of each cell
	bins  int       // numeric: how many PSI bins

	labels    *labelled // predictions: the labels of the scores; nil for others
	threshold float64   // predictions: the least score that predicts true
	positive  int       // predictions: the cell of the threshold

	categories []string       // categorical: ascending
	index      map[string]int // categorical: place in categories
}

// Column is one feature's training values, made by [Numbers], [Categories] or [Predictions], or
// from an iterator by [NumbersSeq] or [CategoriesSeq].
type Column struct {
	name      string
	kind      kind
	numbers   []float64
	numberSeq iter.Seq[float64] // in place of numbers
	strings   iter.Seq[string]

	predictions bool
	labels      []bool
	threshold   float64
}

// Numbers is a numeric column. NaN is a missing value; infinities count as
// values beyond all others. values is read by [Fit] and not kept.
func Numbers(name string, values []float64) Column {
	return Column{name: name, kind: numeric, numbers: values}
}

// Categories is a categorical column. The empty string is a missing value.
// values is read by [Fit] and not kept. More than 10,000
// distinct values, or one that is not UTF-8 of at most 4 KiB, are refused by
// [Fit]: group or hash them first.
func Categories(name string, values []string) Column {
	return CategoriesSeq(name, slices.Values(values))
}

// NumbersSeq is [Numbers] of values that are in no slice of their own: fields of rows, a file as
// it is read. It is read once. [Fit] holds the values of this column until it has sorted them,
// 8 bytes each; [Reference.Fit], which knows the cells, holds none.
func NumbersSeq(name string, values iter.Seq[float64]) Column {
	return Column{name: name, kind: numeric, numberSeq: values}
}

// CategoriesSeq is [Categories] of values that are in no slice of their own. It is read once, and
// only distinct values are held; after more of them than Fit takes it is read no further.
func CategoriesSeq(name string, values iter.Seq[string]) Column {
	return Column{name: name, kind: categorical, strings: values}
}

// Fit makes a Reference of the training columns. Their order does not matter,
// and they may differ in length. Numbers are sorted in a copy: time n log n,
// memory for one column at a time. At least ten times the rows of a
// monitor's window are advised; below one times, verdicts are mostly
// [WeakReference].
//
// An error is an [*Error] that names the column: no name, a name twice, no rows,
// too many categories. A constant column and one that is all missing are fine.
func Fit(columns ...Column) (*Reference, error) {
	features := make([]*feature, 0, len(columns))
	for _, c := range columns {
		f, err := c.fit()
		if err != nil {
			return nil, featureError(c.name, err)
		}
		features = append(features, f)
	}
	r := &Reference{}
	if err := r.set(features); err != nil {
		return nil, err
	}
	return r, nil
}

func (c Column) fit() (*feature, error) {
	if c.numberSeq != nil {
		c.numbers = slices.Collect(c.numberSeq)
	}
	switch {
	case c.predictions && len(c.numbers) > 0:
		return fitPredictions(c)
	case c.kind == numeric && len(c.numbers) > 0:
		return fitNumbers(c), nil
	case c.kind == categorical && c.strings != nil:
		return fitCategories(c), nil
	}
	return nil, errors.New("no rows to fit")
}

// set checks the features, whatever their source, and makes them the content.
func (r *Reference) set(features []*feature) error {
	if len(features) == 0 {
		return errorf("a reference needs at least one column")
	}
	if len(features) > maxFeatures {
		return errorf("%d columns, more than the limit of %d", len(features), maxFeatures)
	}
	predictions := -1
	slices.SortStableFunc(features, func(a, b *feature) int { return strings.Compare(a.name, b.name) })
	for i, f := range features {
		if i > 0 && f.name == features[i-1].name {
			return featureError(f.name, errors.New("two columns have this name"))
		}
		if err := f.check(); err != nil {
			return featureError(f.name, err)
		}
		if f.labels == nil {
			continue
		}
		if predictions >= 0 {
			return featureError(f.name, fmt.Errorf("the second column of predictions, after %q: a reference has one", features[predictions].name))
		}
		predictions = i
	}
	r.features, r.predictions = features, predictions
	r.id, r.schema = contentID(features), schemaID(features)
	if predictions >= 0 && r.find(features[predictions].performanceName()) != nil {
		return featureError(features[predictions].performanceName(), errors.New("this is what the performance of the predictions is called"))
	}
	return nil
}

// ID returns the content hash: 32 hexadecimal digits, equal if and only if
// references describe the same features with the same counts. It is empty for
// the zero Reference.
func (r *Reference) ID() string { return r.id }

// Schema returns the hash of the features' names and kinds: 32 hexadecimal
// digits, equal if and only if one reference can take the place of the other in
// [Monitor.Rebase]. It is empty for the zero Reference.
func (r *Reference) Schema() string { return r.schema }

// judged is how many things a monitor judges.
func (r *Reference) judged() int {
	if r.predictions >= 0 {
		return len(r.features) + 1
	}
	return len(r.features)
}

// names are those of what is judged.
func (r *Reference) names() []string {
	out := make([]string, 0, r.judged())
	for _, f := range r.features {
		out = append(out, f.name)
	}
	if r.predictions >= 0 {
		out = append(out, r.features[r.predictions].performanceName())
	}
	return out
}

func fitNumbers(c Column) *feature {
	s := sortedFinite(c.numbers)
	b := newBinner(s, defaultBins)
	f := &feature{name: c.name, kind: numeric, edges: cellEdges(s, b)}
	if c.predictions {
		f.threshold = c.threshold
		if at, ok := slices.BinarySearch(f.edges, below(c.threshold)); !ok {
			f.edges = slices.Insert(f.edges, at, below(c.threshold))
		}
	}
	f.count(slices.Values(c.numbers))
	f.bin = make([]uint8, len(f.counts))
	for k := range f.bin {
		// The upper edge stands for its cell. Nothing but a frequent value
		// lies in a cell of its own, so this is right for the whole cell.
		if k < len(f.edges) {
			f.bin[k] = uint8(b.of(f.edges[k]))
		} else {
			f.bin[k] = uint8(b.count() - 1)
		}
	}
	return f
}

// count counts numbers into cells whose edges are known.
func (f *feature) count(values iter.Seq[float64]) {
	f.counts, f.cells = make([]int64, len(f.edges)+1), newLookup(f.edges)
	for x := range values {
		if x != x {
			f.missing++
		} else {
			f.counts[f.cells.cell(x)]++
		}
	}
}

func fitCategories(c Column) *feature {
	f := &feature{name: c.name, kind: categorical}
	seen := make(map[string]int64)
	for s := range c.strings {
		if s == "" {
			f.missing++
		} else if seen[s]++; len(seen) > maxCategories {
			break // more than check allows
		}
	}
	for s := range seen {
		f.categories = append(f.categories, s)
	}
	slices.Sort(f.categories)
	for _, s := range f.categories {
		f.counts = append(f.counts, seen[s])
	}
	return f
}

// check refuses what Fit would not have made and completes what is derived.
func (f *feature) check() error {
	if f.name == "" || len(f.name) > maxName || !utf8.ValidString(f.name) {
		return fmt.Errorf("a name is 1 to %d bytes of UTF-8", maxName)
	}
	rows := int64(0)
	for _, c := range append([]int64{f.missing}, f.counts...) {
		if c < 0 || c > maxRows {
			return fmt.Errorf("a count of %d rows", c)
		}
		if rows += c; rows > maxRows {
			return fmt.Errorf("more rows than the limit of %d", int64(maxRows))
		}
	}
	if rows == 0 {
		return errors.New("no rows")
	}
	f.present = rows - f.missing
	switch f.kind {
	case numeric:
		return f.checkNumeric()
	case categorical:
		return f.checkCategorical()
	}
	return fmt.Errorf("unknown kind %d", f.kind)
}

func (f *feature) checkNumeric() error {
	if len(f.edges) > maxCells || len(f.counts) != len(f.edges)+1 || len(f.bin) != len(f.counts) {
		return fmt.Errorf("%d edges, %d counts and %d bins do not belong together", len(f.edges), len(f.counts), len(f.bin))
	}
	for k, e := range f.edges {
		if e-e != 0 || (k > 0 && e <= f.edges[k-1]) {
			return errors.New("edges are not finite and ascending")
		}
	}
	f.cells, f.bins = newLookup(f.edges), 0
	for _, b := range f.bin {
		if b >= maxBins {
			return fmt.Errorf("bin %d is over the limit of %d", b, maxBins)
		}
		f.bins = max(f.bins, int(b)+1)
	}
	if f.labels != nil {
		return f.checkPredictions()
	}
	return nil
}

func (f *feature) checkPredictions() error {
	if !(math.Abs(f.threshold) <= maxThreshold) {
		return fmt.Errorf("a threshold of %v", f.threshold)
	}
	if _, ok := slices.BinarySearch(f.edges, below(f.threshold)); !ok {
		return errors.New("no edge at the threshold")
	}
	f.positive = f.cells.cell(f.threshold)
	return f.labels.check(f.counts)
}

// kindName tells predictions from other numbers.
func (f *feature) kindName() string { return kindName(f.kind, f.labels != nil) }

func kindName(k kind, predictions bool) string {
	if predictions {
		return "predictions"
	}
	return k.String()
}

func (f *feature) checkCategorical() error {
	if len(f.categories) > maxCategories {
		return fmt.Errorf("more categories than the limit of %d: group or hash them first", maxCategories)
	}
	if len(f.counts) != len(f.categories) {
		return fmt.Errorf("%d counts for %d categories", len(f.counts), len(f.categories))
	}
	f.index = make(map[string]int, len(f.categories))
	for i, s := range f.categories {
		if s == "" || (i > 0 && s <= f.categories[i-1]) {
			return errors.New("categories are not distinct, ascending and non-empty")
		}
		if len(s) > maxCategory || !utf8.ValidString(s) {
			return fmt.Errorf("category %.40q is not UTF-8 of at most %d bytes", s, maxCategory)
		}
		f.index[s] = i
	}
	return nil
}

// sameSchema says how two references differ in names and kinds.
func (r *Reference) sameSchema(o *Reference) error {
	for _, f := range r.features {
		g := o.find(f.name)
		if g == nil {
			return featureError(f.name, fmt.Errorf("the new reference lacks it: %w", ErrSchema))
		}
		if g.kindName() != f.kindName() {
			return featureError(f.name, fmt.Errorf("%s in the new reference, %s before: %w", g.kindName(), f.kindName(), ErrSchema))
		}
	}
	for _, g := range o.features {
		if r.find(g.name) == nil {
			return featureError(g.name, fmt.Errorf("only the new reference has it: %w", ErrSchema))
		}
	}
	return nil
}

// find returns the feature of that name, or nil.
func (r *Reference) find(name string) *feature {
	i, ok := slices.BinarySearchFunc(r.features, name, func(f *feature, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil
	}
	return r.features[i]
}
