package idempotency

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
)

var orderKey = Key{Scope: "charge", ID: "order-17"}

type invoice struct {
	Number int
	Lines  []string
}

func TestDoRunsOnce(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	want := invoice{Number: 7, Lines: []string{"lantern", "<&>", "é"}}
	runs := 0
	for range 3 {
		got, err := Do(t.Context(), g, orderKey, func(context.Context) (invoice, error) {
			runs++
			return want, nil
		})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Equal(t, 1, runs)
}

// Sixty-four callers come at the same time, again and again until they have an
// answer: all get the answer of the one run.
func TestDoConcurrently(t *testing.T) {
	const callers, keys = 64, 10
	g := New(NewMemoryStore(keys), nil)
	for n := range keys {
		var (
			group sync.WaitGroup
			runs  atomic.Int64
			got   [callers]int64
		)
		start := make(chan struct{})
		for i := range callers {
			group.Go(func() {
				<-start
				for {
					v, err := Do(t.Context(), g, orderKey.Child(string(rune('a'+n))), func(context.Context) (int64, error) {
						runtime.Gosched()
						return 100 + runs.Add(1), nil
					})
					if !errors.Is(err, ErrInProgress) {
						if err != nil {
							t.Error(err)
						}
						got[i] = v
						return
					}
					runtime.Gosched()
				}
			})
		}
		close(start)
		group.Wait()
		require.EqualValues(t, 1, runs.Load())
		for _, v := range got {
			require.EqualValues(t, 101, v)
		}
	}
}

func TestDoFailureIsOnlyCounted(t *testing.T) {
	store := NewMemoryStore(10)
	g := New(store, nil)
	cause := errors.New("declined")
	for range 3 {
		v, err := Do(t.Context(), g, orderKey, func(context.Context) (int, error) { return 4, cause })
		require.Same(t, cause, err, "the error of the work was wrapped")
		require.Equal(t, 4, v)
	}
	require.Equal(t, 4, look(t.Context(), store, orderKey).Attempt)
	v, err := Do(t.Context(), g, orderKey, func(context.Context) (int, error) { return 5, nil })
	require.NoError(t, err)
	require.Equal(t, 5, v)
}

func TestDoPanicGivesTheKeyBack(t *testing.T) {
	store := NewMemoryStore(10)
	g := New(store, nil)
	require.PanicsWithValue(t, "boom", func() {
		_, _ = Do(t.Context(), g, orderKey, func(context.Context) (int, error) { panic("boom") })
	})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = Do(t.Context(), g, orderKey, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
	}()
	<-gone
	out := look(t.Context(), store, orderKey)
	require.Equal(t, Acquired, out.State)
	require.Equal(t, 3, out.Attempt)
}

func TestDoInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemoryStore(10)
		g := New(store, &Options{Lease: time.Minute})
		_, err := store.Begin(t.Context(), Claim{Key: orderKey, Lease: time.Minute}) // and dies
		require.NoError(t, err)
		end := time.Now().Add(time.Minute)
		run := func(context.Context) (int, error) { return 1, nil }

		time.Sleep(20 * time.Second)
		_, err = Do(t.Context(), g, orderKey, run)
		require.ErrorIs(t, err, ErrInProgress)
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.True(t, e.Until.Equal(end), "until %v, want %v", e.Until, end)
		require.Equal(t, orderKey, e.Key)
		require.Contains(t, err.Error(), "idempotency: begin charge/order-17: in progress elsewhere, until "+end.Format(time.RFC3339))
		permanent, after := concurrency.Advice(err)
		require.False(t, permanent)
		require.Equal(t, 40*time.Second, after)

		time.Sleep(40 * time.Second)
		v, err := Do(t.Context(), g, orderKey, run)
		require.NoError(t, err)
		require.Equal(t, 1, v)
	})
}

func TestDoMistakes(t *testing.T) {
	store := newFakeStore()
	g := New(store, &Options{FailOpen: true}) // no mistake opens it
	never := func(context.Context) (int, error) { t.Fatal("ran"); return 0, nil }
	one, another := orderKey, orderKey
	one.Fingerprint, another.Fingerprint = Sum([]byte("1")), Sum([]byte("2"))
	_, err := Do(t.Context(), g, one, func(context.Context) (int, error) { return 1, nil })
	require.NoError(t, err)

	for _, c := range []struct {
		key  Key
		want error
	}{
		{another, ErrMismatch},
		{Key{}, ErrKey},
		{Key{Scope: "s"}, ErrKey},
		{RequestKey(t.Context()).Child("transfer"), ErrKey},
	} {
		_, err := Do(t.Context(), g, c.key, never)
		require.ErrorIs(t, err, c.want)
		permanent, _ := concurrency.Advice(err)
		require.True(t, permanent, "%v is not permanent", err)
	}
}

func TestDoRenewsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemoryStore(10)
		g := New(store, nil)
		done := make(chan int)
		go func() {
			v, err := Do(t.Context(), g, orderKey, func(ctx context.Context) (int, error) {
				time.Sleep(time.Hour)
				return 1, ctx.Err()
			})
			if err != nil {
				t.Error(err)
			}
			done <- v
		}()
		time.Sleep(time.Millisecond)
		for range 60 {
			out, err := store.Begin(t.Context(), Claim{Key: orderKey, Lease: time.Hour})
			require.NoError(t, err)
			require.Equal(t, InProgress, out.State)
			require.LessOrEqual(t, time.Until(out.Until), 30*time.Second)
			time.Sleep(59 * time.Second)
		}
		require.Equal(t, 1, <-done)
		require.Equal(t, Done, look(t.Context(), store, orderKey).State)
	})
}

// Who cannot renew is told when the lease has ended, not before and not after.
func TestDoLeaseLost(t *testing.T) {
	for name, c := range map[string]struct {
		renew    func(context.Context) error
		failOpen bool
		after    time.Duration // 0: never told
	}{
		"store down":            {func(context.Context) error { return errDown }, false, 30 * time.Second},
		"store hangs":           {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, 30 * time.Second},
		"taken over":            {func(context.Context) error { return ErrStale }, false, 10 * time.Second},
		"store down, fail open": {func(context.Context) error { return errDown }, true, 0},
		"taken over, fail open": {func(context.Context) error { return ErrStale }, true, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newFakeStore()
				store.onRenew = c.renew
				g := New(store, &Options{FailOpen: c.failOpen})
				cause := errors.New("told")
				begun := time.Now()
				_, err := Do(t.Context(), g, orderKey, func(ctx context.Context) (int, error) {
					if c.after == 0 {
						time.Sleep(10 * time.Minute)
						return 1, ctx.Err()
					}
					<-ctx.Done()
					require.ErrorIs(t, context.Cause(ctx), ErrStale)
					require.Equal(t, c.after, time.Since(begun))
					return 0, cause
				})
				if c.after == 0 {
					require.NoError(t, err)
				} else {
					require.Same(t, cause, err)
				}
			})
		})
	}
}

// A renewal that fails for a while does not cost the lease.
func TestDoRenewalRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		begun := time.Now()
		store.onRenew = func(context.Context) error {
			if past := time.Since(begun); past > 15*time.Second && past < 40*time.Second {
				return errDown // the renewal of 10 s lasts until 40 s
			}
			return nil
		}
		_, err := Do(t.Context(), New(store, nil), orderKey, func(ctx context.Context) (int, error) {
			time.Sleep(39 * time.Second)
			require.NoError(t, ctx.Err())
			return 1, nil
		})
		require.NoError(t, err)
		store.onRenew = func(context.Context) error {
			if past := time.Since(begun); past > 50*time.Second && past < 70*time.Second {
				return errDown
			}
			return nil
		}
		begun = time.Now()
		_, err = Do(t.Context(), New(store, nil), orderKey.Child("2"), func(ctx context.Context) (int, error) {
			time.Sleep(5 * time.Minute)
			return 1, ctx.Err()
		})
		require.NoError(t, err)
	})
}

// One renewal that hangs does not cost the lease either.
func TestDoRenewalHangsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		calls := 0
		store.onRenew = func(ctx context.Context) error {
			if calls++; calls == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		_, err := Do(t.Context(), New(store, nil), orderKey, func(ctx context.Context) (int, error) {
			time.Sleep(time.Minute)
			return 1, ctx.Err()
		})
		require.NoError(t, err)
	})
}

// The lease is renewed as long as the work runs, which may be after its caller
// has gone.
func TestDoRenewsForAnAbsentCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(NewMemoryStore(10), nil)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Do(ctx, g, orderKey, func(context.Context) (int, error) {
			cancel()
			time.Sleep(time.Hour)
			require.Equal(t, InProgress, look(t.Context(), g.Store(), orderKey).State)
			return 1, nil
		})
		require.NoError(t, err)
	})
}

