package drift

import (
	"math"
	"slices"
)

// unsorted is a sample b in any order beside an ascending a, both counted into the intervals of a
// grid. This says most of what sorting b would say, in a fraction of the time.
type unsorted struct {
	a, b []float64
	m    int // values in b; NaN is none
	// Of each value of b its interval; of each interval how many values of a and of b are in
	// those before.
	in               []uint16
	beforeA, beforeB []uint32
	repeats          bool // two values of a are equal
}

const (
	countFrom = 1 << 16       // values of b from which on it pays
	countTo   = math.MaxInt32 // values of either that can be counted
	fine      = 1 << 15       // intervals
	missing   = fine + 1      // the interval of NaN, after the others
)

// unsortedBeside is nil where it does not pay: for few values, and for those that are in order.
func unsortedBeside(a, b []float64) *unsorted {
	if len(b) < countFrom || len(a) == 0 || max(len(a), len(b)) > countTo || isAscending(b) {
		return nil
	}
	return newUnsorted(a, b)
}

func newUnsorted(a, b []float64) *unsorted {
	u := &unsorted{a: a, b: b, in: make([]uint16, len(b)), beforeA: make([]uint32, missing+1), beforeB: make([]uint32, missing+1)}
	var g grid
	g.fit(a, fine)
	ofA, ofB := u.beforeA[1:], make([]uint32, missing+1)
	last := math.NaN()
	for _, x := range a {
		if x == last {
			u.repeats = true
		}
		last = x
		ofA[g.at(x)]++
	}
	for j, x := range b {
		i := missing
		if x == x {
			i = g.at(x)
		}
		u.in[j] = uint16(i)
		ofB[i]++
	}
	for i := range missing {
		u.beforeA[i+1] += u.beforeA[i]
		u.beforeB[i+1] = u.beforeB[i] + ofB[i]
	}
	u.m = int(u.beforeB[missing])
	return u
}

// interval is the values of a in interval i, and how many of b are there.
func (u *unsorted) interval(i int) (a []float64, b int) {
	return u.a[u.beforeA[i]:u.beforeA[i+1]], int(u.beforeB[i+1] - u.beforeB[i])
}

// maxGap is what maxGap finds in samples that are both ascending. Between the intervals the gap is known; within
// one it cannot rise by more than the values of a or fall by more than those of b that are
// there. So only those few are sorted and walked along that could lead beyond what is known.
func (u *unsorted) maxGap() (above, below int64) {
	down, up := scaled(len(u.a), u.m)
	gap := func(i int) int64 { return int64(u.beforeA[i])*up - int64(u.beforeB[i])*down }
	var top, bottom int64
	for i := range missing {
		top, bottom = max(top, gap(i)), min(bottom, gap(i))
	}
	walked := make([]bool, missing+1)
	held := 0
	for i := range missing {
		a, b := u.interval(i)
		if gap(i)+int64(len(a))*up > top && b > 0 || gap(i)-int64(b)*down < bottom && len(a) > 0 {
			walked[i] = true
			held += b
		}
	}
	values := make([]float64, 0, held)
	for j, i := range u.in {
		if walked[i] {
			values = append(values, u.b[j])
		}
	}
	sortFloats(values)
	for i := range missing {
		if walked[i] {
			a, b := u.interval(i)
			high, low, _ := along(a, values[:b], up, down)
			top, bottom = max(top, gap(i)+high), min(bottom, gap(i)+low)
			values = values[b:]
		}
	}
	return top, -bottom
}

// ties reports whether two of all values are equal. Equal values are in the same interval, so what is
// near is put together and looked through.
func (u *unsorted) ties() bool {
	if u.repeats {
		return true
	}
	const together = 4 // so many intervals at a time
	near, at := make([]float64, len(u.b)), slices.Clone(u.beforeB)
	for j, i := range u.in {
		p := &at[i&^(together-1)]
		near[*p] = u.b[j]
		*p++
	}
	var m marks
	for i := 0; i < missing; i += together {
		end := min(i+together, missing)
		a, b := u.a[u.beforeA[i]:u.beforeA[end]], near[u.beforeB[i]:u.beforeB[end]]
		if len(b) <= maxMarks {
			if m.meet(a, b) {
				return true
			}
			continue
		}
		sortFloats(b)
		if _, _, ties := along(a, b, 1, 1); ties {
			return true
		}
	}
	return false
}

// marks are bits of which a value sets one.
type marks [1 << (marksBits - 6)]uint64

const (
	marksBits = 16
	// maxMarks bounds the values that are looked through, for those that mark what others have marked are
	// compared with all.
	maxMarks = 1 << 10
)

// meet reports whether two values of b are equal, or one of a and one of b.
func (m *marks) meet(a, b []float64) bool {
	clear(m[:])
	mark := func(x float64) (word *uint64, bit uint64) {
		h := math.Float64bits(x+0) * 0x9e3779b97f4a7c15 >> (64 - marksBits) // -0 is 0
		return &m[h>>6], 1 << (h & 63)
	}
	for j, x := range b {
		word, bit := mark(x)
		if *word&bit != 0 && slices.Contains(b[:j], x) {
			return true
		}
		*word |= bit
	}
	for _, x := range a {
		if word, bit := mark(x); *word&bit != 0 && slices.Contains(b, x) {
			return true
		}
	}
	return false
}
