package concurrency_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// deaf returns a function that takes d whatever its context says.
func deaf(d time.Duration, v int, err error) func(context.Context) (int, error) {
	return func(context.Context) (int, error) {
		time.Sleep(d)
		return v, err
	}
}

func obedient(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			f     func(context.Context) (int, error)
			value int
			errs  []error
			took  time.Duration
		}{
			"on time":         {deaf(time.Second, 1, nil), 1, nil, time.Second},
			"fails on time":   {deaf(time.Second, 0, errBoom), 0, []error{errBoom}, time.Second},
			"obeys":           {obedient, 0, []error{context.DeadlineExceeded}, time.Minute},
			"late success":    {deaf(time.Hour, 1, nil), 1, nil, time.Hour},
			"late failure":    {deaf(time.Hour, 0, errBoom), 0, []error{errBoom, context.DeadlineExceeded}, time.Hour},
			"its own timeout": {deaf(time.Second, 0, context.DeadlineExceeded), 0, []error{context.DeadlineExceeded}, time.Second},
		} {
			start := time.Now()
			v, err := concurrency.WaitFor(t.Context(), time.Minute, c.f)
			if v != c.value || (err == nil) != (c.errs == nil) || time.Since(start) != c.took {
				t.Errorf("%s: %d, %v after %v", name, v, err, time.Since(start))
			}
			for _, want := range c.errs {
				if !errors.Is(err, want) {
					t.Errorf("%s: %v does not match %v", name, err, want)
				}
			}
			if said := err != nil && strings.Contains(err.Error(), "not done within 1m0s"); said != (c.took >= time.Minute && err != nil) {
				t.Errorf("%s: %q", name, err)
			}
		}
	})
}

// An error that says why already is not told twice.
func TestWaitForSaysItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := concurrency.WaitFor(t.Context(), time.Second, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "concurrency: not done within 1s" {
			t.Error(err)
		}
		_, err = concurrency.WaitFor(t.Context(), time.Second, func(context.Context) (int, error) { return 0, errBoom })
		if err != errBoom {
			t.Errorf("an error on time became %v", err)
		}
	})
}

func TestTimeoutsRespectTheCaller(t *testing.T) {
	var o concurrency.Orphans
	abandon := func(ctx context.Context, d time.Duration, f func(context.Context) (int, error)) (int, error) {
		return concurrency.Abandon(ctx, &o, d, f)
	}
	for name, call := range map[string]func(context.Context, time.Duration, func(context.Context) (int, error)) (int, error){
		"WaitFor": concurrency.WaitFor[int],
		"Abandon": abandon,
	} {
		synctest.Test(t, func(t *testing.T) {
			never := func(context.Context) (int, error) { t.Errorf("%s: called in vain", name); return 0, nil }
			reason := errors.New("user left")
			ctx, cancel := context.WithCancelCause(t.Context())
			for _, d := range []time.Duration{0, -1} {
				if _, err := call(ctx, d, never); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s with %v: %v", name, d, err)
				}
			}
			time.AfterFunc(time.Second, func() { cancel(reason) })
			start := time.Now()
			_, err := call(ctx, time.Minute, obedient)
			if !errors.Is(err, reason) || !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("%s, caller left: %v after %v", name, err, time.Since(start))
			}
			if _, err := call(ctx, time.Minute, never); !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s, done context: %v", name, err)
			}
			synctest.Wait()
		})
	}
}

