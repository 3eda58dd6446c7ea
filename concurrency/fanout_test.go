package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

var errBoom = errors.New("boom")

func upTo(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func square(_ context.Context, i int) (int, error) { return i * i, nil }

func TestMapAlignsAndRunsEachOnce(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for _, n := range []int{0, 1, 2, 7, 1000} {
		for _, limit := range []int{1, 2, 3, 64, 1 << 30} {
			var calls atomic.Int64
			got, err := concurrency.Map(t.Context(), limit, upTo(n), func(ctx context.Context, i int) (int, error) {
				calls.Add(1)
				return square(ctx, i)
			})
			if err != nil || got == nil || len(got) != n || calls.Load() != int64(n) {
				t.Fatalf("n=%d limit=%d: %d results (nil: %v), %d calls, %v", n, limit, len(got), got == nil, calls.Load(), err)
			}
			for i, v := range got {
				if v != i*i {
					t.Fatalf("n=%d limit=%d: result %d is %d", n, limit, i, v)
				}
			}
		}
	}
}

// A worker that has found no work for another does not start one. On one core,
// which AllocsPerRun leaves, it is known who runs when; a goroutine allocates.
func TestNoMoreWorkersThanWork(t *testing.T) {
	run := func(limit int, in []int, f func(context.Context, int) error) float64 {
		return testing.AllocsPerRun(20, func() { _ = concurrency.Each(t.Context(), limit, in, f) })
	}
	tiny := func(context.Context, int) error { return nil }
	if few, many := run(2, upTo(500), tiny), run(100, upTo(500), tiny); many > few+10 {
		t.Errorf("500 tiny items allocate %v times with a limit of 100, and %v times with one of 2", many, few)
	}
	// The caller takes 0 and 1; who takes 2, the last, may start one more, for nothing.
	last := make(chan struct{})
	meet := func(_ context.Context, i int) error {
		switch i {
		case 1:
			<-last
		case 2:
			last <- struct{}{}
		}
		return nil
	}
	if few, many := run(2, upTo(3), meet), run(3, upTo(3), meet); many > few {
		t.Errorf("3 items allocate %v times with a limit of 3, and %v times with one of 2", many, few)
	}
}

// The limit is reached and never exceeded, and the caller counts.
func TestMapUsesExactlyTheLimit(t *testing.T) {
	for _, limit := range []int{1, 3, 10} {
		synctest.Test(t, func(t *testing.T) {
			var now, peak int
			var mu sync.Mutex
			start := time.Now()
			err := concurrency.Each(t.Context(), limit, upTo(30), func(context.Context, int) error {
				mu.Lock()
				now++
				peak = max(peak, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			})
			if err != nil || peak != limit {
				t.Errorf("limit %d: at most %d ran at once, %v", limit, peak, err)
			}
			if took, want := time.Since(start), time.Duration(30/limit)*time.Second; took != want {
				t.Errorf("limit %d: took %v, want %v: workers stood idle", limit, took, want)
			}
		})
	}
}

// A slow item must not hold up others while a worker is free.
func TestMapDoesNotQueueBehindASlowItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fast atomic.Int64
		_ = concurrency.Each(t.Context(), 2, upTo(100), func(_ context.Context, i int) error {
			if i == 0 {
				time.Sleep(time.Hour)
				if n := fast.Load(); n != 99 {
					t.Errorf("only %d of 99 others ran while item 0 was slow", n)
				}
				return nil
			}
			fast.Add(1)
			return nil
		})
	})
}

