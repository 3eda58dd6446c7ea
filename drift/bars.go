package drift

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
)

// Bar is one bar in the picture of a feature: which values, and what share of the rows
// they are on either side. The bars of a feature cover all rows.
type Bar struct {
	Label     string  `json:"label"`     // a value, a range such as "18 to 20", a category; or other, unseen, missing
	Reference float64 `json:"reference"` // share of the reference's rows, 0 to 1
	Current   float64 `json:"current"`   // share of the window's rows, 0 to 1
}

// Moment is what an earlier window said of a feature.
type Moment struct {
	To      time.Time `json:"to"` // when the window closed
	Rows    int       `json:"rows"`
	Effect  float64   `json:"effect"`
	P       float64   `json:"p"`
	Verdict Verdict   `json:"verdict"`
	Alarm   bool      `json:"alarm"` // the window raised an alert that names the feature
}

const (
	maxBars    = 24  // values or categories that have a bar of their own
	maxHistory = 200 // moments that are kept

	// leastRatio is where floats begin to have the digits that edges by ratio are rounded to.
	leastRatio = 1e-300
)

// follow takes over the moments of the report before it, and adds its own.
func (r *Report) follow(before *Report) {
	for i := range r.Features {
		f := &r.Features[i]
		var past []Moment
		if before != nil {
			past = before.Features[i].History
		}
		past = past[max(0, len(past)-maxHistory+1):]
		f.History = append(slices.Clone(past), Moment{To: r.To, Rows: r.Rows, Effect: f.Effect, P: f.P, Verdict: f.Verdict})
	}
}

// alarmed marks the newest moment as one with an alert.
func (r *FeatureReport) alarmed() {
	if k := len(r.History); k > 0 {
		r.History[k-1].Alarm = true
	}
}

// alerted takes over which features an alert has named.
func (r *Report) alerted(states []state) {
	for i := range r.Features {
		r.Features[i].Alerted = states[i].told
	}
}

// bars is the picture of a feature beside what a window observed.
func (f *feature) bars(o observed) []Bar {
	var bars []Bar
	if f.kind == numeric {
		bars = f.numberBars(o)
	} else {
		bars = f.categoryBars(o)
	}
	if o.unseen > 0 {
		bars = append(bars, Bar{Label: "unseen", Current: float64(o.unseen)})
	}
	if f.missing > 0 || o.missing > 0 {
		bars = append(bars, Bar{Label: "missing", Reference: float64(f.missing), Current: float64(o.missing)})
	}
	n, m := max(1, float64(f.present+f.missing)), max(1, float64(o.rows))
	for i := range bars {
		bars[i].Reference = min(1, bars[i].Reference/n)
		bars[i].Current = min(1, bars[i].Current/m)
	}
	return bars
}

// categoryBars are the most frequent categories on either side, then the others as one.
func (f *feature) categoryBars(o observed) []Bar {
	order := make([]int, len(f.counts))
	for k := range order {
		order[k] = k
	}
	n, m := max(1, float64(f.present)), max(1, float64(o.present))
	weight := func(k int) float64 { return max(float64(f.counts[k])/n, float64(o.counts[k])/m) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight(b), weight(a)) })
	kept := order
	if len(order) > maxBars {
		kept = order[:maxBars-1]
	}
	var bars []Bar
	slices.SortStableFunc(kept, func(a, b int) int { return cmp.Compare(f.counts[b], f.counts[a]) })
	for _, k := range kept {
		bars = append(bars, Bar{f.categories[k], float64(f.counts[k]), float64(o.counts[k])})
	}
	if rest := order[len(kept):]; len(rest) > 0 {
		other := Bar{Label: "other"}
		for _, k := range rest {
			other.Reference += float64(f.counts[k])
			other.Current += float64(o.counts[k])
		}
		bars = append(bars, other)
	}
	return bars
}

