package retrain

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/idempotency"
)

// bench is a limited trigger in a bubble, and what it started.
type bench struct {
	t       *testing.T
	started []string
	fail    error
	trigger Trigger
}

func newBench(t *testing.T, l Limits) *bench {
	b := &bench{t: t}
	g := idempotency.New(idempotency.NewMemoryStore(1000), nil)
	b.trigger = Limited(g, l, func(_ context.Context, r Request) (Run, error) {
		if b.fail != nil {
			return Run{}, b.fail
		}
		b.started = append(b.started, r.Key.ID)
		return Run{ID: "run-" + r.Key.ID}, nil
	})
	return b
}

func (b *bench) ask(id, model string) (Run, error) {
	return b.trigger(b.t.Context(), Request{Key: idempotency.Key{Scope: "drift", ID: id}, Model: model})
}

func (b *bench) refused(id, model string) time.Duration {
	b.t.Helper()
	run, err := b.ask(id, model)
	require.ErrorIs(b.t, err, ErrLimited)
	require.Zero(b.t, run)
	e, ok := errors.AsType[*Error](err)
	require.True(b.t, ok)
	_, after := concurrency.Advice(err)
	require.InDelta(b.t, time.Until(e.Until).Seconds(), after.Seconds(), 1)
	return after
}

func (b *bench) runs(id, model, want string) {
	b.t.Helper()
	run, err := b.ask(id, model)
	require.NoError(b.t, err)
	require.Equal(b.t, want, run.ID)
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01, midnight
		b := newBench(t, Limits{})
		b.runs("1", "m", "run-1")
		b.runs("1", "m", "run-1")
		time.Sleep(4 * time.Minute)
		b.runs("2", "m", "run-1") // debounced: the same cause
		b.runs("3", "other", "run-3")
		time.Sleep(2 * time.Minute)
		b.runs("2", "m", "run-1") // its key is remembered
		require.InDelta(t, 54, b.refused("4", "m").Minutes(), 0.1)
		time.Sleep(54*time.Minute + time.Second)
		b.runs("4", "m", "run-4") // a refusal is not remembered
		for _, id := range []string{"5", "6"} {
			time.Sleep(time.Hour + time.Second)
			b.runs(id, "m", "run-"+id)
		}
		time.Sleep(time.Hour + time.Second)
		require.InDelta(t, 20, b.refused("7", "m").Hours(), 0.1)
		time.Sleep(20 * time.Hour)
		b.runs("7", "m", "run-7")
		require.Equal(t, []string{"1", "3", "4", "5", "6", "7"}, b.started)
	})
}

func TestFailureUsesNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{PerDay: 1})
		b.fail = errors.New("no workers")
		for range 5 {
			_, err := b.ask("1", "m")
			require.ErrorIs(t, err, b.fail)
		}
		b.fail = nil
		b.runs("1", "m", "run-1")
		time.Sleep(2 * time.Hour)
		b.refused("2", "m")
	})
}

func TestNoLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Debounce: -1, Cooldown: -1, PerDay: -1})
		for i := range 20 {
			id := fmt.Sprint(i)
			b.runs(id, "m", "run-"+id)
			b.runs(id, "m", "run-"+id)
		}
		require.Len(t, b.started, 20)
	})
}

func TestManyAtOnceStartOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		results := make(chan error, 20)
		for i := range 20 {
			go func() {
				_, err := b.ask(fmt.Sprint(i), "m")
				results <- err
			}()
		}
		for range 20 {
			if err := <-results; err != nil {
				require.ErrorIs(t, err, ErrLimited)
			}
		}
		require.Len(t, b.started, 1)
	})
}

func TestBadRequests(t *testing.T) {
	b := newBench(t, Limits{})
	_, err := b.trigger(t.Context(), Request{Model: "m"})
	require.ErrorIs(t, err, idempotency.ErrKey)
	_, err = b.ask("1", "")
	require.ErrorContains(t, err, "names no model")
	require.Empty(t, b.started)
}
