package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

const usual = 10 * time.Millisecond

// taught is a hedger that has seen n runs of 10 ms.
func taught(t *testing.T, h *concurrency.Hedger, n int) *concurrency.Hedger {
	t.Helper()
	for range n {
		if _, err := concurrency.Hedge(t.Context(), h, concurrency.Idempotent(deaf(usual, 1, nil))); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// runs calls the first function for the first run, the second for the second.
func runs(count *atomic.Int64, fs ...func(context.Context) (int, error)) concurrency.Op[int] {
	return concurrency.Idempotent(func(ctx context.Context) (int, error) { return fs[count.Add(1)-1](ctx) })
}

// heeds takes d unless its context ends.
func heeds(d time.Duration, v int, err error) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		select {
		case <-time.After(d):
			return v, err
		case <-ctx.Done():
			return -v, context.Cause(ctx)
		}
	}
}

var errSecond = errors.New("second")

func TestHedge(t *testing.T) {
	const soon, later = 5 * time.Millisecond, 500 * time.Millisecond
	type run = func(context.Context) (int, error)
	for name, c := range map[string]struct {
		first, second run
		value         int
		errs          []error
		took          func(delay time.Duration) time.Duration
		runs          int64
		inVain        uint64
	}{
		"fast": {first: heeds(usual, 1, nil), value: 1, runs: 1,
			took: func(time.Duration) time.Duration { return usual }},
		"the second wins": {first: heeds(later, 1, nil), second: heeds(soon, 2, nil), value: 2, runs: 2,
			took: func(d time.Duration) time.Duration { return d + soon }},
		"the first wins": {first: heeds(usual+soon, 1, nil), second: heeds(later, 2, nil), value: 1, runs: 2, inVain: 1,
			took: func(time.Duration) time.Duration { return usual + soon }},
		// A fast error must not beat a success.
		"the second fails": {first: heeds(later, 1, nil), second: heeds(soon, 0, errSecond), value: 1, runs: 2, inVain: 1,
			took: func(time.Duration) time.Duration { return later }},
		"the first fails": {first: heeds(usual+soon, 1, errBoom), second: heeds(later, 2, nil), value: 2, runs: 2,
			took: func(d time.Duration) time.Duration { return d + later }},
		"both fail": {first: heeds(usual+soon, 1, errBoom), second: heeds(later, 2, errSecond), value: 1, runs: 2, inVain: 1,
			errs: []error{errBoom, errSecond}, took: func(d time.Duration) time.Duration { return d + later }},
		"fails before there is a second": {first: heeds(soon, 1, errBoom), value: 1, runs: 1,
			errs: []error{errBoom}, took: func(time.Duration) time.Duration { return soon }},
		"no repetition helps": {first: heeds(usual+soon, 1, concurrency.Permanent(errBoom)), second: heeds(later, 2, nil), value: 1, runs: 2, inVain: 1,
			errs: []error{errBoom}, took: func(time.Duration) time.Duration { return usual + soon }},
		"the first is deaf, and joined": {first: deaf(later, 1, nil), second: heeds(soon, 2, nil), value: 2, runs: 2,
			took: func(time.Duration) time.Duration { return later }},
		"the second is deaf, and joined": {first: heeds(usual+soon, 1, nil), second: deaf(later, 2, nil), value: 1, runs: 2, inVain: 1,
			took: func(d time.Duration) time.Duration { return d + later }},
	} {
		synctest.Test(t, func(t *testing.T) { // which fails if a run is left
			h := taught(t, new(concurrency.Hedger), 40)
			before, delay := h.Stats(), h.Delay()
			if delay < usual || delay > usual+soon {
				t.Fatalf("%s: the quantile of 40 runs of %v is %v", name, usual, delay)
			}
			var n atomic.Int64
			start := time.Now()
			v, err := concurrency.Hedge(t.Context(), h, runs(&n, c.first, c.second))
			if took, want := time.Since(start), c.took(delay); v != c.value || took != want || n.Load() != c.runs || (err == nil) != (c.errs == nil) {
				t.Errorf("%s: %d, %v after %v (want %v) and %d runs", name, v, err, took, want, n.Load())
			}
			for _, want := range c.errs {
				if !errors.Is(err, want) {
					t.Errorf("%s: %v does not match %v", name, err, want)
				}
			}
			st := h.Stats()
			if st.Admitted-before.Admitted != uint64(c.runs-1) || st.Failed-before.Failed != c.inVain || st.InFlight != 0 || st.Rejected != 0 {
				t.Errorf("%s: stats %+v", name, st)
			}
		})
	}
}