// What a context says that nobody waits for: it is asked at these times, and ends
// as one with a timer does.
func TestWaitForWithoutATimer(t *testing.T) {
	type key struct{}
	for name, c := range map[string]struct {
		callers time.Duration // the caller's own limit
		polls   int           // how often a time is looked at
		ends    time.Duration
		late    bool
	}{
		"looked at once":              {time.Hour, 1, time.Minute, true},
		"looked at over and over":     {time.Hour, 100, time.Minute, true},
		"the caller's ends before":    {30 * time.Second, 1, 30 * time.Second, false},
		"the caller's, over and over": {30 * time.Second, 100, 30 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), c.callers)
			defer cancel()
			_, err := concurrency.WaitFor(ctx, time.Minute, func(ctx context.Context) (int, error) {
				if d, ok := ctx.Deadline(); !ok || d.Sub(start) != c.ends || ctx.Value(key{}) != "value" {
					t.Errorf("%s: deadline after %v", name, d.Sub(start))
				}
				for at := time.Duration(0); at < 90*time.Second; at += 10 * time.Second {
					synctest.Wait()
					for range c.polls {
						if done := ctx.Err() != nil; done != (at >= c.ends) {
							t.Fatalf("%s: after %v: %v", name, at, ctx.Err())
						}
					}
					time.Sleep(10 * time.Second)
				}
				late := strings.Contains(context.Cause(ctx).Error(), "not done within 1m0s")
				if ctx.Err() != context.DeadlineExceeded || late != c.late {
					t.Errorf("%s: %v because of %v", name, ctx.Err(), context.Cause(ctx))
				}
				select {
				case <-ctx.Done():
				default:
					t.Errorf("%s: Err is set but Done is open", name)
				}
				return 0, errBoom
			})
			if !errors.Is(err, errBoom) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// The context of WaitFor is one as any other: what derives from it is linked,
// what outlives the call finds it ended, and none takes back what it has said.
func TestContextOfWaitFor(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		kept := map[string]context.Context{}
		call := func(d time.Duration, f func(ctx context.Context) context.Context) context.Context {
			var keep context.Context
			_, _ = concurrency.WaitFor(parent, d, func(ctx context.Context) (int, error) {
				keep = f(ctx)
				return 1, nil
			})
			return keep
		}
		before := runtime.NumGoroutine()
		kept["silent"] = call(time.Minute, func(ctx context.Context) context.Context { return ctx })
		kept["asked"] = call(time.Minute, func(ctx context.Context) context.Context { ctx.Done(); return ctx })
		kept["derived"] = call(time.Minute, func(ctx context.Context) context.Context {
			derived, stop := context.WithTimeout(ctx, time.Hour)
			_ = stop // what was derived ends with the call
			if d, ok := derived.Deadline(); !ok || time.Until(d) != time.Minute || runtime.NumGoroutine() != before {
				t.Errorf("deadline in %v, %d goroutines more", time.Until(d), runtime.NumGoroutine()-before)
			}
			return derived
		})
		expired := map[string]context.Context{
			"late": call(time.Minute, func(ctx context.Context) context.Context { time.Sleep(2 * time.Minute); return ctx }),
			"late and asked": call(time.Minute, func(ctx context.Context) context.Context {
				derived, stop := context.WithCancel(ctx)
				_ = stop
				<-derived.Done()
				if derived.Err() != context.DeadlineExceeded || !strings.Contains(context.Cause(derived).Error(), "not done within") {
					t.Errorf("%v because of %v", derived.Err(), context.Cause(derived))
				}
				return derived
			}),
		}
		if err := expired["late and asked"].Err(); err != context.DeadlineExceeded {
			t.Error(err)
		}
		said := map[string]error{}
		for name, ctx := range kept {
			said[name] = ctx.Err()
			if said[name] != context.Canceled {
				t.Errorf("%s: after the call %v", name, said[name])
			}
		}
		for name, ctx := range expired {
			kept[name], said[name] = ctx, ctx.Err()
			if said[name] == nil {
				t.Errorf("%s: not over after the call", name)
			}
		}
		time.Sleep(2 * time.Hour) // the parent's end comes too late to matter
		synctest.Wait()
		for name, ctx := range kept {
			select {
			case <-ctx.Done():
			default:
				t.Errorf("%s: not done after the call", name)
			}
			if ctx.Err() != said[name] || context.Cause(ctx) == nil {
				t.Errorf("%s: said %v, and then %v because of %v", name, said[name], ctx.Err(), context.Cause(ctx))
			}
		}
	})
}

// Where the caller's context ends first, and nobody has asked, that is the end
// of WaitFor's for ever.
func TestContextOfWaitForEndsAsItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var kept context.Context
		_, _ = concurrency.WaitFor(parent, time.Minute, func(ctx context.Context) (int, error) {
			time.Sleep(2 * time.Second)
			kept = ctx
			return 1, nil
		})
		for range 2 {
			if kept.Err() != context.DeadlineExceeded || context.Cause(kept) != context.DeadlineExceeded {
				t.Errorf("%v because of %v", kept.Err(), context.Cause(kept))
			}
			<-kept.Done()
		}
	})
}

