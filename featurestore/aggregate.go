package featurestore

import (
	"math"
	"time"
)

// Events says what is to be known of an event of type E to aggregate it per
// key: it makes the Aggregates of a Windows definition.
type Events[K, E any] struct {
	key func(E) K
	at  func(E) time.Time
	id  func(E) string
}

// By describes events: the key they belong to, when they happened and what
// identifies them. An event that comes again has the same id and time. Ids
// need to be unique per key, hold 1 to 512 bytes and decide the order of
// events of one instant. The functions must be pure and safe for concurrent use.
func By[K, E any](key func(E) K, at func(E) time.Time, id func(E) string) Events[K, E] {
	return Events[K, E]{key: key, at: at, id: id}
}

// Aggregate is one feature of a Windows definition.
type Aggregate[E any] struct {
	name   string
	fold   fold
	window time.Duration
	value  func(E) float64 // nil for count
}

// Count is the number of events in the last w; 0 if there are none.
func (Events[K, E]) Count(name string, w time.Duration) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldCount, window: w}
}

// Sum is the sum of the values in the last w. In this and the other folds a
// NaN is no value and is left out. The sum of no values is null, which is 0
// where the field is not a pointer.
func (Events[K, E]) Sum(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldSum, window: w, value: value}
}

// Avg is the arithmetic mean of the values in the last w; null if there are none.
func (Events[K, E]) Avg(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldAvg, window: w, value: value}
}

// Min is the smallest value in the last w; null if there are none.
func (Events[K, E]) Min(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldMin, window: w, value: value}
}

// Max is the largest value in the last w; null if there are none.
func (Events[K, E]) Max(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldMax, window: w, value: value}
}

// Variance is the population variance of the values in the last w, by merging
// counts, means and squared deviations (Chan, Golub, LeVeque 1979), which keeps
// its accuracy where the mean is far larger than the spread; null if there are
// no values.
func (Events[K, E]) Variance(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldVariance, window: w, value: value}
}

// First is the first value in the last w by (event time, id); null if there
// are none.
func (Events[K, E]) First(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldFirst, window: w, value: value}
}

// Last is the last value in the last w by (event time, id); null if there are
// none.
func (Events[K, E]) Last(name string, w time.Duration, value func(E) float64) Aggregate[E] {
	return Aggregate[E]{name: name, fold: foldLast, window: w, value: value}
}

// fold is an aggregate function. Its state is up to three numbers, the same in
// memory and in a tile.
type fold uint8

const (
	foldCount fold = iota + 1 // no words of its own: a tile counts its events
	foldSum                   // number of values, sum
	foldAvg                   // number of values, sum
	foldMin                   // value, NaN: none; so are the next three
	foldMax
	foldFirst
	foldLast
	foldVariance // number of values, mean, sum of squared deviations
)

var foldNames = [...]string{foldCount: "count", foldSum: "sum", foldAvg: "avg", foldMin: "min", foldMax: "max", foldFirst: "first", foldLast: "last", foldVariance: "variance"}

// accumulator is the state of one fold; of a count, its first word.
type accumulator [3]float64

// words is how many numbers a tile keeps for the fold.
func (f fold) words() int {
	switch f {
	case foldCount:
		return 0
	case foldSum, foldAvg:
		return 2
	case foldVariance:
		return 3
	case foldMin, foldMax, foldFirst, foldLast:
	}
	return 1
}

func (f fold) empty() accumulator {
	if f.words() == 1 {
		return accumulator{math.NaN()}
	}
	return accumulator{}
}

// add folds one more value, the latest so far; NaN is none.
func (f fold) add(a *accumulator, v float64) {
	if f == foldCount {
		a[0]++
		return
	}
	if v != v {
		return
	}
	switch f {
	case foldSum, foldAvg:
		a[0]++
		a[1] += v
	case foldVariance:
		a[0]++
		d := v - a[1]
		a[1] += d / a[0]
		a[2] += d * (v - a[1])
	default:
		f.merge(a, &accumulator{v})
	}
}

// merge folds the state of later events into a.
func (f fold) merge(a, b *accumulator) {
	switch f {
	case foldCount:
		a[0] += b[0]
	case foldSum, foldAvg:
		a[0] += b[0]
		a[1] += b[1]
	case foldMin:
		if a[0] != a[0] || b[0] < a[0] {
			a[0] = b[0]
		}
	case foldMax:
		if a[0] != a[0] || b[0] > a[0] {
			a[0] = b[0]
		}
	case foldFirst:
		if a[0] != a[0] {
			a[0] = b[0]
		}
	case foldLast:
		if b[0] == b[0] {
			a[0] = b[0]
		}
	case foldVariance:
		switch {
		case b[0] == 0:
			return
		case a[0] == 0: // the general rule would round
			*a = *b
			return
		}
		n := a[0] + b[0]
		d := b[1] - a[1]
		a[1] += d * b[0] / n
		a[2] += b[2] + d*d*a[0]*b[0]/n
		a[0] = n
	}
}

// result is the value of the fold; NaN is null.
func (f fold) result(a *accumulator) float64 {
	switch f {
	case foldSum:
		if a[0] == 0 {
			return math.NaN()
		}
		return a[1]
	case foldAvg:
		return a[1] / a[0] // 0/0 is NaN
	case foldVariance:
		return a[2] / a[0]
	case foldCount, foldMin, foldMax, foldFirst, foldLast:
	}
	return a[0]
}
