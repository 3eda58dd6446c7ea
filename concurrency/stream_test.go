package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
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

// both are the two forms of a stream.
var both = map[string]streamFunc{"Stream": concurrency.Stream[int, int], "StreamUnordered": concurrency.StreamUnordered[int, int]}

func numbers(n int) iter.Seq2[int, error] { return concurrency.From(slices.Values(upTo(n))) }

// naturals is a source without an end, which counts how often it was read.
func naturals(reads *atomic.Int64) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := 0; yield(i, nil); i++ {
			reads.Add(1)
		}
	}
}

func values(t *testing.T, seq iter.Seq2[int, error]) []int {
	t.Helper()
	var got []int
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	return got
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A stream with chance in all that can differ, against what it must give: each
// result once, in order, and never more at once, or alive, than was allowed.
func TestStreamsOfChance(t *testing.T) {
	for seed := range uint64(400) {
		for name, stream := range both {
			synctest.Test(t, func(t *testing.T) { chance(t, name, stream, seed) })
		}
	}
}

func chance(t *testing.T, name string, stream streamFunc, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	n, limit, leave := r.IntN(40), 1+r.IntN(5), 1+r.IntN(60)
	pause := func(most int) time.Duration { return time.Duration(max(0, r.IntN(most)-most/2)) * time.Millisecond }
	type item struct {
		before, took time.Duration // the source needs, f needs
		bad, fails   bool          // the source reports an error in its place, f does
	}
	items := make([]item, n)
	want := make([]string, n)
	for i := range items {
		items[i] = item{pause(10), pause(20), r.IntN(6) == 0, r.IntN(6) == 0}
		want[i] = fmt.Sprint(i*i, nil)
		if items[i].bad {
			want[i] = fmt.Sprint(0, " source ", i)
		} else if items[i].fails {
			want[i] = fmt.Sprint(-i, " f ", i)
		}
	}
	body := pause(12)

	var reads, yielded, running, sourceEnded atomic.Int64
	src := func(yield func(int, error) bool) {
		defer sourceEnded.Add(1)
		for i, it := range items {
			time.Sleep(it.before)
			if ahead := reads.Add(1) - yielded.Load(); ahead > int64(2*limit) {
				t.Errorf("%s, seed %d: %d were read and not yielded, limit %d", name, seed, ahead, limit)
			}
			var err error
			if it.bad {
				err = fmt.Errorf("source %d", i)
			}
			if !yield(i, err) {
				return
			}
		}
	}
	f := func(ctx context.Context, i int) (int, error) {
		if now := running.Add(1); now > int64(limit) {
			t.Errorf("%s, seed %d: %d at once, limit %d", name, seed, now, limit)
		}
		defer running.Add(-1)
		if items[i].bad {
			t.Errorf("%s, seed %d: f got the error of item %d", name, seed, i)
		}
		if err := wait(ctx, items[i].took); err != nil {
			return 0, err
		}
		if items[i].fails {
			return -i, fmt.Errorf("f %d", i)
		}
		return i * i, nil
	}
	var got []string
	for v, err := range stream(t.Context(), limit, src, f) {
		yielded.Add(1)
		if err != nil {
			got = append(got, fmt.Sprint(v, " ", err))
		} else {
			got = append(got, fmt.Sprint(v, nil))
		}
		time.Sleep(body)
		if len(got) == leave {
			break
		}
	}
	if running.Load() != 0 || sourceEnded.Load() != 1 {
		t.Errorf("%s, seed %d: %d calls alive, source ended: %d", name, seed, running.Load(), sourceEnded.Load())
	}
	if name == "Stream" {
		if !slices.Equal(got, want[:min(n, leave)]) {
			t.Errorf("seed %d: got %q, want the first %d of %q", seed, got, leave, want)
		}
		return
	}
	if len(got) != min(n, leave) {
		t.Errorf("seed %d: %d results of %d, leaving at %d", seed, len(got), n, leave)
	}
	for _, g := range got { // each is one of them, and none twice
		i := slices.Index(want, g)
		if i < 0 {
			t.Fatalf("seed %d: %q of %q", seed, g, want)
		}
		want[i] = ""
	}
}

// The same on real threads, for the race detector and the leak check.
func TestStreamsOnThreads(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for name, stream := range both {
		for _, limit := range []int{1, 2, 3, 64, math.MaxInt / 2} {
			for _, n := range []int{0, 1, 2, 7, 1000} {
				got := values(t, stream(t.Context(), limit, numbers(n), square))
				if name != "Stream" {
					slices.Sort(got)
				}
				if len(got) != n {
					t.Fatalf("%s, limit %d: %d of %d", name, limit, len(got), n)
				}
				for i, v := range got {
					if v != i*i {
						t.Fatalf("%s, limit %d: result %d is %d", name, limit, i, v)
					}
				}
			}
		}
	}
}

// Unordered, a slow item holds up nothing; in order, only the window.
func TestStreamsBehindASlowItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(_ context.Context, i int) (int, error) {
			if i == 0 {
				time.Sleep(time.Hour)
			}
			return i, nil
		}
		start := time.Now()
		for v := range concurrency.StreamUnordered(t.Context(), 2, numbers(100), slow) {
			if early := time.Since(start) == 0; early != (v != 0) {
				t.Errorf("item %d after %v", v, time.Since(start))
			}
		}
		var reads atomic.Int64
		start = time.Now()
		for v := range concurrency.Stream(t.Context(), 2, naturals(&reads), slow) {
			if v == 0 && time.Since(start) != time.Hour {
				t.Errorf("in order, but the first came after %v", time.Since(start))
			}
			if v == 50 {
				break
			}
		}
	})
}

