package drift

import (
	"errors"
	"fmt"
	"math"
)

// maxWindow bounds the window of a SlidingKS, and the distinct values of its reference.
const maxWindow = 1 << 30

// SlidingKS is the two-sample Kolmogorov-Smirnov test of a sliding window of the newest
// values against a reference, brought up to date at each value: the distance is exact,
// with ties too, and costs time in proportion to the logarithm of the reference's size. It
// implements [Detector]; unlike the others it says [Drift] for as long as the window is
// further from the reference than the level allows, and [Insufficient] until the window is full.
//
// The level is that of one window. Windows are looked at with each value, and so an alarm by
// chance comes sooner or later. How soon depends on no distribution, and hardly on
// the window, if time is counted in windows; measured without drift, against
// references ten times the window:
//
//	alpha    windows to the first alarm, on average
//	0.01     about 13
//	0.001    about 110
//	0.0001   about 900
//
// [EProcess] has a rate of false alarms that is guaranteed. A reference smaller than
// ten windows has noise of its own that all windows share: some references then
// alarm much more often than others.
type SlidingKS struct {
	values  []float64 // distinct values of the reference, ascending
	places  *lookup   // finds a value among them
	count   []int32   // how often each occurs there
	cells   []int32   // values of the window per cell: 2i below values[i], 2i+1 equal to it
	tree    []span    // a complete binary tree, the root at 1, cells 2i and 2i+1 together are leaf i
	leaves  int
	n, m    int
	up      int64 // weight of a value of the reference: m/gcd(n,m)
	down    int64 // weight of a value of the window: n/gcd(n,m)
	limit   int64 // the least gap that is a Drift
	ring    []int32
	next    int
	filled  int
	alpha   float64
	verdict Verdict
}

// span is a stretch of the line: the sum of its weights, and the greatest and the
// least of the sums from its beginning, the empty one among them.
type span struct{ sum, high, low int64 }

func (a span) then(b span) span {
	return span{a.sum + b.sum, max(a.high, a.sum+b.high), min(a.low, a.sum+b.low)}
}

// NewSlidingKS makes the test of the newest window values against ref, at the level alpha
// for one window. NaN in ref is left out, infinities are values. ref is neither modified nor
// kept; the memory is about 80 bytes for each of its distinct values and 4 for each of the window.
// The critical distance is that of [KS], for the pattern of ties that the
// reference lets expect.
//
// A ref without values, a window below 2, an alpha outside (0, 1) and one that no window of
// this size can reach are errors.
func NewSlidingKS(ref []float64, window int, alpha float64) (*SlidingKS, error) {
	wrong := func(err error) (*SlidingKS, error) { return nil, &Error{Row: -1, Err: err} }
	s := ascending(ref)
	switch {
	case len(s) == 0:
		return wrong(errors.New("the reference of a SlidingKS has no values"))
	case window < 2 || window > maxWindow || len(s) > maxWindow:
		return wrong(fmt.Errorf("a window of %d values against %d: both have to be at most %d, the window at least 2", window, len(s), maxWindow))
	case !(alpha > 0 && alpha < 1):
		return wrong(fmt.Errorf("alpha is %v: a level between 0 and 1", alpha))
	}
	d := &SlidingKS{n: len(s), m: window, ring: make([]int32, window), alpha: alpha}
	n, m := scaled(d.n, d.m)
	d.up, d.down = m, n
	tied := false
	eachRun(s, func(x float64, count int) {
		d.values, d.count = append(d.values, x), append(d.count, int32(count))
		tied = tied || count > 1
	})
	d.places = newLookup(d.values)
	d.cells = make([]int32, 2*len(d.values)+2)
	d.leaves = 1
	for d.leaves < len(d.values)+1 {
		d.leaves *= 2
	}
	d.tree = make([]span, 2*d.leaves)
	d.Reset()
	var groups []int
	if tied {
		groups = d.expectedTies()
	}
	limit := criticalGap(d.n, d.m, alpha, groups)
	if limit > int64(d.n)*m {
		return wrong(fmt.Errorf("no window of %d values differs from %d at a level of %v: take a longer one", window, d.n, alpha))
	}
	d.limit = limit
	return d, nil
}

