package concurrency_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// A nest of retries, three runs each.
func nested(layers int, lowest func(context.Context) (int, error)) func(context.Context) (int, error) {
	p := &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: 1, Max: 1}}
	for range layers {
		above := concurrency.Idempotent(lowest)
		lowest = func(ctx context.Context) (int, error) { return concurrency.Retry(ctx, p, above) }
	}
	return lowest
}

// Nested retries multiply, and a budget keeps them from it.
func TestNestedRetriesDoNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked int
		call := nested(3, func(context.Context) (int, error) { asked++; return 0, errBoom })
		_, err := call(t.Context())
		if asked != 27 || !errors.Is(err, errBoom) {
			t.Errorf("without a budget %d runs, %v", asked, err)
		}

		b := new(concurrency.Budget)
		ctx := concurrency.WithBudget(t.Context(), b)
		asked = 0
		for range 1000 {
			if _, err := call(ctx); !errors.Is(err, errBoom) {
				t.Fatal(err)
			}
		}
		// Each call has three first runs, one in each layer, which earn 0.3.
		extra := b.Stats().Admitted
		if extra < 290 || extra > 310 || asked > 1310 {
			t.Errorf("%d extra runs in all layers, the lowest ran %d times for 1000 calls; stats %+v", extra, asked, b.Stats())
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := concurrency.Idempotent(func(context.Context) (int, error) { return 7, errBoom })
		works := concurrency.Idempotent(constant(1))
		p := &concurrency.RetryPolicy{Attempts: 1000, Backoff: concurrency.Backoff{Min: 1, Max: 1}}
		for ratio, perRun := range map[float64]float64{0: 0.1, -3: 0.1, 0.5: 0.5, 2: 2} {
			b := &concurrency.Budget{Ratio: ratio}
			ctx := concurrency.WithBudget(t.Context(), b)
			if st := b.Stats(); st.Limit != 10 {
				t.Errorf("ratio %v: %d to begin with", ratio, st.Limit)
			}
			v, err := concurrency.Retry(ctx, p, fails)
			want := uint64(10 + perRun)
			if st := b.Stats(); v != 7 || !errors.Is(err, errBoom) || st.Admitted != want || st.Rejected != 1 || st.Limit != 0 {
				t.Errorf("ratio %v: %d, %v, stats %+v", ratio, v, err, st)
			}
			for range 10 {
				_, _ = concurrency.Retry(ctx, p, works)
			}
			if st := b.Stats(); st.Limit != int64(11*perRun+10)-int64(want) {
				t.Errorf("ratio %v: %d left after ten successes", ratio, st.Limit)
			}
			for range 10_000 {
				_, _ = concurrency.Retry(ctx, p, works)
			}
			if st := b.Stats(); st.Limit != 100 {
				t.Errorf("ratio %v: %d saved", ratio, st.Limit)
			}
		}
	})
}

// Only what would be run is taken from the budget.
func TestBudgetIsNotSpentInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(concurrency.Budget)
		ctx, cancel := context.WithTimeout(concurrency.WithBudget(t.Context(), b), time.Minute)
		defer cancel()
		for _, err := range []error{concurrency.Permanent(errBoom), concurrency.RetryAfter(errBoom, time.Hour)} {
			runs := 0
			if _, got := concurrency.Retry(ctx, nil, failing(&runs, err)); !errors.Is(got, errBoom) || runs != 1 {
				t.Errorf("%v after %d runs", got, runs)
			}
		}
		if st := b.Stats(); st.Admitted != 0 || st.Rejected != 0 || st.Limit != 10 {
			t.Errorf("stats %+v", st)
		}
	})
}

// The nearest budget counts, wherever the call stands; one of its own in an
// extra run begins anew.
func TestNearestBudgetCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, inner := new(concurrency.Budget), new(concurrency.Budget)
		lowest := 0
		_, _ = concurrency.Retry(concurrency.WithBudget(t.Context(), outer), nil, concurrency.Idempotent(func(ctx context.Context) (int, error) {
			return concurrency.Retry(concurrency.WithBudget(ctx, inner), nil, concurrency.Idempotent(func(context.Context) (int, error) {
				lowest++
				return 0, errBoom
			}))
		}))
		if o, i := outer.Stats(), inner.Stats(); lowest != 9 || o.Admitted != 2 || i.Admitted != 6 {
			t.Errorf("%d runs, outer %+v, inner %+v", lowest, o, i)
		}
		defer func() {
			if recover() == nil {
				t.Error("a nil Budget is accepted")
			}
		}()
		concurrency.WithBudget(t.Context(), nil)
	})
}

func TestHedgeAsksTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := taught(t, &concurrency.Hedger{Ratio: 1}, 40)
		b := &concurrency.Budget{Ratio: 1e-9}
		ctx := concurrency.WithBudget(t.Context(), b)
		for i := range 12 {
			var n atomic.Int64
			// A retry within the second run asks the same budget.
			_, err := concurrency.Hedge(ctx, h, runs(&n, heeds(time.Second, 1, nil), func(ctx context.Context) (int, error) {
				r := 0
				_, _ = concurrency.Retry(ctx, &concurrency.RetryPolicy{Attempts: 2, Backoff: concurrency.Backoff{Min: 1, Max: 1}}, failing(&r, errBoom))
				return heeds(time.Hour, 2, nil)(ctx)
			}))
			want := int64(1)
			if i < 5 {
				want = 2
			}
			if err != nil || n.Load() != want {
				t.Errorf("call %d: %d runs, %v", i, n.Load(), err)
			}
		}
		if st := h.Stats(); b.Stats().Admitted != 10 || st.Admitted != 5 || st.Rejected != 7 {
			t.Errorf("budget %+v, hedger %+v", b.Stats(), st)
		}
	})
}

// First runs within an extra one earn nothing, or repetition would pay for
// itself.
func TestExtraRunsEarnNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		works := concurrency.Idempotent(constant(1))
		many := func(ctx context.Context) {
			for range 100 {
				_, _ = concurrency.Retry(ctx, nil, works)
				_, _ = concurrency.Hedge(ctx, new(concurrency.Hedger), works)
			}
		}
		b := &concurrency.Budget{Ratio: 0.01}
		ctx := concurrency.WithBudget(t.Context(), b)
		n := 0
		_, _ = concurrency.Retry(ctx, nil, concurrency.Idempotent(func(ctx context.Context) (int, error) {
			if n++; n == 1 {
				return 0, errBoom
			}
			many(ctx)
			return n, map[bool]error{true: errBoom}[n == 2]
		}))
		if st := b.Stats(); n != 3 || st.Limit != 8 {
			t.Errorf("%d runs, stats %+v", n, st)
		}
		h := taught(t, &concurrency.Hedger{Ratio: 1}, 40)
		var runsOf atomic.Int64
		_, err := concurrency.Hedge(ctx, h, runs(&runsOf, obedient, func(ctx context.Context) (int, error) { many(ctx); return 1, nil }))
		if st := b.Stats(); err != nil || st.Limit != 7 || st.Admitted != 3 {
			t.Errorf("%v, stats %+v", err, st)
		}
		many(ctx) // these do
		if st := b.Stats(); st.Limit != 9 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A run has the caller's very context unless there is something to mark.
func TestOnlyTheFirstExtraRunIsMarked(t *testing.T) {
	again := &concurrency.RetryPolicy{Attempts: 2, Backoff: concurrency.Backoff{Min: 1, Max: 1}}
	seen := func(ctx context.Context) (contexts []context.Context) {
		_, _ = concurrency.Retry(ctx, again, concurrency.Idempotent(func(ctx context.Context) (int, error) {
			contexts = append(contexts, ctx)
			return 0, errBoom
		}))
		return contexts
	}
	if got := seen(t.Context()); len(got) != 2 || got[0] != t.Context() || got[1] != t.Context() {
		t.Errorf("without a budget: %v", got)
	}
	ctx := concurrency.WithBudget(t.Context(), new(concurrency.Budget))
	got := seen(ctx)
	if len(got) != 2 || got[0] != ctx || got[1] == ctx {
		t.Fatalf("with a budget: %v", got)
	}
	if within := seen(got[1]); len(within) != 2 || within[0] != got[1] || within[1] != got[1] {
		t.Errorf("within an extra run: %v", within)
	}
}

// A ratio that is no number is the default, and one beyond all bounds fills the budget.
func TestEndlessRatio(t *testing.T) {
	b := &concurrency.Budget{Ratio: math.Inf(1)}
	_, _ = concurrency.Retry(concurrency.WithBudget(t.Context(), b), nil, concurrency.Idempotent(constant(1)))
	if st := b.Stats(); st.Limit != 100 {
		t.Errorf("stats %+v", st)
	}
	b = &concurrency.Budget{Ratio: math.NaN()}
	_, _ = concurrency.Retry(concurrency.WithBudget(t.Context(), b), nil, concurrency.Idempotent(constant(1)))
	if st := b.Stats(); st.Limit != 10 {
		t.Errorf("stats %+v", st)
	}
}

// What many take at once is not more than there is.
func TestBudgetConcurrently(t *testing.T) {
	b := &concurrency.Budget{Ratio: 1e-9}
	ctx := concurrency.WithBudget(t.Context(), b)
	var extra atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n := int64(0)
				_, _ = concurrency.Retry(ctx, &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: 1, Max: 1}}, concurrency.Idempotent(func(context.Context) (int, error) {
					n++
					return 0, errBoom
				}))
				extra.Add(n - 1)
			}
		})
	}
	wg.Wait()
	if st := b.Stats(); extra.Load() != 10 || st.Admitted != 10 || st.Limit != 0 {
		t.Errorf("%d extra runs, stats %+v", extra.Load(), st)
	}
}
