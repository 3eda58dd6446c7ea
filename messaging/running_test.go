package messaging

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type runningKey struct{}

// A running is what context.WithTimeoutCause would be, at every moment and in
// whatever order it is asked.
func TestRunningIsAContextWithATimeout(t *testing.T) {
	asked := map[string]func(context.Context){
		"nothing":  func(context.Context) {},
		"err":      func(c context.Context) { _ = c.Err() },
		"done":     func(c context.Context) { _ = c.Done() },
		"cause":    func(c context.Context) { _ = context.Cause(c) },
		"value":    func(c context.Context) { _ = c.Value(runningKey{}) },
		"children": func(c context.Context) { context.AfterFunc(c, func() {}) },
	}
	gone := errors.New("gone")
	ends := map[string]func(cancel context.CancelCauseFunc, end func()){
		"not":         func(context.CancelCauseFunc, func()) {},
		"by time":     func(context.CancelCauseFunc, func()) { time.Sleep(2 * time.Second) },
		"from above":  func(cancel context.CancelCauseFunc, _ func()) { cancel(gone) },
		"by its run":  func(_ context.CancelCauseFunc, end func()) { end() },
		"run, parent": func(cancel context.CancelCauseFunc, end func()) { end(); cancel(gone) },
		"run, time":   func(_ context.CancelCauseFunc, end func()) { end(); time.Sleep(2 * time.Second) },
		"time, run":   func(_ context.CancelCauseFunc, end func()) { time.Sleep(2 * time.Second); end() },
	}
	type seen struct {
		err, cause, child, childCause error
		done, called                  bool
		value                         any
		deadline                      time.Duration
	}
	look := func(c context.Context, start time.Time) (s seen) {
		child, stop := context.WithCancel(c)
		defer stop()
		context.AfterFunc(c, func() { s.called = true })
		synctest.Wait()
		s.cause, s.err = context.Cause(c), c.Err()
		s.child, s.childCause = child.Err(), context.Cause(child)
		select {
		case <-c.Done():
			s.done = true
		default:
		}
		s.value = c.Value(runningKey{})
		d, _ := c.Deadline()
		s.deadline = d.Sub(start)
		return s
	}
	for first, ask := range asked {
		for name, finish := range ends {
			t.Run(first+" asked, ended "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), runningKey{}, 1))
					defer cancel(nil)
					r := &running{Context: parent, until: start.Add(time.Second)}
					defer r.end()
					ask(r)
					finish(cancel, r.end)
					got := look(r, start)

					start = time.Now()
					parent, cancel = context.WithCancelCause(context.WithValue(t.Context(), runningKey{}, 1))
					defer cancel(nil)
					c, end := context.WithTimeoutCause(parent, time.Second, errTimeout)
					defer end()
					finish(cancel, end)
					want := look(c, start)
					if name == "run, parent" && (first == "nothing" || first == "value") { // nobody asked while it lived
						want.cause, want.childCause = gone, gone
					}
					require.Equal(t, want, got)
				})
			})
		}
	}
}

func TestRunningMayBeAskedByMany(t *testing.T) {
	for range 100 {
		r := &running{Context: t.Context(), until: time.Now().Add(time.Hour)}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { <-r.Done() })
			wg.Go(func() { _ = context.Cause(r) })
		}
		wg.Go(r.end)
		wg.Wait()
		require.ErrorIs(t, r.Err(), context.Canceled)
	}
}
