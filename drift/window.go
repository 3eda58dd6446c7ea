package drift

import (
	"fmt"
	"math"
	"time"
)

// Window says over which rows a monitor looks, made by [Tumbling], [Sliding],
// [Every] or [Decaying]. The zero Window is Tumbling(5000).
type Window struct {
	kind windowKind
	rows int
	span time.Duration
}

type windowKind uint8

const (
	byDefault windowKind = iota
	tumbling
	sliding
	every
	decaying
)

// A window that overlaps the one before is made of panes, which are counted
// apart and forgotten one by one.
const (
	slidingPanes = 10 // a tenth of the window moves out as another moves in
	halfLifePane = 4  // panes for each half-life
	decayPanes   = 24 // six half-lives; what is older would weigh less than 1/64
)

// Tumbling closes a window when one of its features, the busiest, has been observed
// rows times, and begins the next. rows is at least 100. With parallel
// writers, who count apart, a window may be up to a sixteenth larger.
func Tumbling(rows int) Window { return Window{kind: tumbling, rows: rows} }

// Sliding looks at as many rows as it is told, the last, each time a tenth of them is new; rows is rounded
// up to a multiple of 10 and at least 100. It sees a drift up to a window earlier than
// Tumbling of the same size, for ten times the work of judging. What is said of Confirm
// and Recover in [MonitorOptions] counts looks, of which ten make a window.
func Sliding(rows int) Window { return Window{kind: sliding, rows: rows} }

// Every closes a window when the clock passes a multiple of d since the Unix
// epoch, so that replicas close the same windows and their [Snapshot]s can be merged. Each
// observation reads the clock. A period without an observation is no window. d is at least a second.
func Every(d time.Duration) Window { return Window{kind: every, span: d} }

// Decaying weighs a row by its age: half after halfLife, a quarter after two, and nothing
// after six. It looks each quarter of a halfLife, at multiples of that since the Unix
// epoch; the rows of a quarter have one weight. Counts that enter the tests are
// scaled to the number of equally weighted rows that say as much (Kish 1965), so the
// p-values hold. halfLife is at least 4 seconds. Confirm and Recover count looks.
func Decaying(halfLife time.Duration) Window { return Window{kind: decaying, span: halfLife} }

func (w Window) check() error {
	switch w.kind {
	case tumbling, sliding:
		if w.rows < minRows {
			return fmt.Errorf("a window of %d rows: %d are the least that is judged", w.rows, minRows)
		}
	case every:
		if w.span < time.Second {
			return fmt.Errorf("a window every %v: a second is the least", w.span)
		}
	case decaying:
		if w.span < halfLifePane*time.Second {
			return fmt.Errorf("a half-life of %v: %d seconds are the least", w.span, halfLifePane)
		}
	default:
		return fmt.Errorf("no such window: %d", w.kind)
	}
	return nil
}

// paneRows is after how many rows a pane closes; 0 where the clock decides.
func (w Window) paneRows() uint64 {
	switch w.kind {
	case tumbling:
		return uint64(w.rows)
	case sliding:
		return uint64((w.rows-1)/slidingPanes + 1)
	}
	return 0
}

// paneSpan is after what time a pane closes; 0 where rows decide.
func (w Window) paneSpan() time.Duration {
	switch w.kind {
	case every:
		return w.span
	case decaying:
		return w.span / halfLifePane
	}
	return 0
}

// panes is how many panes make a window.
func (w Window) panes() int {
	switch w.kind {
	case sliding:
		return slidingPanes
	case decaying:
		return decayPanes
	}
	return 1
}

// overlaps reports whether a window shares rows with the one before.
func (w Window) overlaps() bool { return w.panes() > 1 }

// decay is the weight of rows that are so many panes old.
func decay(age int) float64 {
	if age >= decayPanes {
		return 0
	}
	return math.Exp2(-float64(age) / halfLifePane)
}

// aligned returns the last multiple of d since the Unix epoch.
func aligned(now time.Time, d time.Duration) time.Time {
	if y := now.Year(); y < 1700 || y > 2200 {
		return time.Unix(0, 0).UTC() // a clock not set yet; beyond what UnixNano holds
	}
	n := now.UnixNano()
	r := n % int64(d)
	if r < 0 {
		r += int64(d)
	}
	return time.Unix(0, n-r).UTC()
}

// observed are a column's counts in one pane or window.
type observed struct {
	rows, missing, unseen int
	present               int
	counts                []int // per cell or category
}

func (o *observed) add(p observed) {
	o.rows += p.rows
	o.missing += p.missing
	o.unseen += p.unseen
	o.present += p.present
	if o.counts == nil {
		o.counts = make([]int, len(p.counts))
	}
	for k, c := range p.counts {
		o.counts[k] += c
	}
}

// pane holds what was counted between two moments; it does not change.
type pane struct {
	from, to time.Time
	open     time.Duration // what it may use of the budget
	columns  []observed    // in the order of Reference.features
	labels   *labelled     // nil if the reference has no predictions
}

// view is what one look sees: a window, put together of its panes.
type view struct {
	pane
	ref *Reference
	// held is how many rows the window holds if that is not what its counts
	// say, as they are scaled.
	held int
}

// look puts the panes of a window together, oldest first. The time it may spend is that of the
// last pane: each look at overlapping windows pays only for what is new. Labels are those of the last pane.
func (w Window) look(ref *Reference, panes []*pane) view {
	last := panes[len(panes)-1]
	v := view{ref: ref}
	v.to, v.open, v.labels = last.to, last.open, last.labels
	panes = panes[max(0, len(panes)-w.panes()):]
	if w.kind == decaying {
		v.scaled(panes, w.paneSpan())
		return v
	}
	v.from = panes[0].from
	if len(panes) == 1 {
		v.columns = last.columns
		return v
	}
	v.columns = make([]observed, len(last.columns))
	for _, p := range panes {
		for i := range p.columns {
			v.columns[i].add(p.columns[i])
		}
	}
	return v
}

// scaled weighs the panes by their age, and scales each column so that its
// rows are the effective number of rows, (sum of weights)^2 / (sum of squared weights).
// Performance is not weighted: labels are rare, and each has said all it can.
func (v *view) scaled(panes []*pane, span time.Duration) {
	age := func(p *pane) int { return int(v.to.Sub(p.to) / span) }
	for age(panes[0]) >= decayPanes { // the last has no age
		panes = panes[1:]
	}
	v.from = panes[0].from
	v.columns = make([]observed, len(panes[0].columns))
	for i := range v.columns {
		sum, squares, rows := 0.0, 0.0, 0
		for _, p := range panes {
			w, n := decay(age(p)), float64(p.columns[i].rows)
			sum += w * n
			squares += w * w * n
			rows += p.columns[i].rows
		}
		v.held = max(v.held, rows)
		o := &v.columns[i]
		o.counts = make([]int, len(panes[0].columns[i].counts))
		if rows == 0 {
			continue
		}
		at := func(get func(*observed) int) int {
			x := 0.0
			for _, p := range panes {
				x += decay(age(p)) * float64(get(&p.columns[i]))
			}
			return int(x*(sum/squares) + 0.5)
		}
		o.missing = at(func(p *observed) int { return p.missing })
		o.unseen = at(func(p *observed) int { return p.unseen })
		o.present = o.unseen
		for k := range o.counts {
			o.counts[k] = at(func(p *observed) int { return p.counts[k] })
			o.present += o.counts[k]
		}
		o.rows = o.present + o.missing
	}
}
