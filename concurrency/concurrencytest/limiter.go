package concurrencytest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// TestLimiter checks that a limiter of a fixed number of units keeps the
// contract of [concurrency.Limiter]. l makes a fresh one of size units; it is
// called inside a [testing/synctest] bubble, so time is virtual and the limiter
// must not leave goroutines behind. Each rule is a subtest, and a failure names
// the rule that was broken.
func TestLimiter(t *testing.T, l func(size int64) concurrency.Limiter) {
	t.Helper()
	for _, rule := range []struct {
		name  string
		check func(*testing.T, func(int64) concurrency.Limiter)
	}{
		{"AdmitsNoMoreThanSize", admitsNoMoreThanSize},
		{"DoneCountsOnce", doneCountsOnce},
		{"DoneContextIsNotAdmitted", doneContextIsNotAdmitted},
		{"ImpossibleFailsAtOnce", impossibleFailsAtOnce},
		{"CancelEndsWaiting", cancelEndsWaiting},
		{"PanicReturnsUnits", panicReturnsUnits},
		{"NestedDoEnds", nestedDoEnds},
		{"StormLosesNothing", stormLosesNothing},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rule.check(t, l) })
		})
	}
}

// soon is a context that ends in virtual time, so that waiting for ever fails
// a rule instead of stopping the test.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

// take acquires n units that must be free.
func take(t *testing.T, l concurrency.Limiter, n int64) concurrency.Permit {
	t.Helper()
	p, err := l.Acquire(soon(t), n)
	if err != nil {
		t.Fatalf("%d units that must be free were refused: %v", n, err)
	}
	return p
}

// full fails t if l admits another unit.
func full(t *testing.T, l concurrency.Limiter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.Acquire(ctx, 1); err == nil {
		t.Fatal("a unit was admitted though all are in use")
	} else if !errors.Is(err, concurrency.ErrRejected) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the error must match ErrRejected or ctx.Err(), it is: %v", err)
	}
}

func release(p concurrency.Permit) {
	var ok error
	p.Done(&ok)
}

func admitsNoMoreThanSize(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(3)
	a := take(t, limiter, 1)
	b := take(t, limiter, 2)
	full(t, limiter)
	release(b)
	c := take(t, limiter, 2)
	full(t, limiter)
	release(a)
	release(c)
	release(take(t, limiter, 3))
}

func doneCountsOnce(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(2)
	a := take(t, limiter, 1)
	held := take(t, limiter, 1)
	again := a
	release(a)
	release(a)
	release(again)
	next := take(t, limiter, 1)
	full(t, limiter)
	release(a) // an old copy must not return what is another's by now
	full(t, limiter)
	release(next)
	release(held)
	concurrency.Permit{}.Done(nil)
	release(take(t, limiter, 2))
}

func doneContextIsNotAdmitted(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := limiter.Acquire(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a free unit with a cancelled context: the error must match context.Canceled, it is: %v", err)
	}
	release(take(t, limiter, 1))
}

func impossibleFailsAtOnce(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(4)
	for _, n := range []int64{5, 1 << 62, 0, -1} {
		start := time.Now()
		if _, err := limiter.Acquire(soon(t), n); err == nil {
			t.Fatalf("%d units of 4 were admitted", n)
		}
		if waited := time.Since(start); waited > 0 {
			t.Fatalf("%d units of 4 can never be admitted, but Acquire waited %v", n, waited)
		}
	}
	release(take(t, limiter, 4))
}

func cancelEndsWaiting(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(1)
	held := take(t, limiter, 1)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := limiter.Acquire(ctx, 1)
		got <- err
	}()
	synctest.Wait()
	cancel()
	select {
	case err := <-got:
		if !errors.Is(err, context.Canceled) && !errors.Is(err, concurrency.ErrRejected) {
			t.Fatalf("the error must match ctx.Err() or ErrRejected, it is: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Acquire still waits a minute after its context was cancelled")
	}
	release(held)
	release(take(t, limiter, 1))
}

func panicReturnsUnits(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(1)
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("the panic must pass on as it is, recovered %v", v)
			}
		}()
		_, _ = concurrency.Do(soon(t), limiter, func(context.Context) (int, error) { panic("boom") })
	}()
	release(take(t, limiter, 1))
}

func nestedDoEnds(t *testing.T, l func(int64) concurrency.Limiter) {
	limiter := l(1)
	start := time.Now()
	_, _ = concurrency.Do(soon(t), limiter, func(ctx context.Context) (int, error) {
		return concurrency.Do(ctx, limiter, func(context.Context) (int, error) { return 1, nil })
	})
	if waited := time.Since(start); waited > 0 {
		t.Fatalf("a nested Do on the same limiter must be admitted or refused, it waited %v for itself", waited)
	}
	release(take(t, limiter, 1))
}

func stormLosesNothing(t *testing.T, l func(int64) concurrency.Limiter) {
	const size = 5
	limiter := l(size)
	var inUse atomic.Int64
	var workers sync.WaitGroup
	for w := range 16 {
		r := rand.New(rand.NewPCG(1, uint64(w)))
		workers.Go(func() {
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(8))*time.Millisecond)
				n := 1 + r.Int64N(size)
				if p, err := limiter.Acquire(ctx, n); err == nil {
					if now := inUse.Add(n); now > size {
						t.Errorf("%d units of %d in use", now, size)
					}
					time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
					inUse.Add(-n)
					release(p)
				}
				cancel()
			}
		})
	}
	workers.Wait()
	release(take(t, limiter, size))
	time.Sleep(time.Minute) // what the last ones left behind has ended by now, or fails the bubble
}
