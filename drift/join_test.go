package drift

import (
	"fmt"
	"testing"
	"time"
)

// A label may come exactly when MonitorOptions.Labels has passed, and not later.
func TestJoinWaitsSoLong(t *testing.T) {
	for name, start := range map[string]time.Time{"2011": newClock().now, "a clock that was not set": {}} {
		j := newJoin(1000, time.Hour)
		j.put("in time", waiting{state: predicted, score: 0.25}, start)
		if other, what := j.put("in time", waiting{state: labelOnly}, start.Add(time.Hour)); what != joined || other.score != 0.25 {
			t.Errorf("%s: a label after an hour: %v", name, what)
		}
		j.put("late", waiting{state: predicted}, start)
		if _, what := j.put("late", waiting{state: labelOnly}, start.Add(time.Hour+time.Microsecond)); what != kept || j.expired.Load() != 1 {
			t.Errorf("%s: a label after more than an hour: %v", name, what)
		}
	}
	// A clock that is set at last has left what waited behind.
	j := newJoin(1000, time.Hour)
	j.put("id", waiting{state: predicted}, time.Time{})
	if _, what := j.put("id", waiting{state: labelOnly}, newClock().now); what != kept || j.expired.Load() != 1 {
		t.Errorf("a label after two thousand years: %v", what)
	}
	// One that is set back has not.
	j.put("back", waiting{state: predicted, score: 0.5}, newClock().now)
	if other, what := j.put("back", waiting{state: labelOnly}, time.Time{}); what != joined || other.score != 0.5 {
		t.Errorf("a label before its prediction: %v", what)
	}
}

// The queue grows after it has forgotten as it does before: nobody loses their place.
func TestJoinGrowsAfterForgetting(t *testing.T) {
	j, now := newJoin(100_000, time.Hour), newClock().now
	for i := range 150 {
		j.put(fmt.Sprint("old ", i), waiting{state: predicted}, now)
	}
	now = now.Add(2 * time.Hour)
	for i := range 5000 {
		j.put(fmt.Sprint(i), waiting{state: predicted, score: float64(i)}, now)
	}
	if s := j.stats(); s.Waiting != 5000 || s.Expired != 150 {
		t.Errorf("%+v: the 150 are too old, and the 5000 wait", s)
	}
	for i := range 5000 {
		if other, what := j.put(fmt.Sprint(i), waiting{state: labelOnly}, now); what != joined || other.score != float64(i) {
			t.Fatalf("label %d: %v with the score of %v", i, what, other.score)
		}
	}
}