// The loser learns why it lost; the cause is no failure of the caller.
func TestHedgeTellsTheLoser(t *testing.T) {
	for _, firstLoses := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := taught(t, new(concurrency.Hedger), 40)
			var cause, end error
			loser := func(ctx context.Context) (int, error) {
				<-ctx.Done()
				cause, end = context.Cause(ctx), ctx.Err()
				return 0, end
			}
			winner := heeds(usual+5*time.Millisecond, 1, nil)
			op := []func(context.Context) (int, error){winner, loser}
			if firstLoses {
				op[0], op[1] = loser, winner
			}
			var n atomic.Int64
			if v, err := concurrency.Hedge(t.Context(), h, runs(&n, op...)); v != 1 || err != nil {
				t.Errorf("%d, %v", v, err)
			}
			if end != context.Canceled || cause == nil || cause.Error() != "concurrency: Hedge: the other run has succeeded" {
				t.Errorf("first loses %v: %v because of %v", firstLoses, end, cause)
			}
		})
	}
}

// A breaker must not take the cancellation of a hedge's loser for a failure.
func TestLosersOpenNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, &concurrency.Hedger{Ratio: 1}, 40)
		b := &concurrency.Breaker{MinCalls: 1}
		for range 10 {
			var n atomic.Int64
			op := runs(&n, obedient, heeds(usual, 2, nil))
			_, err := concurrency.Hedge(t.Context(), h, concurrency.Idempotent(func(ctx context.Context) (int, error) {
				return concurrency.Do(ctx, b, func(ctx context.Context) (int, error) {
					return concurrency.Retry(ctx, &concurrency.RetryPolicy{Attempts: 1}, op)
				})
			}))
			if err != nil {
				t.Fatal(err)
			}
		}
		if st := b.Stats(); st.Admitted != 20 || st.Failed != 0 || st.InFlight != 0 || st.Open {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestHedgeReadsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, new(concurrency.Hedger), 40)
		for left, want := range map[time.Duration]int64{
			h.Delay() + 9*time.Millisecond:  1, // the second run needs 10 ms
			h.Delay() + 12*time.Millisecond: 2,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			var n atomic.Int64
			start := time.Now()
			_, err := concurrency.Hedge(ctx, h, runs(&n, obedient, obedient))
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || n.Load() != want || time.Since(start) != left {
				t.Errorf("with %v left %d runs, want %d: %v after %v", left, n.Load(), want, err, time.Since(start))
			}
		}
	})
}

func TestHedgeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, new(concurrency.Hedger), 40)
		reason := errors.New("user left")
		for _, at := range []time.Duration{0, time.Millisecond, time.Second} { // before, during the first, during both
			ctx, cancel := context.WithCancelCause(t.Context())
			if at == 0 {
				cancel(reason)
			}
			time.AfterFunc(at, func() { cancel(reason) })
			var n atomic.Int64
			start := time.Now()
			_, err := concurrency.Hedge(ctx, h, runs(&n, obedient, obedient))
			want := map[time.Duration]int64{0: 0, time.Millisecond: 1, time.Second: 2}[at]
			if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || n.Load() != want || time.Since(start) != at {
				t.Errorf("left after %v: %v after %v and %d runs", at, err, time.Since(start), n.Load())
			}
		}
	})
}

// Hedges must not be a storm of their own: where two of five runs are late, second runs stay
// few all the same.
func TestHedgesStayFew(t *testing.T) {
	for ratio, most := range map[float64]uint64{0: 60, -1: 60, 0.2: 210} { // for 1000 calls, and 10 saved before
		synctest.Test(t, func(t *testing.T) {
			h := taught(t, &concurrency.Hedger{Quantile: 0.5, Ratio: ratio}, 300)
			var alive, peak atomic.Int64
			var saved sync.Mutex
			before := h.Stats()
			err := concurrency.Each(t.Context(), 10, upTo(1000), func(ctx context.Context, i int) error {
				_, err := concurrency.Hedge(ctx, h, concurrency.Idempotent(func(ctx context.Context) (int, error) {
					defer alive.Add(-1)
					now := alive.Add(1)
					saved.Lock()
					peak.Store(max(peak.Load(), now))
					saved.Unlock()
					if i%5 < 2 {
						return heeds(time.Hour, 1, nil)(ctx)
					}
					return heeds(usual, 1, nil)(ctx)
				}))
				return err
			})
			st := h.Stats()
			second, due := st.Admitted-before.Admitted, st.Admitted+st.Rejected-before.Admitted-before.Rejected
			if err != nil || second > most || second < (most-10)*9/10 || due < 400 || st.InFlight != 0 || alive.Load() != 0 {
				t.Errorf("ratio %v: %v, stats %+v", ratio, err, st)
			}
			if peak.Load() > 20 { // ten calls, each with a second run
				t.Errorf("ratio %v: %d runs at once with %+v", ratio, peak.Load(), st)
			}
		})
	}
}

