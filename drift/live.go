package drift

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// window holds the counts of the pane that is open. They are written by Observe without a
// lock, those of labels under one; who reads them does so when the pane is closed, or takes what is there.
type window struct {
	ref     *Reference
	columns []column // in the order of Reference.features
	rows    uint64   // close at this many; 0 where the clock decides
	from    time.Time
	to      time.Time     // where the clock decides, the planned end; set for all when closed
	started time.Time     // on the monotonic clock, where Now is the real one
	left    time.Duration // from started to the planned end
	labels  *labelCells   // nil if the reference has no predictions
}

// column counts one feature. As long as its writers do not meet there is one block
// of counters, and the count of rows is exact. Writers who do meet get blocks
// of their own, as with Striped64 of Lea: counters that processors take from
// each other cost tens of nanoseconds each.
type column struct {
	*feature
	base    block
	clashes atomic.Uint32
	stripes atomic.Pointer[[]block]
}

// block is a set of counters. The row counter has a cache line to itself in
// front of the cells, since each observation writes it.
type block []atomic.Uint64 // [0] rows, [8] missing, [9:] cells or categories, then unseen

const (
	atRows    = 0
	atMissing = 8
	atCells   = 9
)

// clashLimit is how often the writers of a column may meet before they part.
// Meeting now and then is not worth the memory.
const clashLimit = 64

// maxStripes bounds the memory of a column's counters.
const maxStripes = 16

func newWindow(r *Reference) *window {
	w := &window{ref: r, columns: make([]column, len(r.features))}
	for i, f := range r.features {
		w.columns[i].feature = f
		w.columns[i].base = newBlock(f)
	}
	if r.predictions >= 0 {
		w.labels = newLabelCells(len(r.features[r.predictions].counts))
	}
	return w
}

func newBlock(f *feature) block { return make(block, atCells+len(f.counts)+1) }

func stripeCount() int {
	n := min(runtime.GOMAXPROCS(0), maxStripes)
	return 1 << bits.Len(uint(n-1))
}

func (c *column) split(n int) {
	s := make([]block, n)
	for i := range s {
		s[i] = newBlock(c.feature)
	}
	c.stripes.CompareAndSwap(nil, &s)
}

// lane tells the writer on a processor which block is its. A sync.Pool keeps
// what it is given near the processor that gave it.
type lane struct {
	i uint32
	_ [60]byte
}

type lanes struct {
	pool sync.Pool
	next atomic.Uint32
	all  [maxStripes]lane
}

func newLanes() *lanes {
	l := new(lanes)
	for i := range l.all {
		l.all[i].i = uint32(i)
	}
	l.pool.New = func() any { return &l.all[l.next.Add(1)%maxStripes] }
	return l
}

// add counts one value at the given place and reports whether the pane is full.
func (c *column) add(place int, rows uint64, l *lanes) (full bool) {
	if s := c.stripes.Load(); s != nil {
		return c.addStriped(*s, place, rows, l)
	}
	c.base[place].Add(1)
	n := c.base[atRows].Load()
	if c.base[atRows].CompareAndSwap(n, n+1) {
		return n+1 == rows
	}
	return c.met(rows)
}

// met counts the row of a writer who has met another.
func (c *column) met(rows uint64) (full bool) {
	n := c.base[atRows].Add(1)
	if c.clashes.Add(1) == clashLimit {
		c.split(stripeCount())
	}
	return n == rows
}

func (c *column) addStriped(s []block, place int, rows uint64, l *lanes) bool {
	got := l.pool.Get().(*lane)
	b := s[int(got.i)&(len(s)-1)]
	l.pool.Put(got)
	b[place].Add(1)
	if rows == 0 {
		return false // the clock decides, and the cells say how many rows there are
	}
	n := b[atRows].Add(1)
	// All the blocks are added up so often that all writers together overshoot by at most a sixteenth.
	if step := rows / 16 / uint64(len(s)); step > 1 && n&(1<<(bits.Len64(step)-1)-1) != 0 {
		return false
	}
	return c.counted() >= rows
}

// counted is how many rows there are, in all blocks, where rows decide.
func (c *column) counted() uint64 {
	n := c.base[atRows].Load()
	if s := c.stripes.Load(); s != nil {
		for _, b := range *s {
			n += b[atRows].Load()
		}
	}
	return n
}

func (c *column) observed() observed {
	o := observed{counts: make([]int, len(c.counts))}
	read := func(b block) {
		o.missing += int(b[atMissing].Load())
		o.unseen += int(b[atCells+len(c.counts)].Load())
		for k := range o.counts {
			o.counts[k] += int(b[atCells+k].Load())
		}
	}
	read(c.base)
	if s := c.stripes.Load(); s != nil {
		for _, b := range *s {
			read(b)
		}
	}
	o.present = o.unseen
	for _, n := range o.counts {
		o.present += n
	}
	o.rows = o.present + o.missing // not the row counters: an observation may be under way
	return o
}

// until is what was counted so far in a pane that is open.
func (w *window) until(now time.Time) *pane {
	p := w.pane()
	p.to = now
	p.open = p.budget()
	return p
}

// pane is what was counted in a pane that has closed.
func (w *window) pane() *pane {
	p := &pane{from: w.from, to: w.to, columns: make([]observed, len(w.columns))}
	for i := range w.columns {
		p.columns[i] = w.columns[i].observed()
	}
	if w.labels != nil {
		p.labels = w.labels.read()
	}
	p.open = p.budget()
	return p
}

func (p *pane) budget() time.Duration {
	if p.from.IsZero() {
		return 0 // a clock that was not set yet grants none
	}
	return p.to.Sub(p.from)
}

// empty reports whether nothing was counted, labels included.
func (w *window) empty() bool {
	for i := range w.columns {
		if w.columns[i].observed().rows > 0 {
			return false
		}
	}
	return w.labels == nil || w.labels.rows() == 0
}

// Numeric observes one numeric feature of a [Monitor]. It is safe for concurrent
// use and outlives Rebase.
type Numeric struct {
	m *Monitor
	i int
}

// Observe counts one value. NaN is missing. It takes no lock and allocates
// nothing, but for the one observation that closes a window; parallel writers get
// counters of their own. A value that is being counted at the moment its window
// closes may be left out.
func (n *Numeric) Observe(x float64) {
	w := n.m.current()
	c := &w.columns[n.i]
	place := atMissing
	if x == x {
		place = atCells + c.cells.cell(x)
	}
	if c.add(place, w.rows, n.m.lanes) {
		n.m.rotate(w)
	}
}

// Missing counts a row that has no value, as Observe(NaN) does.
func (n *Numeric) Missing() {
	w := n.m.current()
	if w.columns[n.i].add(atMissing, w.rows, n.m.lanes) {
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
	w := c.m.current()
	col := &w.columns[c.i]
	place := atMissing
	if category != "" {
		k, ok := col.index[category]
		if !ok {
			k = len(col.counts)
		}
		place = atCells + k
	}
	if col.add(place, w.rows, c.m.lanes) {
		c.m.rotate(w)
	}
}

// Missing counts a row that has no value, as Observe("") does.
func (c *Categorical) Missing() { c.Observe("") }