// A renewal that hangs does not hold up work that is done.
func TestDoDoesNotWaitForARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.onRenew = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		begun := time.Now()
		_, err := Do(t.Context(), New(store, nil), orderKey, func(context.Context) (int, error) {
			time.Sleep(11 * time.Second) // the renewal began after 10 s
			return 1, nil
		})
		require.NoError(t, err)
		require.Equal(t, 11*time.Second, time.Since(begun))
	})
}

func TestDoTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.onRenew = func(context.Context) error { return errDown }
		v, err := Do(t.Context(), New(store, nil), orderKey, func(context.Context) (int, error) {
			time.Sleep(time.Minute) // deaf to its context
			out, err := store.Begin(t.Context(), Claim{Key: orderKey, Lease: time.Minute})
			require.NoError(t, err)
			require.Equal(t, Acquired, out.State)
			return 1, nil
		})
		require.ErrorIs(t, err, ErrStale)
		require.Equal(t, 1, v)
	})
}

func TestDoStoreFailsToBegin(t *testing.T) {
	store := newFakeStore()
	store.onBegin = down
	runs := 0
	run := func(context.Context) (int, error) { runs++; return 1, nil }

	_, err := Do(t.Context(), New(store, nil), orderKey, run)
	require.ErrorIs(t, err, errDown)
	e, _ := errors.AsType[*Error](err)
	require.Equal(t, "begin", e.Op)
	require.Zero(t, runs)

	v, err := Do(t.Context(), New(store, &Options{FailOpen: true}), orderKey, run)
	require.NoError(t, err)
	require.Equal(t, 1, v)
	require.Equal(t, 1, runs)

	full := NewMemoryStore(0)
	_, err = Do(t.Context(), New(full, nil), orderKey, run)
	require.ErrorIs(t, err, ErrFull)
	_, err = Do(t.Context(), New(full, &Options{FailOpen: true}), orderKey, run)
	require.NoError(t, err)
	require.Equal(t, 2, runs)

	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a caller that has gone is no reason to open
	_, err = Do(ctx, New(NewMemoryStore(10), &Options{FailOpen: true}), orderKey, run)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, runs)
}

func TestDoStoreFailsToComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		run := func(context.Context) (int, error) { return 1, nil }

		failures := 0
		store.onComplete = func([]byte) error {
			if failures++; failures < 4 {
				return errDown
			}
			return nil
		}
		v, err := Do(t.Context(), New(store, nil), orderKey, run)
		require.NoError(t, err, "a store that failed for a moment was not asked again")
		require.Equal(t, 1, v)
		require.Equal(t, Done, look(t.Context(), store, orderKey).State)

		store.onComplete = func([]byte) error { return errDown }
		begun := time.Now()
		v, err = Do(t.Context(), New(store, nil), orderKey.Child("2"), run)
		require.ErrorIs(t, err, errDown)
		require.ErrorContains(t, err, "the work was done, but is not recorded and may run again")
		require.Equal(t, 1, v)
		require.LessOrEqual(t, time.Since(begun), 5*time.Second)
		v, err = Do(t.Context(), New(store, &Options{FailOpen: true}), orderKey.Child("3"), run)
		require.NoError(t, err)
		require.Equal(t, 1, v)
	})
}

func TestDoAbortFails(t *testing.T) {
	store := newFakeStore()
	store.onAbort = down
	cause := errors.New("declined")
	_, err := Do(t.Context(), New(store, nil), orderKey, func(context.Context) (int, error) { return 0, cause })
	require.Same(t, cause, err)
	require.Equal(t, InProgress, look(t.Context(), store, orderKey).State, "the lease is left to end by itself")
}

// What is done is recorded although the caller has gone.
func TestDoCallerLeaves(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Do(ctx, g, orderKey, func(ctx context.Context) (int, error) {
		cancel()
		<-ctx.Done()
		return 1, nil
	})
	require.NoError(t, err)
	v, err := Do(t.Context(), g, orderKey, func(context.Context) (int, error) { return 2, nil })
	require.NoError(t, err)
	require.Equal(t, 1, v)

	ctx, cancel = context.WithCancel(t.Context())
	_, err = Do(ctx, g, orderKey.Child("2"), func(ctx context.Context) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, ctx.Err()
	})
	require.Equal(t, context.Canceled, err)
	require.Equal(t, Acquired, look(t.Context(), g.Store(), orderKey.Child("2")).State)
}

