package concurrency_test

import (
	"context"
	"errors"
	"fmt"
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

type flown struct {
	v      int
	shared bool
	err    error
}

// board lets a caller ask for key "k" and returns where its answer comes.
func board(ctx context.Context, f *concurrency.Flight[string, int], fn func(context.Context) (int, error)) <-chan flown {
	out := make(chan flown, 1)
	go func() {
		v, shared, err := f.Do(ctx, "k", fn)
		out <- flown{v, shared, err}
	}()
	synctest.Wait()
	return out
}

func TestFlightIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		runs := 0
		work := func(context.Context) (int, error) {
			runs++
			time.Sleep(time.Second)
			return runs, errBoom
		}
		var out []<-chan flown
		for range 10 {
			out = append(out, board(t.Context(), &f, work))
		}
		for i, o := range out {
			if got := <-o; got != (flown{1, true, errBoom}) {
				t.Errorf("caller %d got %+v", i, got)
			}
		}
		// Nothing is remembered, and who is alone does not share.
		if v, shared, err := f.Do(t.Context(), "k", work); v != 2 || shared || err != errBoom {
			t.Errorf("afterwards: %d, %v, %v", v, shared, err)
		}
		if v, shared, err := f.Do(context.WithoutCancel(t.Context()), "k", work); v != 3 || shared || err != errBoom {
			t.Errorf("on the caller's goroutine: %d, %v, %v", v, shared, err)
		}
	})
}

func TestFlightsOfKeysAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[int, int]
		start := time.Now()
		got, err := concurrency.Map(t.Context(), 9, upTo(9), func(ctx context.Context, i int) (int, error) {
			v, _, err := f.Do(ctx, i%3, func(context.Context) (int, error) {
				time.Sleep(time.Second)
				return i % 3, nil
			})
			return v - i%3, err
		})
		for i, d := range got {
			if d != 0 {
				t.Errorf("caller %d has the value of another key", i)
			}
		}
		if err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// That the first caller leaves is no failure for those who wait with it.
func TestFlightGoesOnWithoutItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		reason := errors.New("user left")
		first, leave := context.WithCancelCause(t.Context())
		late, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		work := func(ctx context.Context) (int, error) {
			if _, ok := ctx.Deadline(); ok {
				t.Error("the work has the deadline of one caller")
			}
			select {
			case <-time.After(time.Hour):
				return 7, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		a, b, c := board(first, &f, work), board(late, &f, work), board(t.Context(), &f, work)
		start := time.Now()
		leave(reason)
		if got := <-a; !errors.Is(got.err, reason) || !errors.Is(got.err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("the first: %+v after %v", got, time.Since(start))
		}
		if got := <-b; !errors.Is(got.err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("the one with a deadline: %+v after %v", got, time.Since(start))
		}
		if got := <-c; got != (flown{7, true, nil}) || time.Since(start) != time.Hour {
			t.Errorf("the patient one: %+v after %v", got, time.Since(start))
		}
	})
}

// Who comes while a cancelled call still cleans up must not inherit its end.
func TestFlightEndsWithItsLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		reason := errors.New("user left")
		var dying atomic.Bool
		work := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			if context.Cause(ctx) != reason {
				t.Errorf("the work sees the cause %v", context.Cause(ctx))
			}
			dying.Store(true)
			time.Sleep(time.Second)
			dying.Store(false)
			return 0, ctx.Err()
		}
		ctx, leave := context.WithCancelCause(t.Context())
		a, b := board(ctx, &f, work), board(ctx, &f, work)
		leave(reason)
		synctest.Wait()
		if !dying.Load() {
			t.Error("nobody cancelled the work")
		}
		fresh := board(t.Context(), &f, func(context.Context) (int, error) { return 9, nil })
		if got := <-fresh; got != (flown{9, false, nil}) || !dying.Load() {
			t.Errorf("who came later: %+v", got)
		}
		start := time.Now()
		joined := 0
		for _, o := range []<-chan flown{a, b} {
			got := <-o
			if !errors.Is(got.err, reason) || !errors.Is(got.err, context.Canceled) {
				t.Errorf("who left: %+v", got)
			}
			if time.Since(start) == time.Second {
				joined++
			}
		}
		if joined == 0 || dying.Load() {
			t.Error("the last to leave did not wait for the work")
		}
	})
}

func TestFlightCancelledTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		for _, err := range []error{nil, errBoom, context.Canceled, fmt.Errorf("roll back: %w", context.DeadlineExceeded)} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			got := <-board(ctx, &f, func(ctx context.Context) (int, error) {
				<-ctx.Done()
				time.Sleep(time.Second)
				return 3, err
			})
			cancel()
			if got.v != 3 || time.Since(start) != 2*time.Second {
				t.Errorf("%v: %+v after %v", err, got, time.Since(start))
			}
			if err == nil {
				if got.err != nil {
					t.Errorf("a late success is %v", got.err)
				}
				continue
			}
			if !errors.Is(got.err, context.DeadlineExceeded) || err != context.Canceled && !errors.Is(got.err, err) {
				t.Errorf("%v: %v", err, got.err)
			}
			if errors.Is(got.err, context.Canceled) {
				t.Errorf("%v: %v: nobody cancelled, time was up", err, got.err)
			}
		}
	})
}

func TestFlightNotAsked(t *testing.T) {
	var f concurrency.Flight[string, int]
	reason := errors.New("user left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	_, shared, err := f.Do(ctx, "k", func(context.Context) (int, error) { t.Error("called"); return 0, nil })
	if shared || !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", shared, err)
	}
}

// The answer and the end of a caller at the same instant: the answer counts if
// it was there, and nothing is lost or cancelled twice.
func TestFlightLandsAsACallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			var f concurrency.Flight[string, int]
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			work := func(context.Context) (int, error) { time.Sleep(time.Second); return 5, nil }
			a, b := board(ctx, &f, work), board(t.Context(), &f, work)
			if got := <-a; got != (flown{5, true, nil}) && !errors.Is(got.err, context.DeadlineExceeded) {
				t.Fatalf("who was about to leave: %+v", got)
			}
			if got := <-b; got != (flown{5, true, nil}) {
				t.Fatalf("who stayed: %+v", got)
			}
			cancel()
		}
	})
}

type contextKey struct{}

func TestFlightContext(t *testing.T) {
	for _, parent := range []context.Context{t.Context(), context.WithoutCancel(t.Context())} {
		var f concurrency.Flight[string, int]
		var kept context.Context
		_, _, err := f.Do(context.WithValue(parent, contextKey{}, 11), "k", func(ctx context.Context) (int, error) {
			kept = ctx
			if ctx.Value(contextKey{}) != 11 || ctx.Err() != nil {
				t.Errorf("value %v, %v", ctx.Value(contextKey{}), ctx.Err())
			}
			return 0, nil
		})
		if err != nil || kept.Err() == nil {
			t.Errorf("%v; the context outlives the call", err)
		}
	}
}

func TestFlightPanicReachesAll(t *testing.T) {
	for _, own := range []bool{true, false} { // a goroutine of its own, or that of the first caller
		synctest.Test(t, func(t *testing.T) {
			ctx := context.WithoutCancel(t.Context())
			if own {
				ctx = t.Context()
			}
			var f concurrency.Flight[string, int]
			work := func(context.Context) (int, error) { time.Sleep(time.Second); explode(); return 0, nil }
			out := make(chan any, 3)
			for range cap(out) {
				go func() { out <- panicOf(func() { _, _, _ = f.Do(ctx, "k", work) }) }()
			}
			for range cap(out) {
				p, ok := (<-out).(*concurrency.PanicError)
				if !ok || p.Value != errBoom || !strings.Contains(string(p.Stack), "explode") {
					t.Errorf("recovered %v", p)
				}
			}
			if v, _, err := f.Do(ctx, "k", func(context.Context) (int, error) { return 1, nil }); v != 1 || err != nil {
				t.Errorf("afterwards: %d, %v", v, err)
			}
		})
	}
}

// Nobody who left may be the reason that a panic is lost.
func TestFlightPanicOfACancelledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		v := panicOf(func() {
			_, _, _ = f.Do(ctx, "k", func(ctx context.Context) (int, error) { <-ctx.Done(); explode(); return 0, nil })
		})
		if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom {
			t.Errorf("recovered %v", v)
		}
	})
}