// Items may wait for each other, at any place and however fast those before
// them were.
func TestItemsMayWaitForEachOther(t *testing.T) {
	for first := range 200 {
		synctest.Test(t, func(t *testing.T) {
			met := make(chan int)
			err := concurrency.Each(t.Context(), 2, upTo(202), func(_ context.Context, i int) error {
				switch i {
				case first:
					met <- i
				case first + 1:
					if v := <-met; v != first {
						t.Errorf("%d met %d", i, v)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLimitMustBePositive(t *testing.T) {
	ctx := t.Context()
	one := func(context.Context) (int, error) { return 1, nil }
	for name, call := range map[string]func(limit int){
		"Map":       func(l int) { _, _ = concurrency.Map(ctx, l, []int{1}, square) },
		"MapAll":    func(l int) { concurrency.MapAll(ctx, l, []int{1}, square) },
		"Each":      func(l int) { _ = concurrency.Each(ctx, l, nil, func(context.Context, int) error { return nil }) },
		"Gather":    func(l int) { _, _ = concurrency.Gather(ctx, l, one) },
		"GatherAll": func(l int) { concurrency.GatherAll(ctx, l, one) },
		"First":     func(l int) { _, _ = concurrency.First(ctx, l, one) },
	} {
		for _, limit := range []int{0, -1} {
			want := fmt.Sprintf("concurrency: %s: limit is %d, must be positive", name, limit)
			if got := panicOf(func() { call(limit) }); got != want {
				t.Errorf("%s with limit %d panics with %v, want %q", name, limit, got, want)
			}
		}
	}
}

func TestNilFunctionsPanicBeforeAnyRuns(t *testing.T) {
	ctx := t.Context()
	var ran atomic.Bool
	one := func(context.Context) (int, error) { ran.Store(true); return 1, nil }
	for name, call := range map[string]func(){
		"Map":       func() { _, _ = concurrency.Map[int, int](ctx, 1, nil, nil) },
		"MapAll":    func() { concurrency.MapAll[int, int](ctx, 1, nil, nil) },
		"Each":      func() { _ = concurrency.Each[int](ctx, 1, nil, nil) },
		"Gather":    func() { _, _ = concurrency.Gather(ctx, 1, one, nil) },
		"GatherAll": func() { concurrency.GatherAll(ctx, 1, one, nil) },
		"First":     func() { _, _ = concurrency.First(ctx, 1, one, nil) },
		"First 0":   func() { _, _ = concurrency.First[int](ctx, 1) },
		"Join2":     func() { _, _, _ = concurrency.Join2[int, int](ctx, one, nil) },
		"Join3":     func() { _, _, _, _ = concurrency.Join3[int, int, int](ctx, one, one, nil) },
		"Flight": func() {
			var f concurrency.Flight[int, int]
			_, _, _ = f.Do(ctx, 1, nil)
		},
		"Run":     func() { _ = concurrency.Run(ctx, func(context.Context) error { ran.Store(true); return nil }, nil) },
		"WaitFor": func() { _, _ = concurrency.WaitFor[int](ctx, 1, nil) },
		"Do":      func() { _, _ = concurrency.Do[int](ctx, concurrency.NewSemaphore(1, 0), nil) },
		"Do nil":  func() { _, _ = concurrency.Do(ctx, nil, one) },
		"Abandon": func() { _, _ = concurrency.Abandon(ctx, nil, time.Second, one) },
	} {
		if panicOf(call) == nil {
			t.Errorf("%s takes nothing to call", name)
		}
	}
	if ran.Load() {
		t.Error("a function ran beside a nil one")
	}
}

func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// With errgroup's Go 995 of 1000 tasks start after the first has failed.
func TestNothingStartsAfterTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started []int
		var mu sync.Mutex
		got, err := concurrency.Map(t.Context(), 4, upTo(1000), func(ctx context.Context, i int) (int, error) {
			mu.Lock()
			started = append(started, i)
			mu.Unlock()
			if i == 0 {
				time.Sleep(time.Second)
				return 0, errBoom
			}
			<-ctx.Done() // cancelled by item 0
			if cause := context.Cause(ctx); cause != errBoom {
				t.Errorf("item %d sees the cause %v", i, cause)
			}
			return i, nil
		})
		if err != errBoom || got != nil {
			t.Errorf("got %v, %v; want nil and the error itself", got, err)
		}
		if slices.Sort(started); !slices.Equal(started, upTo(4)) {
			t.Errorf("started %v, want the first four", started)
		}
	})
}

// Cancelling is seen by the very next item, not some time later.
func TestNothingStartsAfterCancellation(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	reason := errors.New("user left")
	for range 200 {
		ctx, cancel := context.WithCancelCause(t.Context())
		var after, started atomic.Int64
		var cancelled atomic.Bool
		results := concurrency.MapAll(ctx, 1, upTo(50), func(_ context.Context, i int) (int, error) {
			started.Add(1)
			if cancelled.Load() {
				after.Add(1)
			}
			if i == 7 {
				cancel(reason)
				cancelled.Store(true)
			}
			return i, nil
		})
		if after.Load() != 0 || started.Load() != 8 {
			t.Fatalf("%d started, %d of them after the cancellation", started.Load(), after.Load())
		}
		for i, r := range results {
			if i <= 7 && (r.Err != nil || r.Value != i) || i > 7 && r.Err != reason {
				t.Fatalf("slot %d holds %+v", i, r)
			}
		}
	}
}

func TestMapReturnsTheCauseOfTheCaller(t *testing.T) {
	reason := errors.New("user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	called := false
	f := func(context.Context, int) (int, error) { called = true; return 0, nil }
	if _, err := concurrency.Map(ctx, 2, upTo(3), f); err != reason || called {
		t.Errorf("done context: err %v, called %v", err, called)
	}
	if _, err := concurrency.Map(ctx, 2, []int{}, f); err != nil {
		t.Errorf("nothing to do is no failure: %v", err)
	}
	for i, r := range concurrency.MapAll(ctx, 2, upTo(3), f) {
		if r.Err != reason {
			t.Errorf("slot %d: %v", i, r.Err)
		}
	}

	// A task that reports only ctx.Err() must not hide why.
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	obey := func(ctx context.Context, _ int) (int, error) {
		cancel(reason)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	_, err := concurrency.Map(ctx, 1, upTo(3), obey)
	if !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
		t.Errorf("want the cause and context.Canceled, got %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	if r := concurrency.MapAll(ctx, 1, upTo(1), obey)[0]; !errors.Is(r.Err, reason) || !errors.Is(r.Err, context.Canceled) {
		t.Errorf("slot: want the cause and context.Canceled, got %v", r.Err)
	}
}

// All were started before the end of ctx and succeeded: that is a success.
func TestMapDoneBeforeCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	got, err := concurrency.Map(ctx, 1, upTo(3), func(_ context.Context, i int) (int, error) {
		if i == 2 {
			cancel()
		}
		return i, nil
	})
	if err != nil || !slices.Equal(got, upTo(3)) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestMapAllKeepsEveryError(t *testing.T) {
	results := concurrency.MapAll(t.Context(), 3, upTo(30), func(_ context.Context, i int) (int, error) {
		switch i % 3 {
		case 1:
			return -1, fmt.Errorf("item %d", i)
		case 2:
			panic(i)
		}
		return i, nil
	})
	for i, r := range results {
		p, panicked := errors.AsType[*concurrency.PanicError](r.Err)
		switch {
		case i%3 == 0 && (r.Err != nil || r.Value != i),
			i%3 == 1 && (r.Err == nil || r.Err.Error() != fmt.Sprintf("item %d", i) || r.Value != -1),
			i%3 == 2 && (!panicked || p.Value != i || r.Value != 0):
			t.Errorf("slot %d: %+v", i, r)
		}
	}
}

func explode() { panic(errBoom) }

func TestPanicReachesTheCaller(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for victim := range 8 { // the item that runs on the calling goroutine is among them
		var alive atomic.Int64
		v := panicOf(func() {
			_ = concurrency.Each(t.Context(), 8, upTo(1000), func(ctx context.Context, i int) error {
				alive.Add(1)
				defer alive.Add(-1)
				if i == victim {
					explode()
				}
				if i < 8 {
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), errBoom) {
						t.Errorf("siblings see the cause %v", context.Cause(ctx))
					}
				}
				return nil
			})
		})
		p, ok := v.(*concurrency.PanicError)
		if !ok || p.Value != errBoom || !errors.Is(p, errBoom) {
			t.Fatalf("recovered %v", v)
		}
		if !strings.Contains(string(p.Stack), "explode") || !strings.Contains(p.Error(), "explode") {
			t.Errorf("the stack does not show where it happened:\n%s", p.Stack)
		}
		if alive.Load() != 0 {
			t.Errorf("%d siblings were alive at the panic", alive.Load())
		}
	}
}

func TestNestedPanicKeepsTheInnerStack(t *testing.T) {
	v := panicOf(func() {
		_, _ = concurrency.Gather(t.Context(), 1, func(ctx context.Context) ([]int, error) {
			return concurrency.Map(ctx, 1, upTo(1), func(context.Context, int) (int, error) {
				explode()
				return 0, nil
			})
		})
	})
	if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom || !strings.Contains(string(p.Stack), "explode") {
		t.Errorf("recovered %v", v)
	}
}

// runtime.Goexit on any worker, the caller among them, ends the caller's
// goroutine, and only after the siblings have been cancelled and joined.
func TestGoexitEndsTheCaller(t *testing.T) {
	for victim := range 4 {
		for name, call := range map[string]func(ctx context.Context, f func(context.Context, int) (int, error)){
			"Map": func(ctx context.Context, f func(context.Context, int) (int, error)) {
				_, _ = concurrency.Map(ctx, 4, upTo(4), f)
			},
			"MapAll": func(ctx context.Context, f func(context.Context, int) (int, error)) {
				concurrency.MapAll(ctx, 4, upTo(4), f)
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				var alive atomic.Int64
				var returned bool
				aliveAtExit := int64(-1)
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					defer func() { aliveAtExit = alive.Load() }()
					call(t.Context(), func(ctx context.Context, i int) (int, error) {
						alive.Add(1)
						defer alive.Add(-1)
						if i == victim {
							time.Sleep(time.Second) // the others run by then
							runtime.Goexit()
						}
						<-ctx.Done()
						time.Sleep(time.Second) // and need a moment to leave
						return 0, nil
					})
					returned = true
				}()
				<-gone
				if returned || aliveAtExit != 0 {
					t.Errorf("%s, item %d: returned %v, %d siblings alive", name, victim, returned, aliveAtExit)
				}
			})
		}
	}
}

// The caller, being a worker, may be done with its items long before the others.
func TestMapWaitsForTheOtherWorkers(t *testing.T) {
	for slow := range 3 {
		synctest.Test(t, func(t *testing.T) {
			f := func(_ context.Context, i int) (int, error) {
				if i != slow {
					time.Sleep(time.Second) // so that each worker gets one
					return i, nil
				}
				time.Sleep(time.Hour)
				return 0, errBoom
			}
			start := time.Now()
			if _, err := concurrency.Map(t.Context(), 3, upTo(3), f); err != errBoom || time.Since(start) != time.Hour {
				t.Errorf("item %d fails late: %v after %v", slow, err, time.Since(start))
			}
			if r := concurrency.MapAll(t.Context(), 3, upTo(3), f); r[slow].Err != errBoom {
				t.Errorf("item %d fails late: %+v", slow, r)
			}
		})
	}
}

// Nested use of one limit must not deadlock. In a bubble that is an error.
func TestNestingNeverDeadlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var leaves atomic.Int64
		var visit func(ctx context.Context, depth int) error
		visit = func(ctx context.Context, depth int) error {
			if depth == 0 {
				leaves.Add(1)
				time.Sleep(time.Millisecond)
				return nil
			}
			return concurrency.Each(ctx, 1+depth%2, upTo(4), func(ctx context.Context, _ int) error { return visit(ctx, depth-1) })
		}
		if err := visit(t.Context(), 5); err != nil || leaves.Load() != 1024 {
			t.Errorf("%d leaves, %v", leaves.Load(), err)
		}
	})
}

