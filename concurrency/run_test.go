package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// journal records what services do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, lines) {
		t.Errorf("happened %q, want %q", j.lines, lines)
	}
}

// drains runs until its context ends, takes a second to drain and returns err.
func (j *journal) drains(name string, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		j.add("stop " + name)
		time.Sleep(time.Second)
		j.add(name + " stopped")
		return err
	}
}

func TestRunStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		err := concurrency.Run(ctx, j.drains("a", nil), j.drains("b", context.Canceled), j.drains("c", nil))
		if err != nil {
			t.Errorf("the end of ctx is no failure: %v", err)
		}
		if took := time.Since(start); took != time.Minute+3*time.Second {
			t.Errorf("took %v: drains add up", took)
		}
		j.want(t, "stop c", "c stopped", "stop b", "b stopped", "stop a", "a stopped")
	})
}

func TestRunNilMeansFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		once := func(context.Context) error { j.add("migrated"); return nil }
		start := time.Now()
		if err := concurrency.Run(ctx, j.drains("a", nil), once); err != nil {
			t.Error(err)
		}
		j.want(t, "migrated", "stop a", "a stopped")
		if took := time.Since(start); took != time.Hour+time.Second {
			t.Errorf("took %v: the end of one service is not the end of all", took)
		}
		start = time.Now()
		if err := concurrency.Run(t.Context(), once, once); err != nil || time.Since(start) != 0 {
			t.Errorf("all finished: %v after %v", err, time.Since(start))
		}
	})
}

func TestRunErrorStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		late := errors.New("could not flush")
		fails := func(context.Context) error {
			time.Sleep(time.Minute)
			return errBoom
		}
		var cause error
		watch := func(ctx context.Context) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}
		err := concurrency.Run(t.Context(), j.drains("a", late), fails, watch, j.drains("c", nil))
		if !errors.Is(err, errBoom) || !errors.Is(err, late) || errors.Is(err, context.Canceled) {
			t.Errorf("want both failures and no mere cancellation, got %v", err)
		}
		if cause != errBoom {
			t.Errorf("the services were told %v", cause)
		}
		j.want(t, "stop c", "c stopped", "stop a", "a stopped")
		if err := concurrency.Run(t.Context(), fails); err != errBoom {
			t.Errorf("a single failure is returned as it is, got %v", err)
		}
		canceled := func(context.Context) error { return context.Canceled }
		if err := concurrency.Run(t.Context(), canceled); err != context.Canceled {
			t.Errorf("nobody told it to stop, so its error counts, got %v", err)
		}
	})
}

// What only reports the end of ctx is no failure; a drain that ran out of its
// own time is one, even if a deadline ended ctx as well.
func TestRunTellsStoppingFromFailing(t *testing.T) {
	signal := errors.New("interrupt received")
	drain := fmt.Errorf("not drained: %w", context.DeadlineExceeded)
	for name, c := range map[string]struct {
		cause, returned, want error
	}{
		"canceled":              {signal, fmt.Errorf("consume: %w", context.Canceled), nil},
		"the cause":             {signal, fmt.Errorf("consume: %w", signal), nil},
		"a deadline's cause":    {context.DeadlineExceeded, context.DeadlineExceeded, nil},
		"drain":                 {signal, drain, drain},
		"drain after a timeout": {context.DeadlineExceeded, drain, drain},
		"another failure":       {signal, errBoom, errBoom},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(c.cause) })
			var j journal
			if err := concurrency.Run(ctx, j.drains("a", nil), j.drains("b", c.returned)); err != c.want {
				t.Errorf("%s: got %v, want %v", name, err, c.want)
			}
		})
	}
}

func TestRunServiceContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "v"), time.Second)
		defer cancel()
		err := concurrency.Run(ctx, func(own context.Context) error {
			if own.Value(key{}) != "v" {
				t.Error("values are lost")
			}
			if _, ok := own.Deadline(); ok {
				t.Error("a deadline of ctx would cut the drain of the first service short")
			}
			<-own.Done()
			if context.Cause(own) != context.DeadlineExceeded {
				t.Errorf("cause is %v", context.Cause(own))
			}
			return context.Cause(own)
		})
		if err != nil {
			t.Error(err)
		}
		started := false
		if err := concurrency.Run(ctx, func(context.Context) error { started = true; return nil }); err != nil || started {
			t.Errorf("done context: %v, started %v", err, started)
		}
		if err := concurrency.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRunPanicAndGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		v := panicOf(func() {
			_ = concurrency.Run(t.Context(), j.drains("a", nil), func(context.Context) error { explode(); return nil })
		})
		if p, ok := v.(*concurrency.PanicError); !ok || p.Value != errBoom {
			t.Errorf("recovered %v", v)
		}
		returned := false
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_ = concurrency.Run(t.Context(), j.drains("b", nil), func(context.Context) error { runtime.Goexit(); return nil })
			returned = true
		}()
		<-gone
		if returned {
			t.Error("Goexit of a service is taken for its end")
		}
		j.want(t, "stop a", "a stopped", "stop b", "b stopped")
	})
}
