package trainer

import (
	"context"
	"math"
	"slices"
	"sort"
)

const (
	maxBins = 255
	missing = 0 // the bin of NaN; cut i opens bin i+1
)

// table is the training data, each value replaced by the number of its column's cuts at or below it.
type table struct {
	rows, columns int
	bins          []uint8     // row-major
	cuts          [][]float32 // per column, ascending; the first is the least value
}

// discretise cuts every column at its quantiles, or between all its values where they are few.
func discretise(ctx context.Context, rows [][]float64, columns, bins int) (*table, error) {
	d := &table{rows: len(rows), columns: columns, bins: make([]uint8, len(rows)*columns), cuts: make([][]float32, columns)}
	values := make([]float32, 0, len(rows))
	for c := range columns {
		if err := yield(ctx); err != nil {
			return nil, err
		}
		values = values[:0]
		for _, row := range rows {
			if v := float32(row[c]); v == v {
				values = append(values, v)
			}
		}
		slices.Sort(values)
		cuts := cutsOf(values, bins)
		d.cuts[c] = cuts
		for i, row := range rows {
			if i%yieldEvery == 0 {
				if err := yield(ctx); err != nil {
					return nil, err
				}
			}
			if v := float32(row[c]); v == v {
				d.bins[i*columns+c] = uint8(sort.Search(len(cuts), func(j int) bool { return cuts[j] > v }))
			}
		}
	}
	return d, nil
}

// cutsOf returns at most limit thresholds for sorted values: the least value, which only parts missing from present, then
// values with about equally many between them. Between two neighbours the threshold is their middle.
func cutsOf(sorted []float32, limit int) []float32 {
	if len(sorted) == 0 {
		return nil
	}
	distinct := slices.Compact(slices.Clone(sorted))
	cuts := []float32{distinct[0]}
	if len(distinct) <= limit {
		for i, v := range distinct[1:] {
			cuts = append(cuts, between(distinct[i], v))
		}
		return cuts
	}
	for i := 1; i < limit; i++ {
		at := i * len(sorted) / limit
		v := sorted[at]
		if v <= cuts[len(cuts)-1] {
			continue
		}
		before, _ := slices.BinarySearch(distinct, v)
		if cut := between(distinct[before-1], v); cut > cuts[len(cuts)-1] {
			cuts = append(cuts, cut)
		}
	}
	return cuts
}

// between returns a threshold t with low < t <= high.
func between(low, high float32) float32 {
	t := float32((float64(low) + float64(high)) / 2)
	if t <= low || math.IsInf(float64(t), 0) {
		return high
	}
	return t
}
