package drift

import (
	"math"
	"math/rand/v2"
	"slices"
)

// EProcess bets on every value against the claim that the stream still looks like the
// reference, and raises an alarm when its winnings reach RunLength. It may be looked at after every
// value, which is what a p-value may not: if the stream and the
// reference are independent draws of one distribution, whichever,
//
//	the mean number of values before the first alarm is at least RunLength, and
//	the chance of an alarm within T values is at most T/RunLength, for every T,
//
// both exactly, at any size of reference, averaged over references. Another alarm is no less
// improbable than the first only if the reference was not an unlucky one: a small
// reference that alarmed once without cause is likely to do so again.
//
// How. The reference is cut at Bins-1 of its order statistics, ties broken at random.
// What share of the distribution is between them is Dirichlet distributed, whatever the
// distribution (Wilks 1962), so the chance of the next value's bin is known exactly, reference
// noise included: (c_k + seen_k)/(n+1 + seen), where c_k is the number of ranks in
// bin k. Against this stand eight gamblers: six expect a shift (by 0.3 or 0.8
// standard deviations, up or down) or another spread (by a quarter), on the scale on which the reference
// is normal; two expect what the last 250 and 1,000 values looked like. Each multiplies what it
// has by its chance of the bin over the exact one, after it got one unit more: the
// e-detector of Shin, Ramdas and Rinaldo (2024). The winnings are the mean of the eight.
//
// NaN is missing and passed over; infinities are values at the far ends.
type EProcess struct {
	// Reference holds the values to compare with, as NewSlidingKS takes them. It is read at the first
	// Observe and not modified. Nil: the first Learn values of the stream are the reference.
	Reference []float64
	Learn     int     // values learned as the reference where there is none, at least 10; 1,000
	Bins      int     // 2 to 64; 10
	RunLength float64 // least mean number of values to an alarm without drift; 100,000
	Seed      uint64  // breaks ties; the same seed and the same values give the same alarms

	learned []float64
	edges   []float64
	find    ladder
	within  []float64 // where in a run of ties the edge is, in (0,1)
	bins    []bet
	total   float64 // ranks and values seen
	have    [fixedBets]float64
	recent  [2]recentBet
	rng     rand.PCG
	limit   float64
	verdict Verdict
}

// bet is what there is to know of a bin.
type bet struct {
	ranks, seen float64            // ranks of the reference; with the values seen
	inverse     float64            // 1/seen: what is divided beforehand nobody waits for
	fixed       [fixedBets]float64 // its chance, per gambler
	recent      [2]float64         // values seen lately, weighted
}

const (
	fixedBets = 6
	minLearn  = 10
	maxLearn  = 1 << 24
)

// recentBet expects what about the last values looked like; before there were that many,
// the shape of the reference stands in. Instead of fading the old, the weight
// of the new grows, so that an observation changes one count.
type recentBet struct {
	last     float64 // the sum of the counts is last*weight
	weight   float64 // of the newest value
	grow     float64 // of weight, per value; fade is of bet
	fade     float64
	reserved float64 // share of what it has that is not bet
	bet      float64 // the rest, over the sum of the counts
	have     float64
}

// Observe implements [Detector].
func (d *EProcess) Observe(x float64) Verdict {
	if d.verdict == Drift {
		d.begin()
	}
	if x != x {
		return d.verdict
	}
	if d.edges == nil && !d.ready(x) {
		return Insufficient
	}
	k := rung(d.find.rungs, step(d.find.steps, x), x)
	if k < len(d.edges) && d.edges[k] == x {
		k = d.untie(k, x)
	}
	b := &d.bins[k]
	odds := d.total * b.inverse
	h, c := &d.have, &b.fixed
	h[0] = (h[0] + 1) * (c[0] * odds)
	h[1] = (h[1] + 1) * (c[1] * odds)
	h[2] = (h[2] + 1) * (c[2] * odds)
	h[3] = (h[3] + 1) * (c[3] * odds)
	h[4] = (h[4] + 1) * (c[4] * odds)
	h[5] = (h[5] + 1) * (c[5] * odds)
	won := ((h[0] + h[1]) + (h[2] + h[3])) + (h[4] + h[5])
	won += d.recent[0].observe(&b.recent[0], odds) + d.recent[1].observe(&b.recent[1], odds)
	if d.recent[0].weight > 1e100 {
		d.shrink()
	}
	b.seen++
	b.inverse = 1 / b.seen
	d.total++
	d.verdict = Stable
	if won >= d.limit {
		d.verdict = Drift
	}
	return d.verdict
}

// untie finds the bin of a value that edge k is equal to.
func (d *EProcess) untie(k int, x float64) int {
	for u := d.uniform(); k < len(d.edges) && d.edges[k] == x && d.within[k] < u; {
		k++
	}
	return k
}

