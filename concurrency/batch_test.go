package concurrency_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// timed yields the number of each pause once that has passed.
func timed(pauses ...time.Duration) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i, d := range pauses {
			time.Sleep(d)
			if !yield(i, nil) {
				return
			}
		}
	}
}

func TestBatchByNumberAndByTime(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name string
		n    int
		wait time.Duration
		src  iter.Seq2[int, error]
		want string // what was yielded, and when
	}{
		{"full ones, and a rest", 3, time.Hour, timed(0, s, s, s, s, s, s), "[0 1 2]2s [3 4 5]5s [6]6s"},
		{"time counts from the first", 9, 3 * s, timed(10*s, 2*s, 2*s, 0, s, 3*s), "[0 1]13s [2 3 4]17s [5]18s"},
		{"a lone one", 2, s, timed(s, 10*s), "[0]2s [1]11s"},
		{"one at a time", 1, time.Hour, timed(s, s), "[0]1s [1]2s"},
		{"nothing", 3, s, timed(), ""},
		{"none waits", 3, 0, timed(s, s, s), "[0]1s [1]2s [2]3s"},
		{"no limit of time", 3, 1<<63 - 1, timed(s, s, s, s), "[0 1 2]3s [3]4s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var got []string
			for b, err := range concurrency.Batch(t.Context(), c.src, c.n, c.wait) {
				if err != nil {
					t.Error(err)
				}
				got = append(got, fmt.Sprintf("%v%v", b, time.Since(start)))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s: got %s, want %s", c.name, s, c.want)
			}
		})
	}
}

// While the loop is busy the next batch fills, and the source is read no
// further; its time runs, too.
func TestBatchCollectsWhileTheLoopIsBusy(t *testing.T) {
	for _, c := range []struct {
		wait time.Duration
		want string
	}{{time.Hour, "[0 1 2 3]0s [4 5 6 7]1m0s [8 9 10 11]2m0s "}, {0, "[0]0s [1 2 3 4]1m0s [5 6 7 8]2m0s "}} {
		synctest.Test(t, func(t *testing.T) {
			var reads atomic.Int64
			src := func(yield func(int, error) bool) {
				yield(0, nil)
				time.Sleep(time.Nanosecond)
				for i := 1; yield(i, nil); i++ {
					reads.Store(int64(i))
				}
			}
			if c.wait != 0 {
				src = naturals(&reads)
			}
			start := time.Now()
			got := ""
			for b := range concurrency.Batch(t.Context(), src, 4, c.wait) {
				got += fmt.Sprintf("%v%v ", b, time.Since(start).Truncate(time.Second))
				if strings.Count(got, " [") == 2 {
					break
				}
				time.Sleep(time.Minute)
			}
			if got != c.want || reads.Load() > 15 {
				t.Errorf("wait %v: got %s, want %s; %d were read", c.wait, got, c.want, reads.Load())
			}
		})
	}
}

// An error ends the batch before it, and comes after it.
func TestBatchAndErrors(t *testing.T) {
	src := func(yield func(int, error) bool) {
		_ = yield(0, nil) && yield(1, nil) && yield(7, errBoom) && yield(7, errBoom) && yield(2, nil) && yield(3, nil) && yield(4, nil) && yield(7, errBoom)
	}
	var got []string
	for b, err := range concurrency.Batch(t.Context(), src, 3, time.Hour) {
		if err != nil && b != nil {
			t.Errorf("%v beside %v", b, err)
		}
		got = append(got, fmt.Sprintf("%v %v", b, err))
	}
	if want := []string{"[0 1] <nil>", "[] boom", "[] boom", "[2 3 4] <nil>", "[] boom"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever comes when, and however the loop takes it: nothing is lost, none is
// larger, and none is older than was allowed.
func TestBatchesOfChance(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			n, count, wait := 1+r.IntN(6), r.IntN(50), time.Duration(r.IntN(20))*time.Millisecond
			came := make([]time.Time, count)
			pauses, failed := make([]time.Duration, count), make([]bool, count)
			for i := range count { // before the source runs, which it does beside the loop
				pauses[i], failed[i] = time.Duration(r.IntN(10))*time.Millisecond, r.IntN(9) == 0
			}
			src := func(yield func(int, error) bool) {
				for i := range count {
					time.Sleep(pauses[i])
					came[i] = time.Now()
					var err error
					if failed[i] {
						err = errBoom
					}
					if !yield(i, err) {
						return
					}
				}
			}
			busy := false
			next := 0
			for b, err := range concurrency.Batch(t.Context(), src, n, wait) {
				if err != nil {
					if !failed[next] {
						t.Fatalf("seed %d: an error in place of %d", seed, next)
					}
					next++
					continue
				}
				if len(b) == 0 || len(b) > n {
					t.Fatalf("seed %d: a batch of %d, of at most %d", seed, len(b), n)
				}
				if age := time.Since(came[b[0]]); !busy && age > wait {
					t.Fatalf("seed %d: %d waited %v, not %v", seed, b[0], age, wait)
				}
				for _, v := range b {
					if v != next || failed[v] {
						t.Fatalf("seed %d: got %d, want %d", seed, v, next)
					}
					next++
				}
				if busy = r.IntN(4) == 0; busy {
					time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
				}
			}
			if next != count {
				t.Errorf("seed %d: %d of %d", seed, next, count)
			}
		})
	}
}