func TestGather(t *testing.T) {
	value := func(i int) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { return i, nil }
	}
	fail := func(context.Context) (int, error) { return 9, errBoom }
	if got, err := concurrency.Gather(t.Context(), 2, value(1), value(2), value(3)); err != nil || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := concurrency.Gather(t.Context(), 1, fail, value(2)); err != errBoom || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := concurrency.Gather[int](t.Context(), 1); err != nil || got == nil || len(got) != 0 {
		t.Errorf("nothing to gather: %v, %v", got, err)
	}
	all := concurrency.GatherAll(t.Context(), 2, value(1), fail, value(3))
	if want := []concurrency.Result[int]{{1, nil}, {9, errBoom}, {3, nil}}; !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

func TestJoin2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := func(d time.Duration, v int, err error) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				select {
				case <-time.After(d):
					return v, err
				case <-ctx.Done():
					return -1, ctx.Err()
				}
			}
		}
		start := time.Now()
		a, b, err := concurrency.Join2(t.Context(), wait(time.Second, 1, nil), wait(time.Second, 2, nil))
		if a != 1 || b != 2 || err != nil || time.Since(start) != time.Second {
			t.Errorf("got %d, %d, %v after %v", a, b, err, time.Since(start))
		}
		for _, swap := range []bool{false, true} {
			f, g := wait(time.Second, 1, errBoom), wait(time.Hour, 2, nil)
			if swap {
				f, g = g, f
			}
			start = time.Now()
			a, b, err = concurrency.Join2(t.Context(), f, g)
			if a != 0 || b != 0 || err != errBoom || time.Since(start) != time.Second {
				t.Errorf("got %d, %d, %v after %v", a, b, err, time.Since(start))
			}
		}
	})
}

