package drift

import "slices"

// KSWIN compares the newest values of a window with the older ones by the two-sample
// Kolmogorov-Smirnov test, at each value (Raab, Heusinger and Schleif 2020). It finds any change of
// shape that is sudden within the window. Other libraries compare with a random sample of the
// older values; this takes all of them, so it draws nothing at random.
//
// It is a [Drift] if the exact p-value without ties is at most Alpha; with ties
// it is larger than it need be. Alpha is the level of one look, and there is one at each
// value, so that without drift at most Alpha alarms per value are expected. A Recent so small that no
// values could differ enough for Alpha is out of range, and so is a Window of which that is true
// of either half; an Alpha below 1e-58 needs a larger Window than the default. Infinities are values at the far
// ends. An observation costs time in proportion to Window.
type KSWIN struct {
	Alpha  float64 // level of one look; 1e-5
	Window int     // values kept; 200, at most 100,000
	Recent int     // the newest of them, which are compared with the others; half of Window

	ring          []float64
	older, newest []float64 // ascending
	next, n       int
	recent        int
	critical      int64
	verdict       Verdict
}

// maxKSWIN bounds what a slip of the pen can ask for.
const maxKSWIN = 100_000

func (d *KSWIN) setup() {
	w := min(atLeast(d.Window, 2, 200), maxKSWIN)
	for _, c := range [][2]int{{w, d.Recent}, {w, w / 2}, {200, 100}} {
		if w, d.recent = c[0], c[1]; d.recent < 1 || d.recent >= w {
			continue
		}
		n := w - d.recent
		_, ms := scaled(n, d.recent)
		if d.critical = criticalGap(n, d.recent, share(d.Alpha, 1e-5), nil); d.critical <= int64(n)*ms {
			break
		}
	}
	d.ring = make([]float64, w)
	d.newest = make([]float64, 0, d.recent+1)
	d.older = make([]float64, 0, w-d.recent+1)
}

// Observe implements [Detector].
func (d *KSWIN) Observe(x float64) Verdict {
	if d.ring == nil {
		d.setup()
	}
	if d.verdict == Drift {
		d.Reset()
	}
	if x != x {
		return d.verdict
	}
	w := len(d.ring)
	if d.n == w {
		d.older = remove(d.older, d.ring[d.next])
	}
	if d.n >= d.recent {
		i := d.next - d.recent
		if i < 0 {
			i += w
		}
		d.newest = remove(d.newest, d.ring[i])
		d.older = insert(d.older, d.ring[i])
	}
	d.newest = insert(d.newest, x)
	d.ring[d.next] = x
	if d.next++; d.next == w {
		d.next = 0
	}
	if d.n < w {
		d.n++
	}
	if d.n < w {
		return d.verdict
	}
	d.verdict = Stable
	if above, below, _ := maxGap(d.older, d.newest); max(above, below) >= d.critical {
		d.verdict = Drift
	}
	return d.verdict
}

func insert(s []float64, x float64) []float64 {
	i, _ := slices.BinarySearch(s, x)
	return slices.Insert(s, i, x)
}

func remove(s []float64, x float64) []float64 {
	i, _ := slices.BinarySearch(s, x)
	return slices.Delete(s, i, i+1)
}

// Verdict implements [Detector].
func (d *KSWIN) Verdict() Verdict { return d.verdict }

// Reset implements [Detector].
func (d *KSWIN) Reset() {
	d.older, d.newest = d.older[:0], d.newest[:0]
	d.next, d.n, d.verdict = 0, 0, Insufficient
}

// criticalGap returns the least gap h, in units of 1/lcm(n,m), whose p-value is
// at most alpha, given the sizes of the groups of ties (nil: none). It is beyond any gap
// where no p-value is that small.
func criticalGap(n, m int, alpha float64, groups []int) int64 {
	var tied func() []int
	if groups != nil {
		tied = func() []int { return groups }
	}
	_, ms := scaled(n, m)
	lcm := int64(n) * ms
	rejects := func(h int64) bool { return ksScore(n, m, h, twoSided, tied, judgeCells).P <= alpha }
	// The steps double, up from a gap that is far too small, so that no wide and costly one is tried.
	lo, hi := int64(0), max(1, lcm/int64(max(n, m)))
	for !rejects(hi) {
		if hi == lcm {
			return lcm + 1
		}
		lo, hi = hi, min(2*hi, lcm)
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; rejects(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}
