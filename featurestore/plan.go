package featurestore

import (
	"fmt"
	"strings"
	"time"
)

// Mode is the shape of a window that ends at time q and has the length w; h is
// the hop.
type Mode int

// The modes. Sawtooth is the default.
const (
	// Sawtooth starts at floor((q-w)/h)*h and ends at q: tiles make it cheap,
	// and its head is exact. It covers up to one hop more than w.
	Sawtooth Mode = iota
	// Sliding is (q-w, q], exactly. Every event of the window is stored.
	Sliding
	// Hopping starts like Sawtooth and ends at floor(q/h)*h: its values change
	// only once per hop.
	Hopping
)

// WindowOptions configures Windows. Nil or the zero value is a good default.
type WindowOptions struct {
	// Mode is the shape of the windows; Sawtooth.
	Mode Mode
	// Hop is the width of a tile. 0: by the length of each window, 5 minutes
	// below 12 hours, 1 hour below 12 days, else 1 day. Sliding has none.
	Hop time.Duration
	// Lateness is how much later than the newest event of its key an event may
	// come and still count (exactly: until its tile has ended that long before
	// the newest event). For so long each event is kept one by one, so it also
	// bounds the memory of a busy key. It is at least the Store's MaxFuture.
	// 0: 1 hour; negative: none beyond MaxFuture.
	Lateness time.Duration
}

// windowPlan is a Windows definition without its type parameters. All times
// are nanoseconds since 1970.
type windowPlan struct {
	mode     Mode
	base     int64 // width of an open tile
	lateness int64
	tiers    []tier
	aggs     []aggPlan
	words    int // of an open tile, beside its head: all folds
	values   int // of an event
}

// maxTiers is how many widths there are: one if Hop gives it, else those of
// hopFor.
const maxTiers = 3

// tier holds closed tiles of one width, for the aggregates that use it.
type tier struct {
	hop   int64
	span  int64 // the longest window
	words int
	aggs  []int
}

type aggPlan struct {
	fold    fold
	window  int64
	tier    int
	offset  int // of its words in a tile of the tier
	open    int // of its words in an open tile
	value   int // in an event; -1: none
	feature int // the field of F it fills
}

// longestWindow keeps all arithmetic on times far from overflow.
const longestWindow = 20 * 366 * 24 * time.Hour

// The years in which windows can place an event.
var firstTime, lastTime = time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2240, 1, 1, 0, 0, 0, 0, time.UTC)

