package drift

import "math"

// ADWIN keeps a window of the newest values whose mean has not changed, as long as
// it can be: where some cut of the window leaves two parts whose means differ
// by more than chance, the oldest values are dropped, and that is a [Drift]. [ADWIN.Mean]
// and [ADWIN.Width] are of what is left (Bifet and Gavalda 2007, ADWIN2).
//
// For a cut into n0 older and n1 newer values, out of W with the variance v, the means
// differ if they are further apart than
//
//	sqrt(2*m*v*L) + 2/3*m*L    L = ln(2*ln(W)/Delta)
//	m = 1/(n0-MinWindow+1) + 1/(n1-MinWindow+1)
//
// The second term supposes values between 0 and 1 or of about that spread:
// divide others by their usual range. W is bounded by nothing; the memory is about 16 bytes
// times Buckets times log2(W). Infinities are passed over as NaN is.
//
// An alarm is a bucket or more dropped at one look. One change can raise several,
// at looks that follow each other, until the older values are gone.
type ADWIN struct {
	Delta     float64 // confidence of one look; 0.002
	Clock     int     // looks at each Clock-th value; 32. 1 finds a change sooner and costs 20 times more
	Buckets   int     // values are summed up in buckets of 1, 2, 4, ... values, this many of each size; 5
	MinWindow int     // least number of values on either side of a cut; 5
	Grace     int     // no look before more values than this are in the window; 10

	delta           float64
	clock, per      int
	minWindow       float64
	grace           int
	tick            int
	width           int
	total, variance float64 // sum, and sum of squared distances from the mean
	rows            int     // sizes in use: 2^0 ... 2^(rows-1)
	count           []int   // buckets per size
	bucket          []sums  // per size a block of per+1, oldest first
	verdict         Verdict
}

// sums describes a bucket.
type sums struct{ total, variance float64 }

// adwinRows bounds the sizes of buckets: 2^48 values.
const adwinRows = 48

func (d *ADWIN) setup() {
	d.delta = share(d.Delta, 0.002)
	d.clock = atLeast(d.Clock, 1, 32)
	d.per = min(atLeast(d.Buckets, 1, 5), 1000)
	d.minWindow = float64(atLeast(d.MinWindow, 1, 5))
	d.grace = atLeast(d.Grace, 1, 10)
	d.count = make([]int, adwinRows)
	d.bucket = make([]sums, adwinRows*(d.per+1))
}

// Observe implements [Detector].
func (d *ADWIN) Observe(x float64) Verdict {
	if d.count == nil {
		d.setup()
	}
	if d.verdict == Drift {
		d.verdict = Stable
	}
	x, ok := magnitude(x)
	if !ok {
		return d.verdict
	}
	d.insert(x)
	if d.tick++; d.tick == d.clock {
		d.tick = 0
		if d.width > d.grace {
			d.verdict = Stable
			for d.cut() {
				d.drop()
				d.verdict = Drift
			}
		}
	}
	return d.verdict
}

func (d *ADWIN) insert(x float64) {
	if d.width > 0 {
		n := float64(d.width)
		off := x - d.total/n
		d.variance += off * off * n / (n + 1)
	}
	d.width++
	d.total += x
	s := sums{total: x}
	block := d.bucket
	for row := range adwinRows {
		if d.rows == row {
			d.rows++
		}
		k := d.count[row]
		block[k] = s
		if k++; k <= d.per {
			d.count[row] = k
			return
		}
		// One too many: the two oldest become one of the next size.
		n := float64(uint64(1) << row)
		s = merged(block[0], block[1], n, n)
		copy(block, block[2:k])
		d.count[row] = k - 2
		block = block[d.per+1:]
	}
}

// merged describes two buckets, of n and m values, as one.
func merged(a, b sums, n, m float64) sums {
	off := a.total/n - b.total/m
	return sums{a.total + b.total, a.variance + b.variance + off*off*n*m/(n+m)}
}

// cut reports whether some cut between two buckets leaves means that differ.
func (d *ADWIN) cut() bool {
	w := float64(d.width)
	l := math.Log(2 * math.Log(w) / d.delta)
	spread := 2 * l * max(d.variance/w, 0)
	d.total = d.sum()
	rounding := 1e-12 * math.Abs(d.total/w)
	n1, u1 := 0.0, 0.0 // the newer part, few values beside many: its sum is no difference of two great ones
	for row := range d.rows {
		size := float64(uint64(1) << row)
		at := row * (d.per + 1)
		for i := at + d.count[row] - 1; i >= at; i-- {
			n1 += size
			u1 += d.bucket[i].total
			n0, u0 := w-n1, d.total-u1
			if n0 < d.minWindow {
				return false
			}
			if n1 < d.minWindow {
				continue
			}
			// m is at least 1/n0+1/n1, and without a division most cuts are done with.
			if cross := u0*n1 - u1*n0; cross*cross <= w*spread*n0*n1*(1-1e-9) {
				continue
			}
			m := 1/(n0-d.minWindow+1) + 1/(n1-d.minWindow+1)
			off := math.Abs(u0/n0 - u1/n1)
			if off*off > m*spread && off > math.Sqrt(m*spread)+2.0/3*l*m+rounding {
				return true
			}
		}
	}
	return false
}

// sum is that of the window. Of the buckets it is closer than of the values one by one, whose
// roundings add up in a long window until they look like a change.
func (d *ADWIN) sum() float64 {
	sum := 0.0
	for row := range d.rows {
		at := row * (d.per + 1)
		for _, b := range d.bucket[at : at+d.count[row]] {
			sum += b.total
		}
	}
	return sum
}

// drop drops the oldest bucket and sums up the others anew: a subtraction would
// leave the rounding errors of a huge value behind when it goes.
func (d *ADWIN) drop() {
	row := d.rows - 1
	block := d.bucket[row*(d.per+1):]
	copy(block, block[1:d.count[row]])
	d.count[row]--
	for d.count[d.rows-1] == 0 { // a cut leaves values on either side
		d.rows--
	}
	all, n := sums{}, 0.0
	for row := range d.rows {
		size := float64(uint64(1) << row)
		at := row * (d.per + 1)
		for _, b := range d.bucket[at : at+d.count[row]] {
			if n == 0 {
				all, n = b, size
				continue
			}
			all = merged(all, b, n, size)
			n += size
		}
	}
	d.width, d.total, d.variance = int(n), all.total, all.variance
}

// Verdict implements [Detector].
func (d *ADWIN) Verdict() Verdict { return d.verdict }

// Width is how many of the newest values are in the window.
func (d *ADWIN) Width() int { return d.width }

// Mean is the mean of the window, 0 when it is empty.
func (d *ADWIN) Mean() float64 {
	if d.width == 0 {
		return 0
	}
	return d.total / float64(d.width)
}

// Reset implements [Detector].
func (d *ADWIN) Reset() {
	d.tick, d.width, d.total, d.variance, d.rows, d.verdict = 0, 0, 0, 0, 0, Insufficient
	clear(d.count)
}
