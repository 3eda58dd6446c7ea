package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// through sends one call with this outcome through l, and returns what it says
// before the call.
func through(ctx context.Context, l concurrency.Limiter, outcome error) error {
	p, err := l.Acquire(ctx, 1)
	if err != nil {
		return err
	}
	p.Done(&outcome)
	return nil
}

func repeat(t *testing.T, n int, l concurrency.Limiter, outcome error) {
	t.Helper()
	for i := range n {
		if err := through(t.Context(), l, outcome); err != nil {
			t.Fatalf("call %d of %d: %v", i+1, n, err)
		}
	}
}

func TestBreakerOpens(t *testing.T) {
	for name, c := range map[string]struct {
		breaker   *concurrency.Breaker
		good, bad int // in this order: the last bad one opens it
	}{
		"defaults, too few calls":     {&concurrency.Breaker{}, 0, 20},
		"defaults, half of many":      {&concurrency.Breaker{}, 50, 50},
		"its own number of calls":     {&concurrency.Breaker{MinCalls: 3}, 0, 3},
		"its own rate":                {&concurrency.Breaker{FailureRate: 0.1, MinCalls: 1}, 9, 1},
		"every call must have failed": {&concurrency.Breaker{FailureRate: 1, MinCalls: 5}, 0, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := c.breaker
			repeat(t, c.good, b, nil)
			repeat(t, c.bad-1, b, errBoom)
			if b.Stats().Open {
				t.Fatalf("%s: open one failure early", name)
			}
			repeat(t, 1, b, errBoom)
			err := through(t.Context(), b, nil)
			if !errors.Is(err, concurrency.ErrOpen) || !errors.Is(err, concurrency.ErrRejected) {
				t.Fatalf("%s: want ErrOpen, got %v", name, err)
			}
			if permanent, after := concurrency.Advice(err); permanent || after != 5*time.Second {
				t.Errorf("%s: advice is %v, %v", name, permanent, after)
			}
			want := concurrency.Stats{Admitted: uint64(c.good + c.bad), Failed: uint64(c.bad), Rejected: 1, Open: true}
			if st := b.Stats(); st != want {
				t.Errorf("%s: %+v, want %+v", name, st, want)
			}
		})
	}
	never := &concurrency.Breaker{FailureRate: 1.1, MinCalls: 1}
	repeat(t, 1000, never, errBoom)
}

// A success may be the call that makes a verdict possible.
func TestBreakerOpensOnTheLastOfMinCalls(t *testing.T) {
	b := &concurrency.Breaker{MinCalls: 4}
	repeat(t, 3, b, errBoom)
	repeat(t, 1, b, nil)
	if !b.Stats().Open {
		t.Error("three of four failed, and it is closed")
	}
}

// Callers that leave must not open a breaker.
func TestBreakerIgnoresCallersThatLeave(t *testing.T) {
	b := &concurrency.Breaker{MinCalls: 1}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := concurrency.Do(ctx, b, func(ctx context.Context) (int, error) {
			cancel()
			return 0, fmt.Errorf("get: %w", ctx.Err())
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	p, err := b.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p.Done(nil)
	if st := b.Stats(); st.Open || st.Failed != 0 || st.Admitted != 101 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	// The deadline is the callee's failure.
	late, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	q, err := b.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	<-late.Done()
	err = late.Err()
	q.Done(&err)
	if !b.Stats().Open {
		t.Error("a deadline that has passed is no failure")
	}
}

func TestBreakerJudges(t *testing.T) {
	odd := errors.New("odd")
	for name, c := range map[string]struct {
		failure func(error) bool
		err     error
		open    bool
		failed  uint64
	}{
		"any error":                  {nil, errBoom, true, 1},
		"an answer":                  {nil, concurrency.Permanent(errBoom), false, 0},
		"nothing was run":            {nil, fmt.Errorf("pool: %w", concurrency.ErrRejected), false, 0},
		"its own judge says yes":     {func(err error) bool { return errors.Is(err, odd) }, odd, true, 1},
		"its own judge says no":      {func(err error) bool { return errors.Is(err, odd) }, errBoom, false, 0},
		"its own judge is the judge": {func(error) bool { return true }, concurrency.Permanent(concurrency.ErrRejected), true, 1},
	} {
		b := &concurrency.Breaker{MinCalls: 1, Failure: c.failure}
		repeat(t, 1, b, c.err)
		if st := b.Stats(); st.Open != c.open || st.Failed != c.failed {
			t.Errorf("%s: %+v", name, st)
		}
	}
	// What was not run must not dilute the failures either.
	b := &concurrency.Breaker{MinCalls: 2}
	repeat(t, 1, b, errBoom)
	repeat(t, 10, b, concurrency.ErrRejected)
	repeat(t, 1, b, errBoom)
	if !b.Stats().Open {
		t.Error("rejections count as successes")
	}
}

func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &concurrency.Breaker{MinCalls: 2, OpenFor: time.Second}
		refused := func(when string) {
			t.Helper()
			if err := through(t.Context(), b, nil); !errors.Is(err, concurrency.ErrOpen) {
				t.Fatalf("%s: %v", when, err)
			}
		}
		old, err := b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		older, err := b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		repeat(t, 2, b, errBoom)
		time.Sleep(time.Second - 1)
		refused("a moment early")
		var ok error
		old.Done(&ok) // admitted before: no verdict on now
		refused("after the success of an old call")
		time.Sleep(time.Nanosecond)

		probe, err := b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		refused("while one probes")
		probe.Done(nil)
		probe, err = b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatalf("a probe without a verdict must make room: %v", err)
		}
		probe.Done(&errBoom)
		refused("after a failed probe")
		time.Sleep(time.Second)
		lost, err := b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second - 1)
		refused("while the lost one may still come back")
		time.Sleep(time.Nanosecond)
		repeat(t, 1, b, nil) // the probe that closes
		if b.Stats().Open {
			t.Fatal("open after a good probe")
		}
		lost.Done(&errBoom)
		older.Done(&errBoom)
		if b.Stats().Open {
			t.Fatal("opened by what was admitted before it closed")
		}
		repeat(t, 1, b, errBoom)
		if b.Stats().Open {
			t.Error("the window was not empty after closing")
		}
		repeat(t, 1, b, errBoom)
		if st := b.Stats(); !st.Open || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// The window is compared with a list of all calls.
func TestBreakerWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type call struct {
			at     time.Duration
			failed bool
		}
		r := rand.New(rand.NewPCG(3, 9))
		const window, minCalls = time.Second, 8
		b := &concurrency.Breaker{FailureRate: 0.5, MinCalls: minCalls, Window: window, OpenFor: time.Minute}
		start := time.Now() // the steps of the window begin with the first call
		repeat(t, 1, b, nil)
		calls := []call{{0, false}}
		opened := 0
		for range 20_000 {
			switch r.IntN(50) {
			case 0:
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			default:
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			now := time.Since(start)
			failed := r.IntN(5) < 2
			var outcome error
			if failed {
				outcome = errBoom
			}
			if err := through(t.Context(), b, outcome); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, call{now, failed})
			// A tenth of the window goes at a time, on multiples of it.
			first := now - now%(window/10) - 9*(window/10)
			total, bad := 0, 0
			for _, c := range calls {
				if c.at >= first {
					total++
					if c.failed {
						bad++
					}
				}
			}
			want := total >= minCalls && bad*2 >= total
			if got := b.Stats().Open; got != want {
				t.Fatalf("at %v: open %v with %d of %d failed in the window", now, got, bad, total)
			}
			if want {
				opened++
				time.Sleep(time.Minute)
				if err := through(t.Context(), b, nil); err != nil {
					t.Fatal(err)
				}
				calls = calls[:0]
			}
			if len(calls) > 100 {
				calls = append(calls[:0], calls[50:]...)
			}
		}
		if opened < 100 {
			t.Errorf("opened %d times only: the test shows little", opened)
		}
	})
}

func TestBreakerRefusesBadInput(t *testing.T) {
	var b concurrency.Breaker
	for _, n := range []int64{0, -1} {
		_, err := b.Acquire(t.Context(), n)
		if permanent, _ := concurrency.Advice(err); !permanent || !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("%d units: %v", n, err)
		}
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	if _, err := b.Acquire(gone, 1); !errors.Is(err, errBoom) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if st := b.Stats(); st != (concurrency.Stats{Rejected: 3}) {
		t.Errorf("%+v", st)
	}
	tiny := &concurrency.Breaker{Window: 1, MinCalls: 1}
	repeat(t, 1, tiny, nil)
}

// The zero Breaker has the window that is documented: 10 s.
func TestBreakerDefaultWindow(t *testing.T) {
	for after, open := range map[time.Duration]bool{9 * time.Second: true, 10 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			var b concurrency.Breaker
			repeat(t, 19, &b, errBoom)
			time.Sleep(after)
			repeat(t, 1, &b, errBoom)
			if b.Stats().Open != open {
				t.Errorf("19 failures count after %v: %v", after, !open)
			}
		})
	}
}

// Who is refused learns how long the breaker will still be open.
func TestBreakerTellsWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &concurrency.Breaker{MinCalls: 1, OpenFor: time.Minute}
		time.Sleep(time.Hour)
		repeat(t, 1, b, nil)
		time.Sleep(time.Second)
		repeat(t, 1, b, errBoom)
		time.Sleep(20 * time.Second)
		_, after := concurrency.Advice(through(t.Context(), b, nil))
		if after != 40*time.Second {
			t.Errorf("come back in %v", after)
		}
		time.Sleep(after)
		repeat(t, 1, b, nil)
	})
}

// What was admitted before the breaker opened and closed says nothing about now.
func TestBreakerForgetsWhatItAdmittedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &concurrency.Breaker{MinCalls: 1, OpenFor: time.Second}
		old, err := b.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		repeat(t, 1, b, errBoom) // opens it
		time.Sleep(time.Second)
		repeat(t, 1, b, nil) // closes it
		failed := errBoom
		old.Done(&failed)
		if st := b.Stats(); st.Open || st.InFlight != 0 || st.Failed != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// What was admitted as n units comes back as n.
func TestBreakerCountsUnits(t *testing.T) {
	var b concurrency.Breaker
	p, err := b.Acquire(t.Context(), 7)
	if err != nil || b.Stats().InFlight != 7 {
		t.Fatal(err, b.Stats())
	}
	p.Done(nil)
	if st := b.Stats(); st != (concurrency.Stats{Admitted: 1}) {
		t.Errorf("%+v", st)
	}
}

func TestBreakerAllocatesNothing(t *testing.T) {
	var b concurrency.Breaker
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(1000, func() {
		p, err := b.Acquire(ctx, 1)
		p.Done(&err)
	}); allocs != 0 {
		t.Errorf("%v allocations per call", allocs)
	}
}

func TestBreakerUnderRace(t *testing.T) {
	b := &concurrency.Breaker{MinCalls: 5, OpenFor: time.Nanosecond}
	_ = concurrency.Each(t.Context(), 8, upTo(5000), func(ctx context.Context, i int) error {
		var outcome error
		if i%3 > 0 {
			outcome = errBoom
		}
		_ = through(ctx, b, outcome)
		return nil
	})
	st := b.Stats()
	if st.InFlight != 0 || st.Admitted+st.Rejected != 5000 {
		t.Errorf("%+v", st)
	}
}