// What is not used is saved, but not for ever: a burst of late runs gets ten.
func TestFewHedgesAreSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, &concurrency.Hedger{Ratio: 3}, 300)
		slow := concurrency.Idempotent(heeds(time.Hour, 1, nil))
		err := concurrency.Each(t.Context(), 100, upTo(100), func(ctx context.Context, _ int) error {
			_, err := concurrency.Hedge(ctx, h, slow)
			return err
		})
		if st := h.Stats(); err != nil || st.Admitted != 10 || st.Rejected != 90 || st.Failed != 10 {
			t.Errorf("%v, stats %+v", err, st)
		}
	})
}

// The delay is what runs take at present, and nothing but successes says so,
// unless a failure was slow.
func TestHedgerLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := func(what string, h *concurrency.Hedger, want time.Duration) {
			t.Helper()
			if d := h.Delay(); d < want*7/8 || d > want*9/8 {
				t.Errorf("%s: a second run after %v, want about %v", what, d, want)
			}
		}
		call := func(h *concurrency.Hedger, n int, f func(context.Context) (int, error)) {
			for range n {
				_, _ = concurrency.Hedge(t.Context(), h, concurrency.Idempotent(f))
			}
		}
		h := new(concurrency.Hedger)
		call(h, 19, deaf(usual, 1, nil))
		call(h, 100, deaf(usual, 1, errBoom))
		if h.Delay() != 0 {
			t.Errorf("after 19 runs a second one after %v", h.Delay())
		}
		call(h, 1, deaf(usual, 1, nil))
		near("20 runs", h, usual)
		call(h, 500, deaf(time.Microsecond, 1, errBoom))
		near("fast failures", h, usual)
		call(h, 100, deaf(time.Second, 1, errBoom)) // a seventh of all
		near("slow failures", h, time.Second)
		call(h, 4000, deaf(time.Microsecond, 1, nil))
		if h.Delay() != time.Millisecond {
			t.Errorf("for runs of 1 µs a second one after %v", h.Delay())
		}
		call(h, 4000, deaf(time.Minute, 1, nil))
		near("slow now", h, time.Minute)

		i := 0
		rising := func(ctx context.Context) (int, error) {
			i++
			return deaf(time.Duration(i%100+1)*time.Millisecond, 1, nil)(ctx)
		}
		for q, want := range map[float64]int{0: 95, 1: 95, -1: 95, 0.5: 50, 0.2: 20, 0.99: 99} { // milliseconds
			h := &concurrency.Hedger{Quantile: q, Ratio: 1e-9}
			call(h, 3200, rising)
			near(fmt.Sprint("quantile ", q), h, time.Duration(want)*time.Millisecond)
		}
		h = &concurrency.Hedger{Quantile: 1, Ratio: 1e-9} // the slowest there was would be no delay to hedge after
		call(h, 3200, func(ctx context.Context) (int, error) {
			if i++; i%50 == 0 {
				return deaf(time.Second, 1, nil)(ctx)
			}
			return deaf(usual, 1, nil)(ctx)
		})
		near("quantile 1", h, usual)
		h = &concurrency.Hedger{Quantile: 0.99}
		call(h, 99, deaf(usual, 1, nil))
		if h.Delay() != 0 {
			t.Errorf("the 99th percentile of 99 runs: %v", h.Delay())
		}
		call(h, 1, deaf(usual, 1, nil))
		near("100 runs", h, usual)
	})
}

// A panic is nobody's to swallow, and leaves nobody behind.
func TestHedgePanics(t *testing.T) {
	panics := func(d time.Duration) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { time.Sleep(d); panic("ouch") }
	}
	const later = 20 * time.Millisecond
	for name, c := range map[string]struct {
		first, second func(context.Context) (int, error)
		plain         bool
	}{
		"first, alone":  {panics(0), nil, true},
		"first of both": {panics(later), obedient, true},
		"second":        {obedient, panics(later), false},
		"second, after the first succeeded": {deaf(later, 1, nil),
			func(ctx context.Context) (int, error) { <-ctx.Done(); panic("ouch") }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := taught(t, new(concurrency.Hedger), 40)
			defer func() {
				v := recover()
				p, wrapped := v.(*concurrency.PanicError)
				if wrapped == c.plain || c.plain && v != "ouch" || wrapped && p.Value != "ouch" {
					t.Errorf("%s: recovered %v", name, v)
				}
				if st := h.Stats(); st.InFlight != 0 || st.Failed != st.Admitted {
					t.Errorf("%s: stats %+v", name, st)
				}
			}()
			var n atomic.Int64
			v, err := concurrency.Hedge(t.Context(), h, runs(&n, c.first, c.second))
			t.Errorf("%s: %d, %v", name, v, err)
		})
	}
}