func TestFlightGoexitReachesAll(t *testing.T) {
	for _, own := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.WithoutCancel(t.Context())
			if own {
				ctx = t.Context()
			}
			var f concurrency.Flight[string, int]
			var returned atomic.Int64
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					_, _, _ = f.Do(ctx, "k", func(context.Context) (int, error) {
						time.Sleep(time.Second)
						runtime.Goexit()
						return 0, nil
					})
					returned.Add(1)
				})
			}
			wg.Wait()
			if returned.Load() != 0 {
				t.Errorf("%d of 3 callers went on", returned.Load())
			}
		})
	}
}

// Asking for oneself would wait forever; in a bubble that is an error.
func TestFlightAsksForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		ask := func(key string, next func(context.Context) (int, error)) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) {
				v, _, err := f.Do(ctx, key, next)
				return v, err
			}
		}
		want := "concurrency: Flight: the call for a key asks for the same key, and would wait for itself"
		end := func(context.Context) (int, error) { return 4, nil }
		_, err := ask("a", ask("b", ask("a", end)))(t.Context())
		if err == nil || err.Error() != want {
			t.Errorf("a, b, a: %v", err)
		}
		if v, err := ask("a", ask("b", ask("c", end)))(t.Context()); v != 4 || err != nil {
			t.Errorf("a, b, c: %d, %v", v, err)
		}
	})
}

func TestFlightForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f concurrency.Flight[string, int]
		after := func(d time.Duration, v int) func(context.Context) (int, error) {
			return func(context.Context) (int, error) { time.Sleep(d); return v, nil }
		}
		stale := board(t.Context(), &f, after(time.Second, 1))
		f.Forget("k")
		f.Forget("never asked")
		fresh := board(t.Context(), &f, after(time.Hour, 2))
		if got := <-stale; got != (flown{1, false, nil}) {
			t.Errorf("before: %+v", got)
		}
		// That the forgotten call has ended must not end its successor.
		if got := <-board(t.Context(), &f, after(0, 3)); got != (flown{2, true, nil}) {
			t.Errorf("joining the successor: %+v", got)
		}
		if got := <-fresh; got != (flown{2, true, nil}) {
			t.Errorf("after: %+v", got)
		}
	})
}

// Callers come, leave and are answered at random. Whoever did not leave gets the
// value of a call of its key that ran while it waited and that nobody cancelled.
func TestFlightStorm(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			type ran struct{ from, till time.Time }
			var (
				f    concurrency.Flight[int, *ran]
				mu   sync.Mutex
				done [3][]*ran
				wg   sync.WaitGroup
				runs atomic.Int64
			)
			const callers = 300
			for i := range callers {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				wg.Go(func() {
					time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
					key := rnd.IntN(len(done))
					takes := time.Duration(rnd.IntN(30)) * time.Millisecond
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(30))*time.Millisecond)
					defer cancel()
					came := time.Now()
					v, _, err := f.Do(ctx, key, func(ctx context.Context) (*ran, error) {
						runs.Add(1)
						r := &ran{from: time.Now()}
						select {
						case <-time.After(takes):
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						r.till = time.Now()
						mu.Lock()
						done[key] = append(done[key], r)
						mu.Unlock()
						return r, nil
					})
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err != nil && (v != nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() == nil):
						t.Errorf("seed %d: caller %d, who had %v, got %v", seed, i, ctx.Err(), err)
					case err == nil && (!slices.Contains(done[key], v) || v.till.Before(came)):
						t.Errorf("seed %d: caller %d of key %d got %+v", seed, i, key, v)
					}
				})
			}
			wg.Wait()
			for key, all := range done {
				slices.SortFunc(all, func(a, b *ran) int { return a.till.Compare(b.till) })
				for i := 1; i < len(all); i++ {
					if all[i].from.Before(all[i-1].till) {
						t.Errorf("seed %d: two calls for key %d at once", seed, key)
					}
				}
			}
			if n := runs.Load(); n == 0 || n >= callers {
				t.Errorf("seed %d: %d calls for %d callers", seed, n, callers)
			}
		})
	}
}