// observe bets on a bin that was seen so often lately, and returns what there is then.
func (r *recentBet) observe(seen *float64, odds float64) float64 {
	r.have = (r.have + 1) * (r.reserved + r.bet**seen*odds)
	r.weight *= r.grow
	r.bet *= r.fade
	*seen += r.weight
	return r.have
}

// shrink makes the weights small again, before they are too large for a float. The first grows faster.
func (d *EProcess) shrink() {
	for i := range d.recent {
		r := &d.recent[i]
		sum := 0.0
		for k := range d.bins {
			sum += d.bins[k].recent[i]
		}
		for k := range d.bins {
			d.bins[k].recent[i] *= r.last / sum
		}
		r.open()
	}
}

// open makes the weight of the newest value 1.
func (r *recentBet) open() { r.weight, r.bet = 1, (1-r.reserved)/r.last }

// ready sets up, after learning where there is no reference. It is false while x was
// one to learn.
func (d *EProcess) ready(x float64) bool {
	ref := ascending(d.Reference)
	if len(ref) > 0 {
		d.setup(ref)
		return true
	}
	n := min(atLeast(d.Learn, minLearn, 1000), maxLearn)
	if d.learned == nil {
		d.learned = make([]float64, 0, n)
	}
	d.learned = append(d.learned, x)
	if len(d.learned) == n {
		slices.Sort(d.learned)
		d.setup(d.learned)
		d.learned = nil
	}
	return false
}

// setup takes the reference in ascending order.
func (d *EProcess) setup(s []float64) {
	d.rng.Seed(d.Seed, 0x9e3779b97f4a7c15)
	n := len(s)
	bins := min(atLeast(d.Bins, 2, 10), 64, n+1)
	d.limit = min(positive(d.RunLength, 100_000), 1e15) * (fixedBets + 2)
	d.edges = make([]float64, bins-1)
	d.within = make([]float64, bins-1)
	d.bins = make([]bet, bins)
	last := 0
	var order []float64 // of the run of ties that begins at from
	from := -1
	for k := range d.edges {
		r := ceilDiv((k+1)*n, bins)
		d.bins[k].ranks = float64(r - last)
		last = r
		x := s[r-1]
		d.edges[k] = x
		lo, _ := slices.BinarySearch(s, x)
		if lo != from {
			from = lo
			order = order[:0]
			for i := lo; i < n && s[i] == x; i++ {
				order = append(order, d.uniform())
			}
			slices.Sort(order)
		}
		d.within[k] = order[r-1-lo]
	}
	d.bins[bins-1].ranks = float64(n + 1 - last)
	d.find = newLadder(d.edges)
	d.bets(float64(n + 1))
	d.begin()
}

// bets works out what the gamblers expect.
func (d *EProcess) bets(n float64) {
	for i, b := range [fixedBets]struct{ shift, spread float64 }{
		{0.3, 1}, {-0.3, 1}, {0.8, 1}, {-0.8, 1}, {0, 1.25}, {0, 0.8},
	} {
		below, at := 0.0, 0.0
		for k := range d.bins {
			at += d.bins[k].ranks
			upto := 1.0
			if k < len(d.edges) {
				upto = normalBelow((normalQuantile(at/n) - b.shift) / b.spread)
			}
			d.bins[k].fixed[i] = upto - below
			below = upto
		}
	}
	for i, last := range [2]float64{250, 1000} {
		d.recent[i] = recentBet{last: last, grow: last / (last - 1), fade: (last - 1) / last, reserved: 1.0 / 3}
	}
}

// begin starts betting anew against the reference.
func (d *EProcess) begin() {
	d.verdict = Insufficient
	if d.edges == nil {
		return
	}
	d.total = 0
	for k := range d.bins {
		b := &d.bins[k]
		b.seen, b.inverse = b.ranks, 1/b.ranks
		d.total += b.ranks
	}
	d.have = [fixedBets]float64{}
	for i := range d.recent {
		r := &d.recent[i]
		for k := range d.bins {
			d.bins[k].recent[i] = r.last * d.bins[k].ranks / d.total
		}
		r.open()
		r.have = 0
	}
}

func (d *EProcess) uniform() float64 { return float64(d.rng.Uint64()>>11) * 0x1p-53 }

func normalBelow(z float64) float64    { return math.Erfc(-z/math.Sqrt2) / 2 }
func normalQuantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }

// Verdict implements [Detector].
func (d *EProcess) Verdict() Verdict { return d.verdict }

// Winnings is what the gamblers have on average; at RunLength there is an alarm.
func (d *EProcess) Winnings() float64 {
	won := 0.0
	for _, h := range d.have {
		won += h
	}
	for i := range d.recent {
		won += d.recent[i].have
	}
	return won / (fixedBets + 2)
}

// Reset implements [Detector]. A reference that was learned from the stream is kept.
func (d *EProcess) Reset() {
	d.learned = nil
	d.begin()
}