func TestHedgeGoexit(t *testing.T) {
	exits := func(context.Context) (int, error) { time.Sleep(time.Second); runtime.Goexit(); return 0, nil }
	for name, fs := range map[string][]func(context.Context) (int, error){
		"first":  {exits, obedient},
		"second": {obedient, exits},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := taught(t, new(concurrency.Hedger), 40)
			done := make(chan bool, 1)
			go func() {
				returned := false
				defer func() { done <- returned }()
				var n atomic.Int64
				_, _ = concurrency.Hedge(t.Context(), h, runs(&n, fs...))
				returned = true
			}()
			if <-done {
				t.Errorf("%s: Goexit did not end the caller", name)
			}
			if st := h.Stats(); st.InFlight != 0 || st.Failed != st.Admitted {
				t.Errorf("%s: stats %+v", name, st)
			}
		})
	}
}

// A caller that has left gets no second run, though the first has not noticed.
func TestNoSecondRunForWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, new(concurrency.Hedger), 40)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		var n atomic.Int64
		v, err := concurrency.Hedge(ctx, h, runs(&n, deaf(time.Second, 1, nil), obedient))
		if st := h.Stats(); v != 1 || err != nil || n.Load() != 1 || st.Admitted+st.Rejected != 0 {
			t.Errorf("%d, %v after %d runs, stats %+v", v, err, n.Load(), st)
		}
	})
}

// Whatever the end, no context of a run is left to its parent.
func TestContextsEndWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, &concurrency.Hedger{Ratio: 1}, 40)
		var contexts []context.Context
		keeps := func(f func(context.Context) (int, error)) func(context.Context) (int, error) {
			return func(ctx context.Context) (int, error) { contexts = append(contexts, ctx); return f(ctx) }
		}
		panics := func(context.Context) (int, error) { panic("ouch") }
		late := heeds(usual+5*time.Millisecond, 1, nil)
		for _, fs := range [][]func(context.Context) (int, error){
			{late, obedient}, {obedient, late}, {late, late}, {late, heeds(time.Hour, 1, errBoom)}, {panics},
		} {
			var n atomic.Int64
			for i := range fs {
				fs[i] = keeps(fs[i])
			}
			func() {
				defer func() { _ = recover() }()
				_, _ = concurrency.Hedge(t.Context(), h, runs(&n, fs...))
			}()
		}
		if len(contexts) != 9 {
			t.Errorf("%d runs", len(contexts))
		}
		for i, ctx := range contexts {
			if ctx.Err() != context.Canceled {
				t.Errorf("run %d: %v", i, ctx.Err())
			}
		}
	})
}

func TestHedgeOnlyWhatWasDeclared(t *testing.T) {
	h := new(concurrency.Hedger)
	_, err := concurrency.Hedge(t.Context(), h, concurrency.Op[int]{})
	if permanent, _ := concurrency.Advice(err); !permanent {
		t.Errorf("zero Op: %v", err)
	}
	_, err = concurrency.Hedge(t.Context(), h, concurrency.Keyed("", func(context.Context, string) (int, error) { return 1, nil }))
	if permanent, _ := concurrency.Advice(err); !permanent {
		t.Errorf("empty key: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a nil Hedger is accepted")
		}
	}()
	_, _ = concurrency.Hedge(t.Context(), nil, concurrency.Idempotent(constant(1)))
}

// Both runs carry the same key.
func TestHedgeOfAKeyedOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, new(concurrency.Hedger), 40)
		keys := make(chan string, 2)
		_, err := concurrency.Hedge(t.Context(), h, concurrency.Keyed("k", func(ctx context.Context, key string) (int, error) {
			keys <- key
			return heeds(time.Second, 1, nil)(ctx)
		}))
		if err != nil || <-keys != "k" || <-keys != "k" {
			t.Error(err)
		}
	})
}