// All workers work while there is something to do, whoever is slow.
func TestStreamUsesExactlyTheLimit(t *testing.T) {
	for name, stream := range both {
		for _, limit := range []int{1, 3, 10} {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				got := values(t, stream(t.Context(), limit, numbers(30), func(_ context.Context, i int) (int, error) {
					time.Sleep(time.Second)
					return i, nil
				}))
				if took, want := time.Since(start), time.Duration(30/limit)*time.Second; took != want || len(got) != 30 {
					t.Errorf("%s, limit %d: took %v, want %v", name, limit, took, want)
				}
			})
		}
	}
}

// What runs does not wait for the loop: while the first result is looked at,
// work goes on until the window is full.
func TestStreamWorksWhileTheLoopIsSlow(t *testing.T) {
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			var reads, finished atomic.Int64
			for range stream(t.Context(), 3, naturals(&reads), func(_ context.Context, i int) (int, error) {
				time.Sleep(time.Second)
				finished.Add(1)
				return i, nil
			}) {
				time.Sleep(time.Hour)
				synctest.Wait()
				if finished.Load() != 6 {
					t.Errorf("%s: %d finished while the loop held the first result, want 2*limit", name, finished.Load())
				}
				break
			}
		})
	}
}

// A result does not wait for the source's next element.
func TestStreamYieldsWhileTheSourceWaits(t *testing.T) {
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			src := func(yield func(int, error) bool) {
				if yield(1, nil) {
					time.Sleep(time.Hour)
				}
			}
			start := time.Now()
			for range stream(t.Context(), 4, src, square) {
				if time.Since(start) != 0 {
					t.Errorf("%s: the result came after %v", name, time.Since(start))
				}
			}
		})
	}
}

// Errors stand in their place, and the stream goes on.
func TestStreamKeepsErrorsInTheirPlace(t *testing.T) {
	src := func(yield func(int, error) bool) {
		_ = yield(0, nil) && yield(7, errBoom) && yield(2, nil) && yield(3, nil)
	}
	f := func(_ context.Context, i int) (int, error) {
		if i == 2 {
			return -2, errors.New("two")
		}
		return i, nil
	}
	var got []string
	for v, err := range concurrency.Stream(t.Context(), 2, concurrency.Stream(t.Context(), 2, src, f), f) {
		got = append(got, fmt.Sprint(v, " ", err))
	}
	if want := []string{"0 <nil>", "0 boom", "0 two", "3 <nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// After a break the source is read no further, and what runs is cancelled, told why, and joined.
func TestBreakEndsTheStream(t *testing.T) {
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			var reads, alive, after atomic.Int64
			var left atomic.Bool
			var sourceEnded bool
			src := func(yield func(int, error) bool) {
				naturals(&reads)(yield)
				sourceEnded = true
			}
			start := time.Now()
			for v := range stream(t.Context(), 3, src, func(ctx context.Context, i int) (int, error) {
				alive.Add(1)
				defer alive.Add(-1)
				if left.Load() {
					after.Add(1)
				}
				if i < 2 {
					return i, nil
				}
				if err := wait(ctx, time.Hour); err == nil {
					t.Errorf("%s: item %d was not cancelled", name, i)
				}
				if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "nobody takes the results") {
					t.Errorf("%s: item %d sees the cause %v", name, i, cause)
				}
				time.Sleep(time.Minute) // it needs a moment to clean up
				return 0, nil
			}) {
				if v == 1 {
					synctest.Wait()
					left.Store(true)
					break
				}
			}
			if alive.Load() != 0 || after.Load() != 0 || !sourceEnded || reads.Load() > 1+6 || time.Since(start) != time.Minute {
				t.Errorf("%s: %d alive, %d started after the break, source ended: %v, %d read, %v", name, alive.Load(), after.Load(), sourceEnded, reads.Load(), time.Since(start))
			}
		})
	}
}

