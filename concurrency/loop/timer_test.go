package loop_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
	"github.com/mainstay-go/mainstay/concurrency/loop"
)

func TestTimersFireAtTheirTimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		begin := time.Now()
		type firing struct {
			name string
			at   time.Duration
		}
		var got []firing
		note := func(name string) func() { return func() { got = append(got, firing{name, time.Since(begin)}) } }
		l.After(3*time.Second, note("c"))
		l.After(time.Second, note("a"))
		l.At(begin.Add(3*time.Second), note("d")) // the time of c, asked for later
		l.At(begin.Add(-time.Hour), note("past"))
		stop := start(l)
		synctest.Wait()
		l.After(2*time.Second, note("b")) // while it sleeps for a
		l.After(time.Second/2, note("first"))
		l.After(-1, note("now"))
		time.Sleep(10 * time.Second)
		must(t, stop())
		want := []firing{
			{"past", 0},
			{"now", 0},
			{"first", time.Second / 2},
			{"a", time.Second},
			{"b", 2 * time.Second},
			{"c", 3 * time.Second},
			{"d", 3 * time.Second},
		}
		if !slices.Equal(got, want) {
			t.Errorf("fired\n%v, want\n%v", got, want)
		}
		if st := l.Stats(); st.Fired != 7 || st.Timers != 0 || st.LateMax != time.Hour || st.Late50 != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		fired := ""
		var stops [6]func() bool
		for i := range stops {
			stops[i] = l.After(time.Duration(5-i)*time.Second, func() { fired += string(rune('a' + i)) })
		}
		if !stops[2]() || stops[2]() {
			t.Error("it can be stopped once")
		}
		// Both are due at the same turn, and the first stops the second.
		l.After(time.Minute, func() {
			if !stops[0]() {
				t.Error("not stopped, and not fired")
			}
		})
		stops[0]()
		stops[0] = l.After(time.Minute, func() { t.Error("stopped by the one before it") })
		if st := l.Stats(); st.Timers != 6 {
			t.Errorf("stats %+v", st)
		}
		stop := start(l)
		time.Sleep(time.Hour)
		if stops[1]() {
			t.Error("stopped after it fired")
		}
		must(t, stop())
		if fired != "fedb" {
			t.Errorf("fired %q", fired)
		}
	})
}

// The end is noticed at once, whenever the next timer is.
func TestEndWhileSleeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		l.After(-time.Minute, func() {}) // due now, so not late
		l.After(time.Hour, func() { t.Error("dropped") })
		stop := start(l)
		synctest.Wait()
		begin := time.Now()
		must(t, stop())
		if st := l.Stats(); time.Since(begin) != 0 || st.Timers != 0 || st.Fired != 1 || st.LateMax != 0 {
			t.Errorf("%v later: stats %+v", time.Since(begin), st)
		}
	})
}

// A timer that asks for itself again at once must not keep posted functions
// from running.
func TestTimersDoNotStarveThePosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(4)
		ran, turns := 0, 0
		var again func()
		again = func() {
			if turns++; ran < 3 && turns < 1000 {
				l.After(0, again)
			}
		}
		l.After(0, again)
		for range 3 {
			must(t, l.Post(t.Context(), func() { ran++ }))
		}
		stop := start(l)
		synctest.Wait()
		must(t, stop())
		if ran != 3 || turns > 10 {
			t.Errorf("%d posted functions ran within %d turns", ran, turns)
		}
	})
}

// What was not done in time is measured, to the nanosecond.
func TestLatenessIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		for i := range 100 { // due after 1 s, and 0 to 99 ms
			l.After(time.Second+time.Duration(i)*time.Millisecond, func() {})
		}
		l.After(time.Second, func() { time.Sleep(99 * time.Millisecond) }) // it takes too long
		stop := start(l)
		time.Sleep(time.Hour)
		must(t, stop())
		// Two fired at their time, and those due i ms later were 99 - i ms late.
		st := l.Stats()
		within := func(got, want time.Duration) bool { return got >= want && got <= want+want/8 }
		if !within(st.Late50, 48*time.Millisecond) || !within(st.Late99, 97*time.Millisecond) ||
			st.LateMax != 98*time.Millisecond || st.Longest != 99*time.Millisecond || st.Fired != 101 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A tick computed from the one before does not drift, whatever the steps take.
func TestTicksDoNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		begin := time.Now()
		next := begin
		var at []time.Duration
		var tick func()
		tick = func() {
			at = append(at, time.Since(begin))
			if len(at) == 2 {
				time.Sleep(25 * time.Millisecond) // a long step
			}
			if next = next.Add(10 * time.Millisecond); len(at) < 6 {
				l.At(next, tick)
			}
		}
		l.At(next, tick)
		stop := start(l)
		time.Sleep(time.Second)
		must(t, stop())
		ms := time.Millisecond
		if want := []time.Duration{0, 10 * ms, 35 * ms, 35 * ms, 40 * ms, 50 * ms}; !slices.Equal(at, want) {
			t.Errorf("ticks at %v, want %v", at, want)
		}
	})
}

// While it polls, the loop notices everything it notices while it sleeps.
func TestSpin(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	l := loop.New(1)
	l.Spin = time.Hour // never sleeps when there is a timer
	stop := start(l)
	l.After(time.Hour, func() { t.Error("not within this test") })
	done := make(chan struct{})
	must(t, l.Post(t.Context(), func() { close(done) }))
	<-done
	due := time.Now().Add(time.Millisecond)
	fired := make(chan time.Time)
	l.At(due, func() { fired <- time.Now() })
	if at := <-fired; at.Before(due) {
		t.Errorf("%v before its time", due.Sub(at))
	}
	must(t, stop())
}

func TestSleepAndSpin(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	l := loop.New(1)
	l.Spin = time.Millisecond
	fired := make(chan time.Duration, 1)
	ctx, cancel := context.WithCancel(t.Context())
	due := time.Now().Add(5 * time.Millisecond)
	l.At(due, func() { fired <- time.Since(due); cancel() })
	must(t, l.Run(ctx))
	if late := <-fired; late < 0 {
		t.Errorf("%v before its time", -late)
	}
	if st := l.Stats(); st.Fired != 1 || st.Late50 <= 0 || st.LateMax > st.Late50 {
		t.Errorf("stats %+v", st)
	}
}
