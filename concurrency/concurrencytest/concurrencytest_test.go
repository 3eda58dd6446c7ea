package concurrencytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mainstay-go/mainstay/concurrency"
)

func TestSemaphoreKeepsTheContract(t *testing.T) {
	for name, q := range map[string]concurrency.Queue{"FIFO": concurrency.FIFO, "LIFO": concurrency.LIFO, "NoWait": concurrency.NoWait} {
		t.Run(name, func(t *testing.T) {
			TestLimiter(t, func(size int64) concurrency.Limiter { return concurrency.NewSemaphore(size, q) })
		})
	}
}

// own is the shortest limiter one may write with NewPermit.
type own struct {
	mu   sync.Mutex
	free int64
	size int64
}

func (o *own) Acquire(ctx context.Context, n int64) (concurrency.Permit, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return concurrency.Permit{}, context.Cause(ctx)
	case n <= 0 || n > o.free:
		return concurrency.Permit{}, fmt.Errorf("own: %w", concurrency.ErrRejected)
	}
	o.free -= n
	return concurrency.NewPermit(ctx, func(bool, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.free += n
	}), nil
}

func TestOwnLimiterKeepsTheContract(t *testing.T) {
	TestLimiter(t, func(size int64) concurrency.Limiter { return &own{free: size, size: size} })
}

// recorder is a testing.TB that remembers failures and runs its cleanups when
// told to.
type recorder struct {
	testing.TB
	errs     []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Sprintf(format, args...))
}
func (r *recorder) end() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

func leakHere(release <-chan struct{}) { <-release }

func TestCheckLeaksNamesTheGoroutine(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	r := &recorder{TB: t}
	CheckLeaks(r)
	go leakHere(release)
	r.end()
	if len(r.errs) != 1 || !strings.Contains(r.errs[0], "concurrencytest.leakHere") {
		t.Fatalf("want one leak, in leakHere, got %q", r.errs)
	}
}

func TestCheckLeaksForgivesWhatEnds(t *testing.T) {
	release := make(chan struct{})
	old := make(chan struct{})
	defer close(old)
	go leakHere(old) // was there before
	r := &recorder{TB: t}
	CheckLeaks(r)
	go leakHere(release)
	r.Cleanup(func() { close(release) }) // runs before the check, as cleanups are reversed
	r.end()
	if len(r.errs) != 0 {
		t.Fatalf("want no leak, got %q", r.errs)
	}
}

// broken limiters: each breaks the rule it is named for. That the kit sees it
// is shown by running the rule in a separate process of this test binary.
type broken struct {
	own
	rule string
}

func (b *broken) Acquire(ctx context.Context, n int64) (concurrency.Permit, error) {
	switch b.rule {
	case "AdmitsNoMoreThanSize":
		return concurrency.NewPermit(ctx, func(bool, error) {}), ctx.Err()
	case "DoneContextIsNotAdmitted":
		ctx = context.WithoutCancel(ctx)
	case "ImpossibleFailsAtOnce":
		if n <= 0 {
			return concurrency.Permit{}, nil
		}
		if n > b.size {
			<-ctx.Done()
			return concurrency.Permit{}, ctx.Err()
		}
	case "NestedDoEnds", "CancelEndsWaiting":
		p, err := b.own.Acquire(ctx, n)
		if errors.Is(err, concurrency.ErrRejected) && n <= b.size {
			if b.rule == "CancelEndsWaiting" {
				return concurrency.Permit{}, errors.New("neither of the two")
			}
			<-ctx.Done()
			return concurrency.Permit{}, ctx.Err()
		}
		return p, err
	case "PanicReturnsUnits", "StormLosesNothing", "DoneCountsOnce":
		p, err := b.own.Acquire(ctx, n)
		if err != nil {
			return p, err
		}
		return concurrency.NewPermit(ctx, func(_ bool, e error) {
			if b.rule == "DoneCountsOnce" {
				b.mu.Lock()
				b.free += n
				b.mu.Unlock()
				p.Done(nil)
			}
			if e == nil && b.rule == "PanicReturnsUnits" || n < 3 && b.rule == "StormLosesNothing" {
				p.Done(nil)
			}
		}), nil
	}
	return b.own.Acquire(ctx, n)
}

const brokenRule = "MAINSTAY_TEST_BROKEN_RULE"

// TestBrokenLimiter fails by design; it runs only below TestKitFindsBrokenLimiters.
func TestBrokenLimiter(t *testing.T) {
	rule := os.Getenv(brokenRule)
	if rule == "" {
		t.Skip("run by TestKitFindsBrokenLimiters")
	}
	TestLimiter(t, func(size int64) concurrency.Limiter {
		return &broken{own: own{free: size, size: size}, rule: rule}
	})
}

func TestKitFindsBrokenLimiters(t *testing.T) {
	for _, rule := range []string{
		"AdmitsNoMoreThanSize", "DoneCountsOnce", "DoneContextIsNotAdmitted", "ImpossibleFailsAtOnce",
		"CancelEndsWaiting", "PanicReturnsUnits", "NestedDoEnds", "StormLosesNothing",
	} {
		t.Run(rule, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenLimiter$/^"+rule+"$")
			cmd.Env = append(os.Environ(), brokenRule+"="+rule)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBrokenLimiter/"+rule) {
				t.Fatalf("the kit passes a limiter that breaks this rule (%v):\n%s", err, out)
			}
		})
	}
}