func TestJoin3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Int64
		wait := func(d time.Duration, v int, err error) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				began.Add(1)
				select {
				case <-time.After(d):
					return v, err
				case <-ctx.Done():
					if context.Cause(ctx) != errBoom {
						t.Errorf("sees the cause %v", context.Cause(ctx))
					}
					return -1, ctx.Err()
				}
			}
		}
		start := time.Now()
		a, b, c, err := concurrency.Join3(t.Context(), wait(time.Second, 1, nil), wait(time.Second, 2, nil), wait(time.Second, 3, nil))
		if a != 1 || b != 2 || c != 3 || err != nil || time.Since(start) != time.Second {
			t.Errorf("got %d, %d, %d, %v after %v", a, b, c, err, time.Since(start))
		}
		for bad := range 3 {
			fs := []func(context.Context) (int, error){wait(time.Hour, 1, nil), wait(time.Hour, 2, nil), wait(time.Hour, 3, nil)}
			fs[bad] = wait(time.Second, 4, errBoom)
			start = time.Now()
			began.Store(0)
			a, b, c, err = concurrency.Join3(t.Context(), fs[0], fs[1], fs[2])
			if a != 0 || b != 0 || c != 0 || err != errBoom || began.Load() != 3 || time.Since(start) != time.Second {
				t.Errorf("%d fails: got %d, %d, %d, %v after %v", bad, a, b, c, err, time.Since(start))
			}
		}
	})
}

func TestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var joined atomic.Int64
		reply := func(d time.Duration, v int, err error) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				defer joined.Add(1)
				select {
				case <-time.After(d):
					return v, err
				case <-ctx.Done():
					time.Sleep(time.Second) // losers need a moment to clean up
					return 0, ctx.Err()
				}
			}
		}
		start := time.Now()
		v, err := concurrency.First(t.Context(), 3,
			reply(time.Minute, 0, errBoom), // an early error is not a win
			reply(3*time.Minute, 2, nil),
			reply(2*time.Minute, 3, nil),
			reply(time.Hour, 4, nil)) // starts when the first has failed
		if v != 3 || err != nil || time.Since(start) != 2*time.Minute+time.Second || joined.Load() != 4 {
			t.Errorf("got %d, %v after %v, %d joined", v, err, time.Since(start), joined.Load())
		}

		other := errors.New("other")
		_, err = concurrency.First(t.Context(), 2, reply(2, 0, errBoom), reply(1, 0, other))
		if err == nil || err.Error() != "boom\nother" {
			t.Errorf("all failed: want the errors in order, got %q", err)
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(other) })
		_, err = concurrency.First(ctx, 1, reply(time.Minute, 1, nil), reply(1, 2, nil))
		if !errors.Is(err, other) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(other) })
		if _, err = concurrency.First(ctx, 1, reply(time.Minute, 1, nil)); !errors.Is(err, other) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled when all had started: %v", err)
		}
	})
}

// The end of the context is told where it kept a function from starting, and
// only there.
func TestFirstTellsWhatKeptItFromStarting(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		functions int
		want      string
	}{{1, "boom"}, {2, "boom\nother"}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		fail := func(context.Context) (int, error) { cancel(other); return 0, errBoom }
		_, err := concurrency.First(ctx, 1, slices.Repeat([]func(context.Context) (int, error){fail}, c.functions)...)
		if err == nil || err.Error() != c.want {
			t.Errorf("of %d functions one has failed and ended the context: got %q, want %q", c.functions, err, c.want)
		}
	}
}

// A loser's panic is not swallowed because another won.
func TestFirstPanicOfALoser(t *testing.T) {
	v := panicOf(func() {
		_, _ = concurrency.First(t.Context(), 2,
			func(ctx context.Context) (int, error) { <-ctx.Done(); panic(errBoom) },
			func(context.Context) (int, error) { return 1, nil })
	})
	if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom {
		t.Errorf("recovered %v", v)
	}
}