func TestDoTooLarge(t *testing.T) {
	lower := newFakeStore() // a store with a limit of its own
	lower.onComplete = func(result []byte) error {
		if len(result) > 50 {
			return ErrTooLarge
		}
		return nil
	}
	for name, g := range map[string]*Guard{
		"guard": New(NewMemoryStore(10), &Options{MaxResult: 50}),
		"store": New(lower, nil),
	} {
		t.Run(name, func(t *testing.T) {
			fits, large := strings.Repeat("x", 46), strings.Repeat("x", 47) // and two quotes, version, kind
			v, err := Do(t.Context(), g, orderKey, func(context.Context) (string, error) { return fits, nil })
			require.NoError(t, err)
			require.Equal(t, fits, v)

			v, err = Do(t.Context(), g, orderKey.Child("2"), func(context.Context) (string, error) { return large, nil })
			require.ErrorIs(t, err, ErrTooLarge)
			require.Equal(t, large, v)
			v, err = Do(t.Context(), g, orderKey.Child("2"), func(context.Context) (string, error) {
				t.Fatal("ran again")
				return "", nil
			})
			require.ErrorIs(t, err, ErrTooLarge)
			require.Empty(t, v)
		})
	}
}

func TestDoResultWithoutJSON(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	ch := make(chan int)
	v, err := Do(t.Context(), g, orderKey, func(context.Context) (chan int, error) { return ch, nil })
	require.ErrorContains(t, err, "has no JSON form")
	require.Equal(t, ch, v)
	_, err = Do(t.Context(), g, orderKey, func(context.Context) (chan int, error) { t.Fatal("ran again"); return nil, nil })
	require.ErrorContains(t, err, "the result was not kept: json: unsupported type: chan int")
}

func TestDoReplayOfSomethingElse(t *testing.T) {
	ctx, store := t.Context(), NewMemoryStore(10)
	g := New(store, nil)
	for stored, want := range map[string]string{
		"":                                 "the key was completed without a result",
		"\x01":                             "the key was completed without a result",
		"\x02v1":                           "format version 2, known is 1",
		"\x01h{}\n":                        "the key holds an HTTP response, not a value",
		"\x01?1":                           "the key holds kind '?', not a value",
		"\x01v\"text\"":                    "the stored value is no int",
		"\x01v":                            "the stored value is no int",
		"\x01l":                            ErrTooLarge.Error(),
		string(seal(kindValue, nil)) + "x": "the stored value is no int",
	} {
		k := Key{Scope: "s", ID: "x" + stored}
		out, err := store.Begin(ctx, Claim{Key: k, Lease: time.Minute})
		require.NoError(t, err)
		require.NoError(t, store.Complete(ctx, out.Token, []byte(stored), time.Minute))
		v, err := Do(ctx, g, k, func(context.Context) (int, error) { t.Fatal("ran"); return 0, nil })
		require.ErrorContains(t, err, want)
		require.Zero(t, v)
		e, _ := errors.AsType[*Error](err)
		require.Equal(t, "replay", e.Op)
	}
}

func TestDoForgetsAfterTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(NewMemoryStore(10), &Options{TTL: time.Hour})
		require.Equal(t, time.Hour, g.Retention())
		runs := 0
		run := func(context.Context) (int, error) { runs++; return runs, nil }
		for range 60 {
			v, err := Do(t.Context(), g, orderKey, run)
			require.NoError(t, err)
			require.Equal(t, 1, v)
			time.Sleep(time.Minute)
		}
		v, err := Do(t.Context(), g, orderKey, run)
		require.NoError(t, err)
		require.Equal(t, 2, v)
	})
}

// The longest durations there are mean for ever, and do not overflow.
func TestDoForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(NewMemoryStore(10), &Options{Lease: math.MaxInt64, TTL: math.MaxInt64})
		runs := 0
		for range 2 {
			_, err := Do(t.Context(), g, orderKey, func(ctx context.Context) (int, error) {
				runs++
				time.Sleep(time.Hour)
				return runs, ctx.Err()
			})
			require.NoError(t, err)
			time.Sleep(10 * 365 * 24 * time.Hour)
		}
		require.Equal(t, 1, runs)
		require.Greater(t, g.Retention(), 10*365*24*time.Hour)
	})
}

func TestDefaults(t *testing.T) {
	for _, o := range []*Options{nil, {}, {Lease: -1, TTL: -1, MaxResult: -1, HTTP: HTTPOptions{MaxBody: -1}}} {
		g := New(NewMemoryStore(1), o)
		require.Equal(t, 7*24*time.Hour, g.Retention())
		require.Equal(t, 30*time.Second, g.lease)
		require.Equal(t, 1<<20, g.maxResult)
		require.EqualValues(t, 1<<20, g.http.MaxBody)
	}
}
