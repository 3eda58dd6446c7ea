package concurrency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A second run is due if there is more time than it is expected to need.
func TestDueToTheNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hedger
		h.delay.Store(10)
		h.typical.Store(5)
		for left, want := range map[time.Duration]time.Duration{14: 0, 15: 0, 16: 10} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			if got := h.due(ctx, time.Now()); got != want {
				t.Errorf("%v left: due after %v, want %v", left, got, want)
			}
			cancel()
		}
	})
}

// A failure as fast as the delay says nothing, a slower one does.
func TestLearnToTheNanosecond(t *testing.T) {
	var h Hedger
	h.delay.Store(10)
	for took, want := range map[time.Duration]int{9: 0, 10: 0, 11: 1} {
		h.runs = latencies{}
		h.learn(took, errors.New("boom"))
		if h.runs.len() != want {
			t.Errorf("a failure after %v: %d learned, want %d", took, h.runs.len(), want)
		}
	}
}

// The delay is looked at again with every 32nd run.
func TestRefreshed(t *testing.T) {
	var h Hedger
	for range minRuns {
		h.learn(time.Second, nil)
	}
	first := h.Delay()
	for n := range refreshed - 1 {
		if h.learn(time.Hour, nil); h.Delay() != first {
			t.Fatalf("looked at after %d runs", n+1)
		}
	}
	if h.learn(time.Hour, nil); h.Delay() <= first {
		t.Errorf("after %d runs still %v", refreshed, h.Delay())
	}
}