// What waits for its turn must see the end of ctx.
func TestStreamEndsWithItsContext(t *testing.T) {
	reason := errors.New("user left")
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(90*time.Second, func() { cancel(reason) })
			var reads, started atomic.Int64
			var got []string
			start := time.Now()
			for v, err := range stream(ctx, 2, naturals(&reads), func(ctx context.Context, i int) (int, error) {
				started.Add(1)
				switch i {
				case 0, 1:
					return i, wait(ctx, time.Minute)
				case 2:
					_ = wait(ctx, time.Hour)
					return i, nil // a late success is a success
				}
				return i, wait(ctx, time.Hour)
			}) {
				got = append(got, fmt.Sprint(v, " ", err))
			}
			slices.Sort(got[:2])
			if want := []string{"0 <nil>", "1 <nil>", "2 <nil>", "0 user left"}; !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if started.Load() != 4 || time.Since(start) != 90*time.Second {
				t.Errorf("%s: %d were started, it took %v", name, started.Load(), time.Since(start))
			}
		})
	}
}

func TestStreamOfAnEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	for name, stream := range both {
		var got []error
		for _, err := range stream(ctx, 2, numbers(9), func(context.Context, int) (int, error) {
			t.Errorf("%s: f was called", name)
			return 0, nil
		}) {
			got = append(got, err)
		}
		if !slices.Equal(got, []error{errBoom}) {
			t.Errorf("%s: got %v, want the cause once", name, got)
		}
	}
}

// A source that obeys the same ctx may report its end, too, and so may a stage:
// it is told once. One that ends without a word must not look complete.
func TestTheEndIsToldOnce(t *testing.T) {
	for name, stream := range both {
		for _, says := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
				defer cancel()
				src := func(yield func(int, error) bool) {
					_ = yield(1, nil)
					<-ctx.Done()
					if says {
						_ = yield(0, ctx.Err())
					}
				}
				var got []string
				for v, err := range stream(ctx, 2, stream(ctx, 2, src, square), square) {
					got = append(got, fmt.Sprint(v, " ", err))
				}
				if want := []string{"1 <nil>", "0 boom"}; !slices.Equal(got, want) {
					t.Errorf("%s, source says it: %v: got %q, want %q", name, says, got, want)
				}
			})
		}
	}
}

// All was read, done and yielded before the end of ctx: that is complete.
func TestStreamDoneBeforeCancellation(t *testing.T) {
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			n := 0
			for _, err := range stream(ctx, 4, numbers(3), square) {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if n++; n == 1 {
					synctest.Wait()
					cancel()
				}
			}
			if n != 3 {
				t.Errorf("%s: %d of 3", name, n)
			}
		})
	}
}

// An error that only says that ctx has ended is told as that; any other stays,
// also when ctx has ended meanwhile.
func TestStreamKeepsWhatIsNotTheEnd(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		err  error
		want string
	}{{errBoom, "7 boom"}, {context.Canceled, "0 other"}, {other, "0 other"}} {
		for name, stream := range both {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				var got []string
				for v, err := range stream(ctx, 2, numbers(1), func(context.Context, int) (int, error) {
					time.Sleep(time.Second) // the source has ended by itself
					cancel(other)
					return 7, c.err
				}) {
					got = append(got, fmt.Sprint(v, " ", err))
				}
				if !slices.Equal(got, []string{c.want}) {
					t.Errorf("%s: f returned %v: got %q, want %q", name, c.err, got, c.want)
				}
			})
		}
	}
}