// nanos is t in nanoseconds since 1970, if windows can place it.
func nanos(t time.Time) (int64, error) {
	if t.Before(firstTime) || !t.Before(lastTime) {
		return 0, fmt.Errorf("time %s lies outside the years 1700 to 2239, where windows can place it", t.Format(time.RFC3339))
	}
	return t.UnixNano(), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// hopFor is the width of tiles for a window of length w.
func hopFor(w time.Duration) time.Duration {
	switch {
	case w < 12*time.Hour:
		return 5 * time.Minute
	case w < 12*24*time.Hour:
		return time.Hour
	}
	return 24 * time.Hour
}

// aggregateSpec is an Aggregate without its type parameter.
type aggregateSpec struct {
	name   string
	fold   fold
	window time.Duration
}

// newWindowPlan lays out tiles and matches aggregates with features by name.
func newWindowPlan(o WindowOptions, features []field, specs []aggregateSpec) (*windowPlan, error) {
	p := &windowPlan{mode: o.Mode, lateness: int64(o.Lateness)}
	switch {
	case o.Mode < Sawtooth || o.Mode > Hopping:
		return nil, fmt.Errorf("mode %d is unknown", o.Mode)
	case o.Hop < 0 || o.Hop > longestWindow:
		return nil, fmt.Errorf("hop %v must be positive and at most %v", o.Hop, longestWindow)
	case o.Hop != 0 && o.Mode == Sliding:
		return nil, fmt.Errorf("sliding windows have no hop, and %v was given", o.Hop)
	case o.Lateness == 0:
		p.lateness = int64(time.Hour)
	case o.Lateness < 0:
		p.lateness = 0
	case o.Lateness > longestWindow:
		return nil, fmt.Errorf("lateness %v is longer than %v", o.Lateness, longestWindow)
	}
	if len(specs) != len(features) {
		return nil, fmt.Errorf("%d aggregates do not fill %d features", len(specs), len(features))
	}
	taken := map[string]bool{}
	for i, a := range specs {
		f := findField(features, a.name)
		if f < 0 || taken[a.name] {
			return nil, fmt.Errorf("aggregate %q needs a feature of its own with that name", a.name)
		}
		taken[a.name] = true
		if a.window <= 0 || a.window > longestWindow {
			return nil, fmt.Errorf("window %v of %q must be positive and at most %v", a.window, a.name, longestWindow)
		}
		if err := fits(&features[f], a.fold); err != nil {
			return nil, err
		}
		p.assign(i, a, f, o)
	}
	return p, nil
}

// fits says whether a feature can hold what the fold yields.
func fits(f *field, fold fold) error {
	number := f.kind == kindFloat && f.typ == "float64"
	if fold == foldCount && !number && f.typ != "int" && f.typ != "int64" {
		return fmt.Errorf("count %q must be an int, int64 or float64", f.name)
	}
	if fold != foldCount && !number {
		return fmt.Errorf("%s %q must be a float64 or a pointer to one", foldNames[fold], f.name)
	}
	if fold != foldCount && fold != foldSum && !f.nullable && f.fallback == nil {
		return fmt.Errorf("%s %q is null when there are no values: make it a pointer or give it a default", foldNames[fold], f.name)
	}
	return nil
}

func (p *windowPlan) assign(i int, a aggregateSpec, feature int, o WindowOptions) {
	hop := o.Hop
	switch {
	case o.Mode == Sliding:
		hop = 1 // every event is a tile of its own
	case hop == 0:
		hop = hopFor(a.window)
	}
	t := 0
	for t < len(p.tiers) && p.tiers[t].hop != int64(hop) {
		t++
	}
	if t == len(p.tiers) {
		p.tiers = append(p.tiers, tier{hop: int64(hop)})
	}
	ti := &p.tiers[t]
	agg := aggPlan{fold: a.fold, window: int64(a.window), tier: t, offset: ti.words, open: p.words, value: -1, feature: feature}
	if a.fold != foldCount {
		agg.value = p.values
		p.values++
	}
	ti.aggs = append(ti.aggs, i)
	ti.words += a.fold.words()
	ti.span = max(ti.span, int64(a.window))
	p.words += a.fold.words()
	p.aggs = append(p.aggs, agg)
	if p.base == 0 || int64(hop) < p.base {
		p.base = int64(hop)
	}
}

// horizon is how long an event is kept one by one behind the newest. It
// reaches over MaxFuture, so that now never lies in a tile already closed.
func (p *windowPlan) horizon(s *Store) int64 {
	return max(p.lateness, int64(s.maxFuture))
}

// retention is how long a key without new events can matter.
func (p *windowPlan) retention(s *Store) time.Duration {
	var d int64
	for _, t := range p.tiers {
		d = max(d, t.span+t.hop)
	}
	return time.Duration(d + p.horizon(s))
}

// interval returns the first and the first excluded instant of a's window at q.
// Strict leaves out q itself.
func (p *windowPlan) interval(a *aggPlan, q int64, strict bool) (lo, hi int64) {
	hop := p.tiers[a.tier].hop
	hi = q
	if !strict {
		hi++
	}
	switch p.mode {
	case Sliding:
		return hi - a.window, hi
	case Hopping:
		hi = floorDiv(q, hop) * hop
	case Sawtooth:
	}
	return floorDiv(q-a.window, hop) * hop, hi
}

// describe is what decides how a stored state is read and what it means.
func (p *windowPlan) describe(specs []aggregateSpec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "windows mode=%d base=%d", p.mode, p.base)
	for i, a := range p.aggs {
		fmt.Fprintf(&b, "\n%s %s window=%d hop=%d", specs[i].name, foldNames[a.fold], a.window, p.tiers[a.tier].hop)
	}
	return b.String()
}
