package drift

import "testing"

// Three zeros and a 4 have the mean 1, and the 4 is 3 above it: an alarm from 3 on is more than a Lambda of 3 does not see.
func TestPageHinkleyByHand(t *testing.T) {
	for _, way := range []float64{1, -1} {
		for _, c := range []struct {
			d    PageHinkley
			want []Verdict
		}{
			{PageHinkley{Lambda: 3, Min: 2}, []Verdict{Insufficient, Stable, Stable, Stable}},
			{PageHinkley{Lambda: 2.99, Min: 2}, []Verdict{Insufficient, Stable, Stable, Drift}},
			{PageHinkley{Lambda: 2.99, Min: 4}, []Verdict{Insufficient, Insufficient, Insufficient, Drift}},
			{PageHinkley{Lambda: 2.99, Min: 5}, []Verdict{Insufficient, Insufficient, Insufficient, Insufficient}},
			{PageHinkley{Lambda: 1.99, Min: 2, Delta: 1}, []Verdict{Insufficient, Stable, Stable, Drift}}, // 3 less Delta
			{PageHinkley{Lambda: 2, Min: 2, Delta: 1}, []Verdict{Insufficient, Stable, Stable, Stable}},
		} {
			d := c.d
			d.Raw = true
			if d.Delta == 0 {
				d.Delta = -1 // none
			}
			for i, x := range []float64{0, 0, 0, 4} {
				if got := d.Observe(way * x); got != c.want[i] {
					t.Errorf("%+v: %v at value %d of way %v, want %v", c.d, got, i+1, way, c.want[i])
				}
			}
		}
	}
}