// A break reaches through all stages, whatever the lower ones wait for.
func TestBreakReachesTheLowestStage(t *testing.T) {
	slow := func(ctx context.Context, i int) (int, error) {
		if i < 1 {
			return i, nil
		}
		return i, wait(ctx, time.Hour)
	}
	pass := func(_ context.Context, i int) (int, error) { return i, nil }
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			var reads atomic.Int64
			start := time.Now()
			for range stream(ctx, 1, stream(ctx, 2, stream(ctx, 3, naturals(&reads), slow), pass), pass) {
				break
			}
			if time.Since(start) != 0 || reads.Load() > 20 {
				t.Errorf("%s: break took %v, %d read", name, time.Since(start), reads.Load())
			}
			for range concurrency.Batch(ctx, stream(ctx, 3, naturals(&reads), slow), 10, time.Second) {
				break
			}
			if time.Since(start) != time.Second {
				t.Errorf("%s: Batch ended after %v, want its second", name, time.Since(start))
			}
			sum := func(_ context.Context, s []int) (int, error) { return len(s), nil }
			for range concurrency.Stream(ctx, 1, concurrency.Batch(ctx, stream(ctx, 3, naturals(&reads), slow), 10, time.Second), sum) {
				break
			}
			if time.Since(start) != 2*time.Second {
				t.Errorf("%s: a stream of batches of a stream ended after %v, want another second", name, time.Since(start))
			}
		})
	}
}

// So does the end of the upper stage's own ctx, of which the lower one knows nothing.
func TestTheEndReachesTheLowestStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow := func(ctx context.Context, i int) (int, error) { return i, wait(ctx, time.Hour) }
		start := time.Now()
		var got []error
		for _, err := range concurrency.Stream(ctx, 2, concurrency.Stream(t.Context(), 2, numbers(9), slow), square) {
			got = append(got, err)
		}
		if time.Since(start) != time.Second || !slices.Equal(got, []error{context.DeadlineExceeded}) {
			t.Errorf("got %v after %v", got, time.Since(start))
		}
	})
}

// Where something stands between two stages, the lower one ends with its next
// result, and its ctx still ends it at once.
func TestBreakThroughAFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lower := concurrency.Stream(ctx, 2, numbers(9), func(ctx context.Context, i int) (int, error) {
			if i == 0 {
				return i, nil
			}
			return i, wait(ctx, time.Hour)
		})
		filter := func(yield func(int, error) bool) {
			for v, err := range lower {
				if !yield(v, err) {
					return
				}
			}
		}
		start := time.Now()
		for range concurrency.Stream(ctx, 1, filter, square) {
			break
		}
		if time.Since(start) != time.Hour {
			t.Errorf("took %v", time.Since(start))
		}
		start = time.Now()
		for range concurrency.Stream(ctx, 1, filter, square) {
			cancel()
			break
		}
		if time.Since(start) != 0 {
			t.Errorf("cancelled before the break: took %v", time.Since(start))
		}
	})
}

// Stages and fan-outs within f do not wait for each other.
func TestStreamsNest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		inner := func(ctx context.Context, i int) (int, error) {
			sum := 0
			for v, err := range concurrency.Stream(ctx, 1+i%2, numbers(4), square) {
				if err != nil {
					return 0, err
				}
				sum += v
			}
			vs, err := concurrency.Map(ctx, 2, upTo(3), square)
			return sum + len(vs) + i, err
		}
		got := values(t, concurrency.Stream(ctx, 3, concurrency.Stream(ctx, 2, numbers(50), inner), inner))
		for i, v := range got {
			if v != i+2*(0+1+4+9+3) {
				t.Fatalf("result %d is %d", i, v)
			}
		}
		if len(got) != 50 {
			t.Errorf("%d of 50", len(got))
		}
	})
}

// A stream can be ranged over again, and by several at the same time.
func TestStreamIsReusable(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	seq := concurrency.Stream(t.Context(), 3, numbers(100), square)
	first := values(t, seq)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var got []int
			for v := range seq {
				got = append(got, v)
			}
			if !slices.Equal(got, first) || len(got) != 100 {
				t.Errorf("got %v, then %v", first, got)
			}
		})
	}
	wg.Wait()
}

