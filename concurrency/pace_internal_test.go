package concurrency

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// paceCase is a second in which calls with 1 s to live came back.
type paceCase struct {
	name        string
	rate, pace  float64 // per second, before
	units       int64   // that came within a second
	refused     int64
	took        time.Duration
	late        bool // all of them: they had less than they took
	wantRate    float64
	wantPerTime float64
}

func TestPaceLearns(t *testing.T) {
	for _, c := range []paceCase{
		{"a higher rate counts without anybody refused", 100, 40, 200, 0, 300 * time.Millisecond, false, 150, 37.5},
		{"a lower one does not, and the pace relaxes", 100, 40, 50, 0, 300 * time.Millisecond, false, 100, 36},
		{"but not below a quarter of the rate", 100, 26, 50, 0, 300 * time.Millisecond, false, 100, 25},
		{"a lower one does if somebody was refused", 100, 40, 50, 1, 500 * time.Millisecond, false, 75, 40},
		{"or if calls were late", 100, 40, 50, 0, 2 * time.Second, true, 75, 28},
		{"more is let in while calls have time to spare", 100, 40, 100, 1, 300 * time.Millisecond, false, 100, 44},
		{"not if nobody was refused", 100, 40, 100, 0, 300 * time.Millisecond, false, 100, 36},
		{"nor if they need more than that", 100, 40, 100, 1, 500 * time.Millisecond, false, 100, 40},
		{"less if they come close to their deadline", 100, 40, 100, 1, 800 * time.Millisecond, false, 100, 28},
		{"by 30 % at most", 100, 200, 100, 1, 500 * time.Millisecond, false, 100, 140},
		{"to what the rate lets through in time", 100, 80, 100, 1, 500 * time.Millisecond, false, 100, 70},
		{"and two fifths of their time is no time to spare", 100, 80, 100, 1, 400 * time.Millisecond, false, 100, 70},
		{"eight results count half", 100, 40, 8, 1, 500 * time.Millisecond, false, 77, 40},
		{"but not while calls have time to spare: fewer in flight would bring a lower rate still", 100, 80, 50, 1, 300 * time.Millisecond, false, 75, 88},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pace{rate: c.rate / 1e9, perTime: c.pace / 1e9}
			p.window.refused = c.refused
			for range c.units {
				p.came(1)
				until := time.Second
				if c.late {
					until = c.took - 1
				}
				p.good(1, c.took, 0, until)
			}
			p.learn(1e9, time.Second)
			if got := p.rate * 1e9; math.Abs(got-c.wantRate) > 1e-6 {
				t.Errorf("rate is %.2f, want %.2f", got, c.wantRate)
			}
			if got := p.perTime * 1e9; math.Abs(got-c.wantPerTime) > 1e-6 {
				t.Errorf("pace is %.2f, want %.2f", got, c.wantPerTime)
			}
		})
	}
}

// What decides is how much of their time calls took, and how many were late;
// of a late one, all of its time, however much later it came.
func TestPaceJudges(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name string
		late int // of 100 calls that had 1 s
		took time.Duration
		rest time.Duration // that the others took
		left bool          // the late ones at their deadline
		want float64       // pace, was 40
	}{
		{"in time", 0, 0, second / 10, false, 44},
		{"few are late", 19, 2 * second, second / 10, false, 44},
		{"few are very late", 5, time.Hour, second / 10, false, 44},
		{"few have left", 5, 0, second / 10, true, 44},
		{"not while a fifth is late, though all in all calls have time to spare", 20, 2 * second, second / 10, false, 40},
		{"nor while they have left", 20, 0, second / 10, true, 40},
		{"three in ten", 30, 2 * second, second / 10, false, 40},
		{"more than those", 31, 2 * second, second / 10, false, 28},
		{"more than those have left", 31, 0, second / 10, true, 28},
		{"two fifths of their time", 0, 0, 2 * second / 5, false, 40},
		{"seven tenths", 0, 0, 7 * second / 10, false, 40},
		{"more than that", 0, 0, 7*second/10 + 1, false, 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pace{rate: 100e-9, perTime: 40e-9}
			p.window.refused = 1
			for i := range 100 {
				p.came(1)
				switch {
				case i >= c.late:
					p.good(1, c.rest, 0, second)
				case c.left:
					p.late(0, second)
				default:
					p.good(1, c.took, 0, second)
				}
			}
			p.learn(1e9, second)
			if got := p.perTime * 1e9; math.Abs(got-c.want) > 1e-6 {
				t.Errorf("pace is %.2f, want %.2f", got, c.want)
			}
		})
	}
}