// The context of a run is one as any other: what derives from it is linked, and
// what outlives the call finds it ended.
func TestContextOfTheFirstRun(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, new(concurrency.Hedger), 40)
		parent, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Hour)
		defer cancel()
		var silent, asked, derived context.Context
		call := func(f func(ctx context.Context)) {
			_, err := concurrency.Hedge(parent, h, concurrency.Idempotent(func(ctx context.Context) (int, error) {
				deadline, ok := ctx.Deadline()
				want, _ := parent.Deadline()
				if ctx.Value(key{}) != "value" || !ok || !deadline.Equal(want) || ctx.Err() != nil || context.Cause(ctx) != nil {
					t.Errorf("value %v, deadline %v, %v", ctx.Value(key{}), deadline, ctx.Err())
				}
				f(ctx)
				return 1, nil
			}))
			if err != nil {
				t.Error(err)
			}
		}
		call(func(ctx context.Context) { silent = ctx })
		call(func(ctx context.Context) {
			asked = ctx
			before := runtime.NumGoroutine()
			var stop func()
			derived, stop = context.WithTimeout(ctx, time.Minute)
			if d, ok := derived.Deadline(); !ok || time.Until(d) != time.Minute || runtime.NumGoroutine() != before {
				t.Errorf("deadline %v, %d goroutines more", d, runtime.NumGoroutine()-before)
			}
			_ = stop // what was derived ends with the run
			if derived.Value(key{}) != "value" || derived.Err() != nil {
				t.Errorf("%v, %v", derived.Value(key{}), derived.Err())
			}
		})
		if silent.Err() != context.Canceled || silent.Value(key{}) != "value" {
			t.Errorf("nobody asked for Done: %v, %v", silent.Err(), silent.Value(key{}))
		}
		for name, ctx := range map[string]context.Context{"asked late": silent, "asked": asked, "derived": derived} {
			select {
			case <-ctx.Done():
			default:
				t.Errorf("%s: not done after the call", name)
			}
			if ctx.Err() != context.Canceled || context.Cause(ctx) == nil || parent.Err() != nil {
				t.Errorf("%s: %v, cause %v, parent %v", name, ctx.Err(), context.Cause(ctx), parent.Err())
			}
		}
	})
}

// The caller's end reaches a run that only polls Err, with its cause.
func TestFirstRunSeesTheCallerLeave(t *testing.T) {
	for _, learned := range []int{0, 40} { // without a second run, or with one possible
		synctest.Test(t, func(t *testing.T) {
			h := taught(t, new(concurrency.Hedger), learned)
			ctx, cancel := context.WithCancelCause(t.Context())
			_, err := concurrency.Hedge(ctx, h, concurrency.Idempotent(func(ctx context.Context) (int, error) {
				cancel(errBoom)
				if ctx.Err() != context.Canceled || context.Cause(ctx) != errBoom {
					t.Errorf("%v because of %v", ctx.Err(), context.Cause(ctx))
				}
				return 0, ctx.Err()
			}))
			if !errors.Is(err, context.Canceled) || !errors.Is(err, errBoom) {
				t.Error(err)
			}
		})
	}
}

// Without a fault a call costs next to nothing: a context, a timer and its
// function; nothing at all where there can be no second run.
func TestHedgeAllocations(t *testing.T) {
	op := concurrency.Idempotent(constant(1))
	h := new(concurrency.Hedger)
	for range 100 {
		_, _ = concurrency.Hedge(t.Context(), h, op)
	}
	near, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		h    *concurrency.Hedger
		most float64
	}{
		"second run possible":  {near, h, 3},
		"too few runs known":   {near, &concurrency.Hedger{Quantile: 0.9999}, 0},
		"the deadline is near": {soonOver{near}, h, 0},
	} {
		if n := testing.AllocsPerRun(200, func() { _, _ = concurrency.Hedge(c.ctx, c.h, op) }); n > c.most {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// soonOver has little time left, always.
type soonOver struct{ context.Context }

func (soonOver) Deadline() (time.Time, bool) { return time.Now().Add(time.Microsecond), true }

// Many at once, for the race detector: every call returns one of its runs'.
func TestHedgeConcurrently(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	h := &concurrency.Hedger{Quantile: 0.5, Ratio: 1}
	var n atomic.Int64
	err := concurrency.Each(t.Context(), 16, upTo(2000), func(ctx context.Context, i int) error {
		v, err := concurrency.Hedge(ctx, h, concurrency.Idempotent(func(ctx context.Context) (int, error) {
			return heeds(time.Duration(n.Add(1)%5)*500*time.Microsecond, i, nil)(ctx)
		}))
		if err == nil && v != i {
			err = fmt.Errorf("call %d has %d", i, v)
		}
		return err
	})
	if st := h.Stats(); err != nil || st.InFlight != 0 || st.Failed > st.Admitted {
		t.Errorf("%v, stats %+v", err, st)
	}
}
