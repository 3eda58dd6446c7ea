package saga

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// occupier returns a saga that holds a slot while its channel is open.
func occupier() (d *Definition[order], leave chan struct{}) {
	leave = make(chan struct{})
	return Define("occupier", 1, nil, Pivot("occupy", func(_ context.Context, c Call, _ order) (string, error) {
		if c.Fence == 1 {
			<-leave
		}
		return "", nil
	}, (*order).add).With(StepOptions{Timeout: time.Hour})), leave
}

// A runner that was replaced while a saga waited for its turn begins nothing of
// it, be it cut off still or heard again.
func TestWaitingForASlotOutlivesTheLease(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %v", back), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls []string
				note := func(c Call) { calls = append(calls, fmt.Sprintf("%s, fence %d", c.Op, c.Fence)) }
				d := Define("d", 1, Before(Undoable("a", func(_ context.Context, c Call, _ order) (string, error) {
					note(c)
					return "a", nil
				}, func(_ context.Context, c Call, _ order, _ Outcome[string]) error {
					note(c)
					return nil
				}, (*order).add)), Pivot("p", func(context.Context, Call, order) (string, error) {
					return "", Reject(errors.New("no"))
				}, (*order).add))
				busy, leave := occupier()

				store := &cutStore{MemoryStore: NewMemoryStore()}
				first := runner(t, store, &Options{Concurrency: 1}, busy, d)
				stop := start(t, first)
				synctest.Wait()
				require.NoError(t, busy.Start(t.Context(), first, "busy", order{}))
				synctest.Wait()
				require.NoError(t, d.Start(t.Context(), first, "1", order{}))
				synctest.Wait()

				store.cut(true)
				second := runner(t, store.MemoryStore, nil, d)
				start(t, second)
				_, err := d.Wait(t.Context(), second, "1")
				require.ErrorIs(t, err, ErrRolledBack)
				ended := append([]string(nil), calls...)
				require.Len(t, ended, 2)
				store.cut(!back)
				time.Sleep(20 * time.Second)
				require.Equal(t, back, first.Health(t.Context()) == nil)

				close(leave)
				time.Sleep(time.Minute)
				stop()
				require.Equal(t, ended, calls)
			})
		})
	}
}

// What a saga is to give up while it waits for its turn is not begun.
func TestWaitingForASlotOutlivesTheSaga(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled %v", cancelled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				d := Define("d", 1, Before(ReadOnly("a", func(context.Context, Call, order) (string, error) {
					calls++
					return "a", nil
				}, (*order).add)), nil).Deadline(time.Minute)
				busy, leave := occupier()
				r := runner(t, NewMemoryStore(), &Options{Concurrency: 1}, busy, d)
				start(t, r)
				synctest.Wait()
				require.NoError(t, busy.Start(t.Context(), r, "busy", order{}))
				synctest.Wait()
				require.NoError(t, d.Start(t.Context(), r, "1", order{}))
				if synctest.Wait(); cancelled {
					require.NoError(t, r.Cancel(t.Context(), "1", "no"))
				} else {
					time.Sleep(2 * time.Minute)
				}
				close(leave)
				_, err := d.Wait(t.Context(), r, "1")
				require.ErrorIs(t, err, ErrRolledBack)
				require.Zero(t, calls)
			})
		})
	}
}

// What comes between the last look at a saga and its turn is seen, also when a slot
// is free.
func TestNothingIsBegunOnceItIsOver(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled %v", cancelled), func(t *testing.T) {
			for range 20 { // what is ready at once is chosen by chance
				synctest.Test(t, func(t *testing.T) {
					store := &loadStore{MemoryStore: NewMemoryStore()}
					var r *Runner
					var stop context.CancelFunc
					calls := 0
					d := Define("d", 1, Before(ReadOnly("a", func(context.Context, Call, order) (string, error) {
						calls++
						store.loaded = func() { // before the next call
							if cancelled {
								require.NoError(t, r.Cancel(t.Context(), "1", "no"))
								return
							}
							session := r.session
							stop()
							<-session.stopping
						}
						return "", Ongoing(time.Second)
					}, (*order).add)), nil)
					r = runner(t, store, nil, d)
					ctx, cancel := context.WithCancel(t.Context())
					stop = cancel
					require.NoError(t, d.Start(ctx, r, "1", order{}))
					ended := make(chan error, 1)
					go func() { ended <- r.Run(ctx) }()
					time.Sleep(10 * time.Second)
					stop()
					require.NoError(t, <-ended)
					require.Equal(t, 1, calls)
				})
			}
		})
	}
}

// loadStore calls loaded once, after the next Load.
type loadStore struct {
	*MemoryStore

	loaded func()
}

func (l *loadStore) Load(ctx context.Context, id string) (Record, error) {
	rec, err := l.MemoryStore.Load(ctx, id)
	if f := l.loaded; f != nil {
		l.loaded = nil
		f()
	}
	return rec, err
}

// suspended returns what the clock says when the machine has slept for d at t: the
// wall went on, and the monotonic clock stood still. A negative d is a wall clock
// that was set back.
func suspended(t time.Time, d time.Duration) time.Time {
	t = t.Add(d)
	*(*int64)(unsafe.Add(unsafe.Pointer(&t), unsafe.Sizeof(uint64(0)))) -= int64(d) // no other way leads to it
	return t
}

// Others have the sagas of a runner whose machine was suspended, and none of its
// clocks alone says so.
func TestALeaseEndsByBothClocks(t *testing.T) {
	beat := time.Now()
	require.Zero(t, suspended(beat, time.Hour).Sub(beat), "the monotonic clock stood still")
	require.Equal(t, time.Hour, suspended(beat, time.Hour).Round(0).Sub(beat.Round(0)), "the wall went on")
	s := &session{beat: beat}
	for name, at := range map[string]struct {
		now  time.Time
		held bool
	}{
		"at once":                     {beat, true},
		"shortly before":              {beat.Add(10*time.Second - 1), true},
		"at its end":                  {beat.Add(10 * time.Second), false},
		"slept for less":              {suspended(beat, 5*time.Second), true},
		"slept for an hour":           {suspended(beat, time.Hour), false},
		"worked and slept":            {suspended(beat.Add(6*time.Second), 6*time.Second), false},
		"the wall was set back":       {suspended(beat.Add(5*time.Second), -time.Hour), true},
		"the wall was set back, late": {suspended(beat.Add(11*time.Second), -time.Hour), false},
	} {
		require.Equal(t, at.held, s.holds(at.now, 10*time.Second), name)
	}
	require.False(t, (&session{}).holds(beat, 10*time.Second), "there was none yet")
}
