package concurrency

import (
	"context"
	"math"
	"testing"
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
		{"a call takes longer", 16, 100 * ms, 1, 200 * ms, 0, 0},
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