// expectedTies are the groups of equal values in the reference and a window that
// follows it. At either end some values are taken as untied: the window may hold
// values that the reference lacks, and a constant reference would otherwise
// call the first of them a drift.
func (d *SlidingKS) expectedTies() []int {
	const untied = 64
	var groups []int
	seen, before := 0, 0
	for _, c := range d.count {
		seen += int(c)
		after := int(math.Round(float64(seen) * float64(d.n+d.m) / float64(d.n)))
		first, last := max(before, untied), min(after, d.n+d.m-untied)
		if c == 1 || first >= last {
			first, last = after, after
		}
		for range first - before {
			groups = append(groups, 1)
		}
		if last > first {
			groups = append(groups, last-first)
		}
		for range after - last {
			groups = append(groups, 1)
		}
		before = after
	}
	return groups
}

// cell returns the place of x: 2i if it is between values[i-1] and values[i], 2i+1 if it is values[i].
func (d *SlidingKS) cell(x float64) int32 {
	i := d.places.cell(x)
	if i < len(d.values) && d.values[i] == x {
		return int32(2*i + 1)
	}
	return int32(2 * i)
}

// leaf is value i of the reference and what of the window is equal to it or between
// it and the value before.
func (d *SlidingKS) leaf(i int32) span {
	gap := -d.down * int64(d.cells[2*i])
	sum := gap - d.down*int64(d.cells[2*i+1])
	if int(i) < len(d.count) {
		sum += d.up * int64(d.count[i])
	}
	return span{sum, max(0, sum), min(gap, sum)}
}

// Observe implements [Detector].
func (d *SlidingKS) Observe(x float64) Verdict {
	if x != x {
		return d.verdict
	}
	now := d.cell(x)
	old := d.ring[d.next]
	d.ring[d.next] = now
	if d.next++; d.next == len(d.ring) {
		d.next = 0
	}
	if d.filled < d.m {
		d.filled++
		d.cells[now]++
		d.climb(now>>1, now>>1)
		if d.filled < d.m {
			return d.verdict
		}
	} else if now != old {
		d.cells[now]++
		d.cells[old]--
		d.climb(now>>1, old>>1)
	}
	d.verdict = Stable
	if max(d.tree[1].high, -d.tree[1].low) >= d.limit {
		d.verdict = Drift
	}
	return d.verdict
}

// climb brings the tree up to date above two leaves.
func (d *SlidingKS) climb(a, b int32) {
	t := d.tree
	i, j := int(a)+d.leaves, int(b)+d.leaves
	t[i] = d.leaf(a)
	if i != j {
		t[j] = d.leaf(b)
		for i, j = i/2, j/2; i != j; i, j = i/2, j/2 {
			t[i] = t[2*i].then(t[2*i+1])
			t[j] = t[2*j].then(t[2*j+1])
		}
	} else {
		i /= 2
	}
	for ; i > 0; i /= 2 {
		t[i] = t[2*i].then(t[2*i+1])
	}
}

// Verdict implements [Detector].
func (d *SlidingKS) Verdict() Verdict { return d.verdict }

// Score is the test of the window as it is, full or not, with the P of [KS]: exact, and conditional
// on the ties there are. M is the number of values in the window.
// It costs time in proportion to the reference and more for P, and is meant for looking, not for each value.
func (d *SlidingKS) Score() Score {
	if d.filled == 0 {
		return Score{Method: "ks", N: d.n}.finite()
	}
	ns, ms := scaled(d.n, d.filled)
	h, gap, tied := int64(0), int64(0), false
	for i, c := range d.cells {
		gap -= ns * int64(c)
		var of int32
		if i&1 == 1 && i>>1 < len(d.count) {
			of = d.count[i>>1]
			gap += ms * int64(of)
			tied = tied || of+c > 1
		}
		h = max(h, gap, -gap)
	}
	var groups func() []int
	if tied {
		groups = d.ties
	}
	return ksScore(d.n, d.filled, h, twoSided, groups, judgeCells)
}

// ties are the groups of equal values there are. What the window holds between two values of
// the reference is taken as untied, which changes no distance and P only upwards.
func (d *SlidingKS) ties() []int {
	groups := make([]int, 0, len(d.cells))
	for i, c := range d.cells {
		if i&1 == 0 || i>>1 >= len(d.count) {
			for range c {
				groups = append(groups, 1)
			}
			continue
		}
		groups = append(groups, int(c+d.count[i>>1]))
	}
	return groups
}

// Reset implements [Detector]: it empties the window.
func (d *SlidingKS) Reset() {
	d.next, d.filled, d.verdict = 0, 0, Insufficient
	clear(d.cells)
	for i := range len(d.count) + 1 { // the leaves beyond are empty
		d.tree[d.leaves+i] = d.leaf(int32(i))
	}
	for i := d.leaves - 1; i > 0; i-- {
		d.tree[i] = d.tree[2*i].then(d.tree[2*i+1])
	}
}