// What was collected is not lost with ctx, and the end is told once.
func TestBatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2500*time.Millisecond, errBoom)
		defer cancel()
		src := func(yield func(int, error) bool) {
			for i := 0; wait(ctx, time.Second) == nil && yield(i, nil); i++ {
			}
			_ = yield(0, ctx.Err())
		}
		start := time.Now()
		var got []string
		for b, err := range concurrency.Batch(ctx, src, 10, time.Hour) {
			got = append(got, fmt.Sprintf("%v %v %v", b, err, time.Since(start)))
		}
		if want := []string{"[0 1] <nil> 2.5s", "[] boom 2.5s"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	// What was collected does not wait for a source that does not see the end.
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
		defer cancel()
		start := time.Now()
		var got []string
		for b, err := range concurrency.Batch(ctx, timed(0, time.Minute), 10, time.Hour) {
			got = append(got, fmt.Sprintf("%v %v %v", b, err, time.Since(start)))
		}
		if want := []string{"[0] <nil> 1s", "[] boom 1m0s"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	var got []error
	for _, err := range concurrency.Batch(ctx, numbers(3), 2, 0) {
		got = append(got, err)
	}
	if !slices.Equal(got, []error{errBoom}) {
		t.Errorf("of an ended context: %v", got)
	}
}

// The end of ctx is told once, also where the source has told it before, and
// only where it has left something out or nothing else is told.
func TestBatchTellsTheEndOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		src  func(ctx context.Context, yield func(int, error) bool)
		want string
	}{
		{"the source had ended", func(context.Context, func(int, error) bool) {}, "[0] <nil>"},
		{"the source had told the cause", func(_ context.Context, yield func(int, error) bool) { yield(0, errBoom) }, "[0] <nil> [] boom"},
		{"the source panics then", func(ctx context.Context, _ func(int, error) bool) { <-ctx.Done(); panic("mine") }, "[0] <nil> mine"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			src := func(yield func(int, error) bool) {
				_ = yield(0, nil)
				c.src(ctx, yield)
			}
			var got []string
			v := panicOf(func() {
				for b, err := range concurrency.Batch(ctx, src, 1, 0) {
					got = append(got, fmt.Sprint(b, " ", err))
					synctest.Wait()
					cancel(errBoom)
				}
			})
			if p, ok := v.(*concurrency.PanicError); ok {
				got = append(got, fmt.Sprint(p.Value))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		})
	}
}

// A batch is the loop's: nothing writes to it later.
func TestBatchesAreOwned(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var all [][]int
	for b, err := range concurrency.Batch(t.Context(), numbers(1000), 7, time.Hour) {
		if err != nil {
			t.Fatal(err)
		}
		_ = append(b, -1)
		all = append(all, b)
	}
	if got := slices.Concat(all...); !slices.Equal(got, upTo(1000)) || len(all) != 143 {
		t.Errorf("%d batches: %v", len(all), got)
	}
}

func TestBatchPanicsAndGoexit(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	src := func(end func()) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			_ = yield(0, nil) && yield(1, nil) && yield(2, nil)
			end()
		}
	}
	take := func(end func()) {
		for range concurrency.Batch(t.Context(), src(end), 2, time.Hour) {
		}
	}
	v := panicOf(func() { take(explode) })
	if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom || !strings.Contains(string(p.Stack), "explode") {
		t.Errorf("recovered %v", v)
	}
	returned := false
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		take(runtime.Goexit)
		returned = true
	}()
	<-gone
	if returned {
		t.Error("the loop went on after the source's goroutine exited")
	}
	if v := panicOf(func() {
		for range concurrency.Batch(t.Context(), numbers(100), 2, time.Hour) {
			panic("mine")
		}
	}); v != "mine" {
		t.Errorf("recovered %v", v)
	}
}