// Five calls do not say how long it takes.
func TestPaceNeedsJudges(t *testing.T) {
	for n, want := range map[int]float64{5: 40, 6: 28} {
		p := pace{rate: 100e-9, perTime: 40e-9}
		p.window.refused = 1
		for range n {
			p.came(1)
			p.good(1, 900*time.Millisecond, 0, time.Second)
		}
		p.window.came, p.window.good = 100, 100
		if p.learn(1e9, time.Second); math.Abs(p.perTime*1e9-want) > 1e-6 {
			t.Errorf("after %d calls that came late the pace is %.2f, want %.2f", n, p.perTime*1e9, want)
		}
	}
}

// Calls that were admitted before a cut are late because of what was before
// it: it must not be repeated for them.
func TestPaceCutsOnceForWhatWasAdmittedBefore(t *testing.T) {
	p := pace{rate: 100e-9, perTime: 60e-9}
	results := func(admitted time.Duration) {
		p.window.refused = 1
		for range 100 {
			p.came(1)
			p.good(1, admitted+900*time.Millisecond, admitted, admitted+time.Second)
		}
		p.learn(1e9, time.Second)
		p.window = paceWindow{}
	}
	for i, c := range []struct {
		admitted time.Duration
		want     float64
	}{{0, 42}, {time.Second - 1, 42}, {time.Second, 29.4}} {
		if results(c.admitted); math.Abs(p.perTime*1e9-c.want) > 1e-6 {
			t.Errorf("window %d: pace is %.2f, want %.2f", i, p.perTime*1e9, c.want)
		}
	}
}

func TestPaceOfAFailingCallee(t *testing.T) {
	p := pace{rate: 100e-9, perTime: 40e-9}
	p.window.refused = 1
	for range 10_000 { // it fails at once
		p.came(1)
	}
	p.learn(1e9, time.Second)
	if p.rate != 100e-9 || p.perTime > 70e-9 {
		t.Errorf("failures raised the rate to %.2f, the pace to %.2f", p.rate*1e9, p.perTime*1e9)
	}
	p.window = paceWindow{refused: 1}
	for range 50 { // it fails slowly
		p.came(1)
	}
	if p.learn(1e9, time.Second); math.Abs(p.rate*1e9-75) > 1e-6 {
		t.Errorf("slow failures left the rate at %.2f", p.rate*1e9)
	}
}

