package drift

import (
	"slices"
	"testing"
)

// By the definition, at each value, in whole numbers.
func TestMaxGapByDefinition(t *testing.T) {
	upTo := func(s []float64, x float64) int {
		n := 0
		for _, y := range s {
			if y <= x {
				n++
			}
		}
		return n
	}
	smallSamples(3000, func(a, b []float64) {
		slices.Sort(a)
		slices.Sort(b)
		lcm := len(a)
		for lcm%len(b) > 0 {
			lcm += len(a)
		}
		pool := slices.Sorted(slices.Values(slices.Concat(a, b)))
		var above, below int64
		for _, x := range pool {
			gap := int64(upTo(a, x)*lcm/len(a) - upTo(b, x)*lcm/len(b))
			above, below = max(above, gap), max(below, -gap)
		}
		tied := len(slices.Compact(slices.Clone(pool))) < len(pool)
		if x, y, ties := maxGap(a, b); x != above || y != below || ties != tied {
			t.Fatalf("%v and %v: %d, %d, ties %v; want %d, %d, %v", a, b, x, y, ties, above, below, tied)
		}
	})
}
