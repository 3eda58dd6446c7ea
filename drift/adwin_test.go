package drift

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Where a drift is found, worked out by hand: single values in the buckets, and a bound that is
// passed by one cut alone, that of the first or of the last values.
func TestADWINCutsByHand(t *testing.T) {
	for _, c := range []struct {
		name       string
		grace, min int
		first      []float64 // then its last value again and again
		at         int       // number of the value that is the first drift
	}{
		// L = ln(2 ln(11)/0.9) = 1.67, m = 1/5+1/6, v = 0.25 * 100: 5.0 + 0.4 is less than 10. Before, nobody looks.
		{"half and half", 10, 1, []float64{0, 0, 0, 0, 0, 10}, 11},
		{"more grace", 15, 1, []float64{0, 0, 0, 0, 0, 10}, 16},
		// At 11: m = 1+1/10, 1.65 + 1.23 is less than 3; the cut after two has 1.23 + 0.68 over 1.5.
		{"the first value", 10, 1, []float64{3, 0}, 11},
		// At 21: m = 1/20+1, 1.28 + 1.34 is less than 3; the cut before two has 0.93 + 0.70 over 1.5.
		{"the last value", 10, 1, append(make([]float64, 20), 3), 21},
		// The last value alone may not be a side. At 22 the cut before three has m = 1/18+1/2: 1.26 + 0.71 is less than 2.
		{"two at least", 10, 2, append(make([]float64, 20), 3), 22},
	} {
		d := &ADWIN{Delta: 0.9, Clock: 1, Buckets: 1000, MinWindow: c.min, Grace: c.grace}
		at := 0
		for i := range 40 {
			x := c.first[min(i, len(c.first)-1)]
			if d.Observe(x) == Drift {
				at = i + 1
				break
			}
		}
		if at != c.at {
			t.Errorf("%s: drift at value %d, want %d", c.name, at, c.at)
		}
	}
}

// A constant never changes, however long the window: its roundings are no drift.
func TestADWINOfAConstant(t *testing.T) {
	for _, x := range []float64{1000000.1, 0.1, -1e12 / 3} {
		var d ADWIN
		for i := range 1_000_000 {
			if d.Observe(x) == Drift {
				t.Fatalf("constant %v: drift at value %d", x, i)
			}
		}
		if d.Width() != 1_000_000 || math.Abs(d.Mean()-x) > 1e-13*math.Abs(x) {
			t.Errorf("the mean of %d times %v is %v", d.Width(), x, d.Mean())
		}
	}
}

// Nor do roundings hide a change of values that are far from 0.
func TestADWINFarFromZero(t *testing.T) {
	d := &ADWIN{}
	r := rand.New(rand.NewPCG(1, 1))
	at := 0
	for i := range 101_000 {
		if d.Observe(1000+r.Float64()+float64(i/100_000)) == Drift {
			at = i
			break
		}
	}
	if at < 100_000 {
		t.Errorf("the first drift is at %d, want one soon after 100,000", at)
	}
}