// A panic in f or in the source ends the stream, joins it, and goes
// on in the loop's goroutine with the stack of where it happened.
func TestStreamPanics(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for name, stream := range both {
		for where, src := range map[string]iter.Seq2[int, error]{
			"f": numbers(1000),
			"the source": func(yield func(int, error) bool) {
				numbers(20)(yield)
				explode()
			},
		} {
			for _, nested := range []bool{false, true} {
				var alive atomic.Int64
				f := func(ctx context.Context, i int) (int, error) {
					alive.Add(1)
					defer alive.Add(-1)
					if where == "f" && i == 20 {
						explode()
					}
					if i > 20 {
						<-ctx.Done()
						if !errors.Is(context.Cause(ctx), errBoom) {
							t.Errorf("%s, %s: siblings see the cause %v", name, where, context.Cause(ctx))
						}
					}
					return i, nil
				}
				seq := stream(t.Context(), 4, src, f)
				if nested {
					seq = stream(t.Context(), 4, seq, square)
				}
				v := panicOf(func() {
					for range seq {
					}
				})
				p, ok := v.(*concurrency.PanicError)
				if !ok || p.Value != errBoom || !strings.Contains(string(p.Stack), "explode") || alive.Load() != 0 {
					t.Errorf("%s, %s, nested: %v: recovered %v, %d alive", name, where, nested, v, alive.Load())
				}
			}
		}
	}
}

// After a panic the loop sees nothing more, not even the end of ctx.
func TestStreamPanicAfterTheEnd(t *testing.T) {
	for name, stream := range both {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			v := panicOf(func() {
				for v, err := range stream(ctx, 2, func(func(int, error) bool) { <-ctx.Done(); explode() }, square) {
					t.Errorf("%s: got %v, %v", name, v, err)
				}
			})
			if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom {
				t.Errorf("%s: recovered %v", name, v)
			}
		})
	}
}

// A panic of what was cancelled by the break is not swallowed.
func TestStreamPanicAfterBreak(t *testing.T) {
	v := panicOf(func() {
		for range concurrency.Stream(t.Context(), 2, numbers(9), func(ctx context.Context, i int) (int, error) {
			if i > 0 {
				<-ctx.Done()
				panic(errBoom)
			}
			return i, nil
		}) {
			break
		}
	})
	if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom {
		t.Errorf("recovered %v", v)
	}
}

// The loop's own panic passes, once nothing is alive.
func TestPanicInTheLoop(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for name, stream := range both {
		var alive atomic.Int64
		if v := panicOf(func() {
			for range stream(t.Context(), 4, numbers(100), func(ctx context.Context, i int) (int, error) {
				alive.Add(1)
				defer alive.Add(-1)
				if i > 3 {
					<-ctx.Done()
				}
				return i, nil
			}) {
				panic("mine")
			}
		}); v != "mine" || alive.Load() != 0 {
			t.Errorf("%s: recovered %v, %d alive", name, v, alive.Load())
		}
	}
}

func TestStreamGoexit(t *testing.T) {
	for name, stream := range both {
		for _, where := range []string{"f", "the source", "the loop"} {
			synctest.Test(t, func(t *testing.T) {
				var alive atomic.Int64
				returned := false
				aliveAtExit := int64(-1)
				gone := make(chan struct{})
				src := func(yield func(int, error) bool) {
					numbers(5)(yield)
					if where == "the source" {
						time.Sleep(time.Second)
						runtime.Goexit()
					}
					time.Sleep(time.Minute)
				}
				go func() {
					defer close(gone)
					defer func() { aliveAtExit = alive.Load() }()
					for range stream(t.Context(), 3, src, func(ctx context.Context, i int) (int, error) {
						alive.Add(1)
						defer alive.Add(-1)
						if i < 2 {
							return i, nil
						}
						if i == 2 && where == "f" {
							time.Sleep(time.Second)
							runtime.Goexit()
						}
						<-ctx.Done()
						time.Sleep(time.Second)
						return 0, nil
					}) {
						if where == "the loop" {
							runtime.Goexit()
						}
					}
					returned = true
				}()
				<-gone
				if returned || aliveAtExit != 0 {
					t.Errorf("%s, %s: returned: %v, %d alive", name, where, returned, aliveAtExit)
				}
			})
		}
	}
}

func TestFrom(t *testing.T) {
	var got []int
	for v, err := range concurrency.From(slices.Values(upTo(9))) {
		if err != nil {
			t.Error(err)
		}
		if got = append(got, v); v == 3 {
			break
		}
	}
	if !slices.Equal(got, upTo(4)) {
		t.Errorf("got %v", got)
	}
}