// What a callee does for callers that have left is work done: its rate is
// the callee's and not that of the patient.
func TestAdmissionCountsTheWorkForAbandonedCalls(t *testing.T) {
	var a Admission
	gone, err := a.Acquire(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	stays, err := a.Acquire(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	left := context.DeadlineExceeded
	if gone.Done(&left); a.pace.window.came != 0 || a.abandoned != 5 {
		t.Errorf("%d units came back, %d are abandoned", a.pace.window.came, a.abandoned)
	}
	if stays.Done(&err); a.pace.window.came != 7 || a.pace.window.good != 2 || a.abandoned != 0 {
		t.Errorf("%d units came back, %d of them good, %d are abandoned", a.pace.window.came, a.pace.window.good, a.abandoned)
	}
}

// Only what was admitted after the youngest call that was abandoned shows that
// the callee has come past all of them.
func TestAdmissionAbandonedCallsAreInFlightUntilALaterOneIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Admission
		var p [4]Permit
		for i := range p {
			var err error
			if p[i], err = a.Acquire(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		left := context.DeadlineExceeded
		p[2].Done(&left)
		p[0].Done(&left) // older, though it leaves later
		var good error
		if p[1].Done(&good); a.abandoned != 2 {
			t.Errorf("an older call is back, and %d are abandoned", a.abandoned)
		}
		if p[3].Done(&good); a.abandoned != 0 {
			t.Errorf("a younger call is back, and %d are abandoned", a.abandoned)
		}
	})
}

// A window with a result that says nothing about the callee is one without it.
func TestAdmissionCountsResultsOfTheCallee(t *testing.T) {
	for _, c := range []struct {
		name              string
		err               error
		known             bool
		came, good, judge int64
	}{
		{"good", nil, true, 3, 3, 1},
		{"failed", errors.New("no such user"), true, 3, 0, 0},
		{"refused further in", fmt.Errorf("inner: %w", ErrRejected), true, 0, 0, 0},
		{"left at the deadline", context.DeadlineExceeded, true, 0, 0, 1},
		{"unknown", nil, false, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Admission
			p, err := a.Acquire(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			p.done(c.known, c.err)
			if w := a.pace.window; w.came != c.came || w.results != min(c.came, 1) || w.good != c.good || w.judged != c.judge {
				t.Errorf("%d results, %d units came, %d good; %d calls say how long it takes", w.results, w.came, w.good, w.judged)
			}
		})
	}
}

// Who is refused has asked for more: the window knows, whether he may wait or not.
func TestAdmissionNotesRefusals(t *testing.T) {
	for _, waiting := range []int{0, 1} {
		a := Admission{MaxWaiting: waiting, NoDeadline: time.Minute, most: 1}
		ctx, cancel := context.WithCancel(t.Context())
		p, err := a.Acquire(ctx, 1)
		if err != nil || a.pace.window.refused != 0 {
			t.Fatalf("admitted, with %d refused: %v", a.pace.window.refused, err)
		}
		go func() {
			for { // until it waits, or has been refused
				if st := a.Stats(); st.Waiting+int64(st.Rejected) > 0 {
					cancel()
					return
				}
				runtime.Gosched()
			}
		}()
		if _, err := a.Acquire(ctx, 1); err == nil || a.pace.window.refused != 1 {
			t.Errorf("%d may wait: %d refused: %v", waiting, a.pace.window.refused, err)
		}
		p.Done(nil)
	}
}

func TestPaceWindow(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		results  int
		at       time.Duration
		inFlight int64
		latency  time.Duration
		paused   time.Duration
		want     float64 // rate per second; 0: the window goes on
	}{
		{"16 results", 16, 100 * ms, 1, 0, 0, 160},
		{"not yet", 15, 100 * ms, 1, 0, 0, 0},
		{"fewer after half a second", 15, 500 * ms, 1, 0, 0, 30},
		{"none", 0, 500 * ms, 1, 0, 0, 0},
		{"too short to tell", 1000, 9 * ms, 1, 0, 0, 0},
		{"just long enough", 16, 10 * ms, 1, 0, 0, 1600},
		{"a call takes longer", 16, 100 * ms, 1, 200 * ms, 0, 0},
		{"a call takes that long", 16, 100 * ms, 1, 100 * ms, 0, 160},
		{"but it does not wait for ever", 16, 500 * ms, 1, 2 * time.Second, 0, 32},
		{"nothing in flight", 16, 100 * ms, 0, 0, 0, 0},
		{"time without work does not count", 16, 1100 * ms, 1, 0, time.Second, 160},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pace{latency: float64(c.latency)}
			for range c.results {
				p.came(1)
				p.window.good++
			}
			p.pause(50 * ms)
			p.resume(50*ms + c.paused)
			p.roll(c.at, c.inFlight)
			if got := p.rate * 1e9; math.Abs(got-c.want) > 1e-6 {
				t.Errorf("rate is %.2f, want %.2f", got, c.want)
			}
			if over := p.window.results == 0; c.results > 0 && over != (c.want > 0) {
				t.Errorf("the window is over: %v", over)
			}
		})
	}
}

// How long a call takes is the mean over the units of the last window that had any.
func TestPaceLatency(t *testing.T) {
	const ms = time.Millisecond
	var p pace
	p.came(1)
	p.good(2, 30*ms, 10*ms, time.Second)
	p.good(1, 60*ms, 10*ms, time.Second)
	if p.roll(longest, 1); p.latency != float64(30*ms) {
		t.Errorf("two units took 20 ms and one 50: %v", time.Duration(p.latency))
	}
	p.came(1) // and failed
	if p.roll(2*longest, 1); p.window.results != 0 || p.latency != float64(30*ms) {
		t.Errorf("a window without a good result says nothing: %v", time.Duration(p.latency))
	}
}

// A call that ends at its deadline is in time.
func TestPaceJudgesTheDeadlineItself(t *testing.T) {
	var p pace
	p.good(1, time.Second, 0, time.Second)
	if p.window.late != 0 || p.window.judgedLate != 0 {
		t.Errorf("%d late, %d of those that are judged", p.window.late, p.window.judgedLate)
	}
	p.good(1, time.Second+1, 0, time.Second)
	if p.window.late != 1 || p.window.judgedLate != 1 {
		t.Errorf("a nanosecond later: %d late, %d of those that are judged", p.window.late, p.window.judgedLate)
	}
}

// Nobody was refused, but if more than three in ten are late more was asked for than there is.
func TestPaceOfLateCallsIsSaturated(t *testing.T) {
	for late, want := range map[int64]float64{0: 100, 6: 100, 7: 90} {
		p := pace{rate: 100e-9, perTime: 60e-9}
		p.window = paceWindow{results: 20, came: 80, good: 80, late: late}
		if p.learn(1e9, time.Second); math.Abs(p.rate*1e9-want) > 1e-6 {
			t.Errorf("%d of 20 are late: the rate is %.2f, want %.2f", late, p.rate*1e9, want)
		}
	}
}