func (f *feature) numberBars(o observed) []Bar {
	if f.present == 0 || len(f.edges) == 0 { // no finite value to draw a range with
		if f.present == 0 && o.present == 0 {
			return nil
		}
		return []Bar{{"present", float64(f.present), float64(o.present)}}
	}
	if bars := f.atomBars(o); bars != nil {
		return bars
	}
	edges := f.drawnEdges()
	names := labels(edges)
	bars := make([]Bar, len(edges)+1)
	for k := range bars {
		switch {
		case k == 0:
			bars[k].Label = "up to " + names[0]
		case k == len(edges):
			bars[k].Label = "above " + names[k-1]
		default:
			bars[k].Label = names[k-1] + " to " + names[k]
		}
	}
	for k := range f.counts {
		r, c := float64(f.counts[k]), float64(o.counts[k])
		if r+c == 0 {
			continue
		}
		// What is known of a cell is its ends: its values are drawn as evenly spread.
		lo, hi := math.Inf(-1), math.Inf(1)
		if k > 0 {
			lo = f.edges[k-1]
		}
		if k < len(f.edges) {
			hi = f.edges[k]
		}
		width := hi/2 - lo/2 // halves, for values near the largest
		if math.IsInf(width, 1) || width == 0 {
			b := &bars[cellOf(edges, hi)]
			b.Reference += r
			b.Current += c
			continue
		}
		from := lo
		for i := cellOf(edges, lo); from < hi; i++ {
			to := hi
			if i < len(edges) {
				to = min(hi, edges[i])
			}
			part := (to/2 - from/2) / width
			bars[i].Reference += r * part
			bars[i].Current += c * part
			from = to
		}
	}
	return bars
}

// atomBars has a bar per value, if the reference has few.
func (f *feature) atomBars(o observed) []Bar {
	var values []float64
	for k, c := range f.counts {
		if c == 0 {
			continue
		}
		if !single(f.edges, k) || len(values) == maxBars {
			return nil
		}
		values = append(values, f.edges[k])
	}
	var bars []Bar
	names := labels(values)
	other := Bar{Label: "other"}
	for k, c := range f.counts {
		if c > 0 {
			bars = append(bars, Bar{names[len(bars)], float64(c), float64(o.counts[k])})
		} else {
			other.Current += float64(o.counts[k])
		}
	}
	if other.Current > 0 {
		bars = append(bars, other)
	}
	return bars
}

// drawnEdges are about 20 round numbers from the 2nd to the 98th percentile of the
// reference, evenly spaced, or by their ratio if the values are positive and very skewed.
func (f *feature) drawnEdges() []float64 {
	lo, mid, hi := f.quantile(0.02), f.quantile(0.5), f.quantile(0.98)
	if lo > leastRatio && hi/lo > 20 && hi-mid > 4*(mid-lo) {
		edges := make([]float64, 21)
		for i := range edges {
			part := float64(i) / 20
			edges[i] = rounded(math.Pow(lo, 1-part) * math.Pow(hi, part))
		}
		return edges
	}
	step := roundStep((hi/2 - lo/2) / 9.5)
	if step == 0 {
		return []float64{hi}
	}
	var edges []float64
	for i := math.Ceil(lo / step); ; i++ {
		x := i * step
		if x > hi+step/2 || x-x != 0 || len(edges) > 0 && x <= edges[len(edges)-1] {
			break
		}
		edges = append(edges, x)
	}
	if len(edges) == 0 {
		return []float64{hi}
	}
	return edges
}

// quantile is the upper edge of the cell in which that share of the values is reached.
func (f *feature) quantile(share float64) float64 {
	sum, want := 0.0, share*float64(f.present)
	for k, c := range f.counts {
		if sum += float64(c); sum >= want && k < len(f.edges) {
			return f.edges[k]
		}
	}
	return f.edges[len(f.edges)-1]
}

// roundStep is 1, 2, 2.5 or 5 times a power of ten, the least that is not below x, which is
// finite and not negative; 0 where x is 0.
func roundStep(x float64) float64 {
	tens := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if m*tens >= x {
			return m * tens
		}
	}
	return 10 * tens
}

// rounded is x to three digits.
func rounded(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// labels writes ascending numbers as short as they can be told apart.
func labels(values []float64) []string {
	out := make([]string, len(values))
	for _, digits := range []int{6, 9, 12, -1} {
		distinct := true
		for i, x := range values {
			out[i] = strconv.FormatFloat(x, 'g', digits, 64)
			if math.Abs(x) < 1e7 && x == math.Trunc(x) {
				out[i] = strconv.FormatFloat(x, 'f', 0, 64)
			}
			distinct = distinct && (i == 0 || out[i] != out[i-1])
		}
		if distinct {
			break
		}
	}
	return out
}
