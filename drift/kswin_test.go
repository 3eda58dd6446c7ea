package drift

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A part that is not smaller than the window is half of it, and so is one that is too small for the level: a single
// value among 40 has P 0.05 at best.
func TestKSWINParts(t *testing.T) {
	for recent, half := range map[int]bool{0: true, -1: true, 20: true, 40: true, 41: true, 39: true, 1: true, 2: false, 38: false} {
		a, b := &KSWIN{Alpha: 0.01, Window: 40, Recent: recent}, &KSWIN{Alpha: 0.01, Window: 40, Recent: 20}
		r := rand.New(rand.NewPCG(2, 2))
		same, alarms := true, 0
		for i := range 600 {
			x := r.NormFloat64() + 2*float64(i/100%2)
			va, vb := a.Observe(x), b.Observe(x)
			same = same && va == vb
			if vb == Drift {
				alarms++
			}
		}
		if same != half || alarms == 0 {
			t.Errorf("recent %d: as half of the window %v, want %v; %d alarms", recent, same, half, alarms)
		}
	}
}

// A window in which nothing could be as improbable as Alpha is the default one, where an alarm can be.
func TestKSWINCanAlarm(t *testing.T) {
	for _, c := range []struct{ window, recent int }{{0, 0}, {20, 0}, {2, 0}, {0, 2}, {100, 3}, {0, 198}} {
		d, alarm := &KSWIN{Window: c.window, Recent: c.recent}, 0
		for i := range 2000 {
			if d.Observe(float64(i%7)+1e6*float64(i/1000)) == Drift && alarm == 0 {
				alarm = i
			}
		}
		if alarm < 1000 {
			t.Errorf("%+v: first alarm at %d, want one after the jump at 1000", c, alarm)
		}
	}
}

// What can just be reached is no reason to take another window: 12 values in order have P 2/924, and one among
// 1000 has 2/1000.
func TestKSWINKeepsSettings(t *testing.T) {
	for _, c := range []struct {
		d              *KSWIN
		window, recent int
	}{
		{&KSWIN{Window: 12, Alpha: 0.0022}, 12, 6}, {&KSWIN{Window: 12, Alpha: 0.0021}, 200, 100}, {&KSWIN{Window: 1000, Recent: 1, Alpha: 0.01}, 1000, 1},
	} {
		c.d.Observe(0)
		if len(c.d.ring) != c.window || c.d.recent != c.recent {
			t.Errorf("the newest %d of %d, want %d of %d", c.d.recent, len(c.d.ring), c.recent, c.window)
		}
	}
}

// The least gap with such a P, by counting all deals of pooled values of which some are equal.
func TestCriticalGapByCounting(t *testing.T) {
	for _, c := range []struct {
		pool []float64
		n    int
	}{
		{valuesOf(4, 4, 4), 6}, {valuesOf(6, 6), 6}, {valuesOf(1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 5}, {valuesOf(1, 5, 1, 1, 3), 4},
		{valuesOf(1, 1, 1, 1), 1}, {valuesOf(2, 7, 2), 3},
	} {
		n, m := c.n, len(c.pool)-c.n
		_, ms := scaled(n, m)
		lcm := int64(n) * ms
		gaps := map[int64]float64{}
		all := 0.0
		deals(len(c.pool), n, func(first uint) {
			gaps[int64(math.Round(bruteD(c.pool, first)/float64(n*m)*float64(lcm)))]++
			all++
		})
		for _, alpha := range []float64{0.5, 0.3, 0.1, 0.05, 0.01, 0.0001} {
			want, beyond := lcm+1, 0.0
			for h := lcm; h >= 1; h-- {
				if beyond += gaps[h]; beyond/all > alpha {
					break
				}
				want = h
			}
			if got := criticalGap(n, m, alpha, tieGroups(c.pool, nil)); got != want {
				t.Errorf("%v, %d of them, alpha %v: %d, counting gives %d of %d", c.pool, n, alpha, got, want, lcm)
			}
		}
	}
	// Half of the places of one value among three others are at an end: at most alpha is enough.
	if got := criticalGap(1, 3, 0.5, nil); got != 3 {
		t.Errorf("%d, want 3", got)
	}
}