func TestPaceRoom(t *testing.T) {
	p := pace{}
	if got := p.room(time.Millisecond); got != firstUnits {
		t.Errorf("before anything is known there is room for %v", got)
	}
	p.perTime = 100e-9
	if a, b, c := p.room(time.Second), p.room(time.Second/2), p.room(-time.Second); a != 100 || b != 50 || c != 1 {
		t.Errorf("room for 1 s, half of it and none: %v, %v, %v", a, b, c)
	}
}

// The time in which nothing is in flight is in no window, whoever asks.
func TestAdmissionPausesWithNothingInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Admission
		one, err := a.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		two, err := a.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		one.Done(nil)
		time.Sleep(10 * time.Millisecond)
		two.Done(nil)
		time.Sleep(10 * time.Second)
		if one, err = a.Acquire(t.Context(), 1); err != nil || a.pace.window.began != 10*time.Second {
			t.Errorf("20 ms before the window began it is said to have begun, at %v: %v", a.pace.window.began, err)
		}
		one.Done(nil)
	})
}

// With nothing in flight a call of any weight is admitted, but not one that has no time left.
func TestAdmissionFits(t *testing.T) {
	var a Admission
	for _, c := range []struct {
		n    int64
		left time.Duration
		want bool
	}{{2, 1, true}, {2, 0, false}, {2, -1, false}} {
		a.pace.perTime = 1e-9
		if got := a.fits(&applicant{n: c.n, until: time.Hour + c.left}, time.Hour); got != c.want {
			t.Errorf("%d units with %v left, nothing in flight: %v", c.n, c.left, got)
		}
	}
}

// A limiter that nobody waits for has nothing to lend.
func TestAdmissionLends(t *testing.T) {
	for waiting, want := range map[int]bool{-1: false, 0: false, 1: true} {
		a := Admission{MaxWaiting: waiting}
		if got := a.mark() != nil; got != want {
			t.Errorf("%d may wait: it lends: %v", waiting, got)
		}
	}
	a := Admission{MaxWaiting: 1}
	p, err := a.Acquire(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = a.Acquire(p.Context(t.Context()), 0); !errors.Is(err, ErrRejected) {
		t.Errorf("no units below a permit: %v", err)
	}
	p.Done(nil)
}

// Errors say what was in the way, and for how long.
func TestAdmissionErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := Admission{MaxWaiting: 1}
		gone, err := a.Acquire(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		stays, err := a.Acquire(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		left := context.DeadlineExceeded
		gone.Done(&left)
		time.Sleep(300 * time.Millisecond)
		for _, c := range []struct {
			n      int64
			err    string
			waited time.Duration
		}{
			{11, "concurrency: rejected: admission: 8 units in flight leave no room for 11 within 1s", 0},
			{10, "concurrency: rejected: admission: no room for 10 units after 1s", time.Second}, // would fit alone
		} {
			start := time.Now()
			if _, err := a.Acquire(t.Context(), c.n); err == nil || err.Error() != c.err || time.Since(start) != c.waited {
				t.Errorf("after %v, want %v: %v", time.Since(start), c.waited, err)
			}
		}
		stays.Done(nil)
	})
}

func TestRanks(t *testing.T) {
	var r ranks
	r.see(0, 0)
	if got := r.share(0, 0); got != 1 {
		t.Errorf("the only priority has a share of %v", got)
	}
	for p := -2; p < 7; p++ { // nine in all: the one not seen for longest makes room
		r.see(p, time.Duration(p+3)*time.Second)
	}
	for p, want := range map[int]float64{6: 1, 5: 0.5, 4: 0.25, 3: 1.0 / 8, -2: 1.0 / 8} {
		if got := r.share(p, 9*time.Second); got != want {
			t.Errorf("priority %d has a share of %v, want %v", p, got, want)
		}
	}
	if got := r.share(4, 9*time.Second+recently); got != 0.5 {
		t.Errorf("the last of 6 was at 9 s, so is within the time, that of 5 is not: share %v", got)
	}
}

// There is no room for a ninth: the one that has not been seen for longest is
// forgotten, and not the one that came first.
func TestRanksForgetTheOldest(t *testing.T) {
	var r ranks
	for i := range 8 {
		r.see(7-i, time.Duration(i)*time.Second)
	}
	r.see(7, 8*time.Second)
	r.see(-1, 9*time.Second)
	if got := r.share(6, 9*time.Second); got != 0.5 {
		t.Errorf("below 7, which was seen a second ago, the share is %v", got)
	}
	if got := r.share(5, 9*time.Second); got != 0.5 {
		t.Errorf("6 is forgotten, and below 7 the share is %v", got)
	}
}
