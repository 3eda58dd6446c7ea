package wait_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wait"
)

var errLeft = errors.New("the caller left")

func TestAnswer(t *testing.T) {
	var wg sync.WaitGroup
	start := func(f func()) bool { wg.Go(f); return true }
	got, err := wait.Answer(t.Context(), start, func() (int, error) { return 7, errLeft }, nil)
	require.Equal(t, 7, got)
	require.ErrorIs(t, err, errLeft)
	require.NoError(t, wait.Call(t.Context(), start, func() error { return nil }))
	require.ErrorIs(t, wait.Call(t.Context(), start, func() error { return errLeft }), errLeft)

	closed := func(func()) bool { return false }
	require.ErrorIs(t, wait.Call(t.Context(), closed, func() error { panic("it is closed") }), driver.ErrClosed)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	err = wait.Call(ctx, start, func() error { panic("nobody wants it any more") })
	require.ErrorIs(t, err, errLeft)
	require.NotErrorIs(t, err, wait.ErrLate, "it has not begun")
	wg.Wait()
}

// What comes too late is dropped, if it came at all, and the goroutine ends.
func TestAnswerTooLate(t *testing.T) {
	for _, fails := range []error{nil, errors.New("failed")} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errLeft)
			defer cancel()
			var wg sync.WaitGroup
			var dropped []int
			begun := time.Now()
			_, err := wait.Answer(ctx, func(f func()) bool { wg.Go(f); return true }, func() (int, error) {
				time.Sleep(time.Minute)
				return 7, fails
			}, func(n int) { dropped = append(dropped, n) })
			require.ErrorIs(t, err, wait.ErrLate)
			require.ErrorIs(t, err, errLeft)
			require.Equal(t, time.Second, time.Since(begun))

			require.ErrorIs(t, wait.End(ctx, &wg), errLeft)
			require.Equal(t, time.Second, time.Since(begun))
			require.NoError(t, wait.End(t.Context(), &wg))
			require.Equal(t, time.Minute, time.Since(begun))
			if fails == nil {
				require.Equal(t, []int{7}, dropped)
			} else {
				require.Empty(t, dropped)
			}
		})
	}
}

func TestDeliveries(t *testing.T) {
	some := make([]driver.Delivery, 2)
	for name, c := range map[string]struct {
		due   time.Duration // zero: none
		event func(woken chan struct{}, gone chan struct{}, cancel func())
		takes int // until there is something
		after time.Duration
		err   error
	}{
		"at once":       {takes: 1},
		"woken":         {event: func(woken, _ chan struct{}, _ func()) { wait.Ring(woken) }, takes: 2, after: time.Second},
		"gone":          {event: func(_, gone chan struct{}, _ func()) { close(gone) }, takes: 2, after: time.Second},
		"due":           {due: time.Minute, takes: 2, after: time.Minute},
		"woken and due": {due: time.Minute, event: func(woken, _ chan struct{}, _ func()) { wait.Ring(woken) }, takes: 3, after: time.Minute},
		"cancelled":     {due: time.Minute, event: func(_, _ chan struct{}, cancel func()) { cancel() }, takes: 2, after: time.Second, err: errLeft},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				woken, gone := make(chan struct{}, 1), make(chan struct{})
				begun, takes := time.Now(), 0
				if c.event != nil {
					time.AfterFunc(time.Second, func() { c.event(woken, gone, func() { cancel(errLeft) }) })
				}
				ds, err := wait.Deliveries(ctx, 5, woken, gone, func(limit int) ([]driver.Delivery, time.Time, error) {
					require.Equal(t, 5, limit)
					if takes++; takes == c.takes {
						return some, time.Time{}, nil
					}
					if c.due > 0 {
						return nil, begun.Add(c.due), nil
					}
					return nil, time.Time{}, nil
				})
				require.ErrorIs(t, err, c.err)
				if c.err == nil {
					require.Len(t, ds, len(some))
				} else {
					require.Empty(t, ds)
				}
				require.Equal(t, c.after, time.Since(begun))
			})
		})
	}
	none := make(chan struct{})
	_, err := wait.Deliveries(t.Context(), 0, none, none, nil)
	require.ErrorContains(t, err, "a limit of 0 messages")
	_, err = wait.Deliveries(t.Context(), 1, none, none, func(int) ([]driver.Delivery, time.Time, error) { return nil, time.Time{}, errLeft })
	require.ErrorIs(t, err, errLeft)
}

func TestRing(t *testing.T) {
	c := make(chan struct{}, 1)
	wait.Ring(c)
	wait.Ring(c) // does not wait
	<-c
	require.Empty(t, c)
}