// A caller's deadline that has passed without anybody having noticed.
func TestWaitForNoTimeAtAll(t *testing.T) {
	_, err := concurrency.WaitFor(passed{t.Context()}, -1, func(context.Context) (int, error) {
		t.Error("called in vain")
		return 0, nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

type passed struct{ context.Context }

func (passed) Deadline() (time.Time, bool) { return time.Now().Add(-time.Hour), true }

func TestWaitForAllocates(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reads := func(ctx context.Context) (int, error) {
		_, ok := ctx.Deadline()
		if !ok || ctx.Err() != nil {
			return 0, errBoom
		}
		return 1, nil
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := concurrency.WaitFor(ctx, time.Minute, reads); err != nil {
			t.Error(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for a deadline that is only read", n)
	}
}

func TestAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o concurrency.Orphans
		v, err := concurrency.Abandon(t.Context(), &o, time.Minute, deaf(time.Second, 1, errBoom))
		if v != 1 || err != errBoom || len(o.List()) != 0 {
			t.Errorf("on time: %d, %v, %d orphans", v, err, len(o.List()))
		}

		start := time.Now()
		v, err = concurrency.Abandon(t.Context(), &o, time.Minute, deaf(time.Hour, 1, nil))
		if v != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("late: %d, %v after %v", v, err, time.Since(start))
		}
		list := o.List()
		if len(list) != 1 || !list[0].Since.Equal(start.Add(time.Minute)) || !strings.Contains(string(list[0].Stack), "TestAbandon") {
			t.Fatalf("booked %+v", list)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := o.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 functions still run, 1 of them abandoned") {
			t.Errorf("Wait: %v", err)
		}
		if err := o.Wait(t.Context()); err != nil || time.Since(start) != time.Hour || len(o.List()) != 0 {
			t.Errorf("Wait: %v after %v, %d left", err, time.Since(start), len(o.List()))
		}
		if err := o.Wait(t.Context()); err != nil {
			t.Errorf("nothing to wait for: %v", err)
		}
	})
}

// A dead callee must not cost a goroutine a call: the bound holds however many call at once.
func TestOrphansAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := concurrency.Orphans{Max: 3}
		refused := 0
		for _, r := range concurrency.MapAll(t.Context(), 10, upTo(10), func(ctx context.Context, _ int) (int, error) {
			return concurrency.Abandon(ctx, &o, time.Second, deaf(time.Hour, 1, nil))
		}) {
			if errors.Is(r.Err, concurrency.ErrRejected) {
				refused++
			} else if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("got %v", r.Err)
			}
		}
		if refused != 7 || len(o.List()) != 3 {
			t.Errorf("%d refused, %d orphans", refused, len(o.List()))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if v, err := concurrency.Abandon(t.Context(), &o, time.Second, deaf(0, 1, nil)); v != 1 || err != nil {
			t.Errorf("there is room again: %d, %v", v, err)
		}
	})
}

func TestAbandonPanicAndGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o concurrency.Orphans
		v := panicOf(func() {
			_, _ = concurrency.Abandon(t.Context(), &o, time.Second, func(context.Context) (int, error) { explode(); return 0, nil })
		})
		if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom || !strings.Contains(string(p.Stack), "explode") {
			t.Errorf("recovered %v", v)
		}
		returned := false
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = concurrency.Abandon(t.Context(), &o, time.Second, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
			returned = true
		}()
		<-gone
		if err := o.Wait(t.Context()); err != nil || returned {
			t.Errorf("returned %v, %v", returned, err)
		}
	})
}

// Finishing at the very moment of giving up is either, but never both.
func TestAbandonAtTheSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o concurrency.Orphans
		outcomes := map[bool]int{}
		for range 500 {
			v, err := concurrency.Abandon(t.Context(), &o, time.Minute, deaf(time.Minute, 1, nil))
			if (v == 1) != (err == nil) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%d, %v", v, err)
			}
			outcomes[err == nil]++
			synctest.Wait()
			if n := len(o.List()); n != 0 {
				t.Fatalf("%d finished functions are booked for ever", n)
			}
		}
		t.Log("on time, or not:", outcomes)
	})
}

const crash = "MAINSTAY_TEST_LATE_PANIC"

// Nobody is left to receive the panic of an abandoned function; hiding it
// would be worse than crashing.
func TestLatePanicEndsTheProgram(t *testing.T) {
	if os.Getenv(crash) != "" {
		var o concurrency.Orphans
		release := make(chan struct{})
		_, _ = concurrency.Abandon(t.Context(), &o, time.Millisecond, func(context.Context) (int, error) {
			<-release
			explode()
			return 0, nil
		})
		close(release)
		_ = o.Wait(t.Context())
		select {} // the panic comes
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLatePanicEndsTheProgram$", "-test.timeout=20s")
	cmd.Env = append(os.Environ(), crash+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "concurrency: panic: boom") || !strings.Contains(string(out), "explode") {
		t.Errorf("%v:\n%s", err, out)
	}
}
