package drift

import (
	"sync/atomic"
	"time"
)

// Window says how rows are cut into the windows that are judged, made by
// [Tumbling] or [Every]. The zero Window is Tumbling(5000).
type Window struct {
	rows  int
	every time.Duration
}

// Tumbling closes a window when one of its features, the busiest, has been observed
// rows times, and begins the next. rows is at least 100.
func Tumbling(rows int) Window { return Window{rows: rows} }

// Every closes a window when the clock passes a multiple of d since the Unix
// epoch, so that replicas close the same windows. Each observation reads the
// clock. A period without an observation is no window. d is at least a second.
func Every(d time.Duration) Window { return Window{every: d} }

// window holds the counts of one window. They are written by Observe without a
// lock; who reads them does so when the window is closed, or takes what is there.
type window struct {
	ref     *Reference
	columns []column // in the order of Monitor.features
	rows    uint64   // Tumbling: close at this many; 0 for Every
	from    time.Time
	to      time.Time // Every: the planned end; set for all when closed
}

// column counts one feature. The row counter has a cache line to itself in
// front of the cells, since each observation writes it.
type column struct {
	*feature
	cells []atomic.Uint64 // [0] rows, [8] missing, [9:] cells or categories, then unseen
}

const (
	atRows    = 0
	atMissing = 8
	atCells   = 9
)

func newWindow(r *Reference) *window {
	w := &window{ref: r, columns: make([]column, len(r.features))}
	for i, f := range r.features {
		w.columns[i] = column{feature: f, cells: make([]atomic.Uint64, atCells+len(f.counts)+1)}
	}
	return w
}

// add counts one value at the given place and returns the rows with it.
func (c *column) add(place int) uint64 {
	c.cells[place].Add(1)
	return c.cells[atRows].Add(1)
}

// observed are a column's counts at one moment.
type observed struct {
	rows, missing, unseen int
	present               int
	counts                []int // per cell or category
}

func (c *column) observed() observed {
	o := observed{
		missing: int(c.cells[atMissing].Load()),
		unseen:  int(c.cells[atCells+len(c.counts)].Load()),
		counts:  make([]int, len(c.counts)),
	}
	for k := range o.counts {
		o.counts[k] = int(c.cells[atCells+k].Load())
		o.present += o.counts[k]
	}
	o.present += o.unseen
	o.rows = o.present + o.missing // not the row counter: an observation may be under way
	return o
}

// Numeric observes one numeric feature of a [Monitor]. It is safe for concurrent
// use and outlives Rebase.
type Numeric struct {
	m *Monitor
	i int
}

// Observe counts one value. NaN is missing. It takes no lock and allocates
// nothing, but for the one observation that closes a window. A value that is
// being counted at the moment its window closes may be left out.
func (n *Numeric) Observe(x float64) {
	w := n.m.window()
	c := &w.columns[n.i]
	place := atMissing
	if x == x {
		place = atCells + cellOf(c.edges, x)
	}
	if c.add(place) == w.rows {
		n.m.rotate(w)
	}
}

// Missing counts a row that has no value, as Observe(NaN) does.
func (n *Numeric) Missing() {
	w := n.m.window()
	if w.columns[n.i].add(atMissing) == w.rows {
		n.m.rotate(w)
	}
}

// Categorical observes one categorical feature of a [Monitor]. It is safe for
// concurrent use and outlives Rebase.
type Categorical struct {
	m *Monitor
	i int
}

// Observe counts one value. The empty string is missing; a category that the
// reference lacks is unseen, and is counted but not remembered. As for cost, see
// [Numeric.Observe], with one look-up of the category.
func (c *Categorical) Observe(category string) {
	w := c.m.window()
	col := &w.columns[c.i]
	place := atMissing
	if category != "" {
		k, ok := col.index[category]
		if !ok {
			k = len(col.counts)
		}
		place = atCells + k
	}
	if col.add(place) == w.rows {
		c.m.rotate(w)
	}
}

// Missing counts a row that has no value, as Observe("") does.
func (c *Categorical) Missing() { c.Observe("") }
