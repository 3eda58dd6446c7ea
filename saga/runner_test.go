package saga

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/concurrency"
)

// start runs r in the test's bubble and stops it at its end.
func start(t *testing.T, r *Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	return stop
}

func runner(t *testing.T, s Store, o *Options, defs ...AnyDefinition) *Runner {
	t.Helper()
	r, err := NewRunner(s, o, defs...)
	require.NoError(t, err)
	return r
}

func notes(t *testing.T, r *Runner, id string) []string {
	t.Helper()
	var out []string
	for e, err := range r.History(t.Context(), id) {
		require.NoError(t, err)
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", e.Step, e.Note)))
	}
	return out
}

// Every saga of up to six steps does what a few lines of model say.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kinds := rapid.SliceOfN(rapid.SampledFrom([]kind{undoable, readOnly}), 0, 4).Draw(rt, "before")
		if rapid.Bool().Draw(rt, "pivot") || len(kinds) == 0 {
			kinds = append(kinds, pivotal)
			for range rapid.IntRange(0, 2).Draw(rt, "after") {
				kinds = append(kinds, retriable)
			}
		}
		answers := make([]string, len(kinds))
		undos := make([]string, len(kinds))
		for i := range kinds {
			answers[i] = rapid.SampledFrom([]string{"done", "done", "done", "reject", "unknown", "late", "ongoing", "permanent", "panic"}).Draw(rt, "answer")
			undos[i] = rapid.SampledFrom([]string{"done", "done", "late", "reject"}).Draw(rt, "undo")
		}

		problem := ""
		failf := func(format string, args ...any) { problem = fmt.Sprintf(format, args...) }
		var calls []string
		tries := map[string]int{}
		answer := func(c Call, what string) error {
			calls = append(calls, c.Step+" "+c.Op.String())
			key := c.Key.String()
			tries[key]++
			if c.Attempt != tries[key] && what != "ongoing" {
				failf("attempt %d at call %d", c.Attempt, tries[key])
			}
			switch {
			case what == "reject":
				return Reject(errors.New("no"))
			case what == "unknown", what == "late" && tries[key] < 3:
				return errors.New("timeout")
			case what == "ongoing" && tries[key] < 3:
				return Ongoing(time.Hour)
			case what == "permanent":
				return concurrency.Permanent(errors.New("never"))
			case what == "panic":
				panic("oops")
			}
			return nil
		}
		var before []Reversible[order]
		var pivot *Irreversible[order]
		var after []Forward[order]
		opts := StepOptions{Attempts: 3}
		for i, k := range kinds {
			name := fmt.Sprint("s", i)
			do := func(_ context.Context, c Call, _ order) (string, error) {
				return name, answer(c, answers[i])
			}
			undo := func(_ context.Context, c Call, _ order, out Outcome[string]) error {
				if out.Known != (answers[i] == "done" || answers[i] == "late" || answers[i] == "ongoing") || out.Known != (out.Value == name) {
					failf("%s answered %s, and its compensation got %+v", name, answers[i], out)
				}
				return answer(c, undos[i])
			}
			switch k {
			case undoable:
				before = append(before, Undoable(name, do, undo, (*order).add).With(opts))
			case readOnly:
				before = append(before, ReadOnly(name, do, (*order).add).With(opts))
			case pivotal:
				pivot = Pivot(name, do, (*order).add).With(opts)
			default:
				after = append(after, Retriable(name, do, (*order).add).With(opts))
			}
		}
		d := Define("model", 1, before, pivot, after...)

		// The model.
		var want []string
		var done []string
		status := Completed
		back := func(i int) {
			status = RolledBack
			for ; i >= 0; i-- {
				if kinds[i] != undoable {
					continue
				}
				call := fmt.Sprintf("s%d compensation", i)
				want = append(want, call)
				switch undos[i] {
				case "late":
					want = append(want, call, call)
				case "reject":
					status = Parked
					return
				}
			}
		}
	steps:
		for i, k := range kinds {
			call := fmt.Sprintf("s%d action", i)
			want = append(want, call)
			switch answers[i] {
			case "unknown", "late", "ongoing", "panic":
				want = append(want, call, call)
			}
			switch a := answers[i]; {
			case a == "done", a == "late", a == "ongoing":
				done = append(done, fmt.Sprint("s", i))
			case k == retriable, k == pivotal && a != "reject":
				status = Parked
				break steps
			case a == "reject":
				back(i - 1)
				break steps
			default:
				back(i)
				break steps
			}
		}

		const id = "1"
		synctest.Test(t, func(*testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, err := NewRunner(NewMemoryStore(), nil, d)
			if err != nil {
				failf("%v", err)
			}
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			if err := d.Start(ctx, r, id, order{}); err != nil {
				failf("%v", err)
			}
			state, _ := d.Wait(ctx, r, id)
			info, err := r.Get(ctx, id)
			if err != nil || info.Status != status {
				failf("ended %v, %v; want %v; %+v", info.Status, err, status, info)
			}
			if !slices.Equal(calls, want) {
				failf("calls %v\nwant  %v", calls, want)
			}
			if !slices.Equal(state.Steps, done) {
				failf("state %v, want %v", state.Steps, done)
			}
			cancel()
			if err := <-ended; err != nil {
				failf("%v", err)
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func TestStartOncePerID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		d := Define("d", 1, Before(ReadOnly("a", func(context.Context, Call, order) (string, error) {
			n++
			return "a", nil
		}, (*order).add)), nil)
		other := Define("other", 1, Before(ReadOnly("a", act(""), (*order).add)), nil)
		r := runner(t, NewMemoryStore(), nil, d, other)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}), "before Run")
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		state, err := d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, order{Steps: []string{"a"}}, state)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}), "after its end")
		require.Equal(t, 1, n)
		require.ErrorIs(t, other.Start(t.Context(), r, "1", order{}), ErrExists)
		_, err = other.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrExists)
		_, err = d.Wait(t.Context(), r, "2")
		require.ErrorIs(t, err, ErrNotFound)
		require.Error(t, d.Start(t.Context(), r, "", order{}))
		require.Error(t, d.Start(t.Context(), r, strings.Repeat("x", 257), order{}))
		require.ErrorContains(t, d.Start(t.Context(), r, "caf\xe9", order{}), "UTF-8", "stores keep text")
		require.ErrorIs(t, checkout().Start(t.Context(), r, "3", order{}), ErrDefinition)
	})
}

func TestTimeoutIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var knew []bool
		var lasted []time.Duration
		d := Define("d", 1, Before(Undoable("slow", func(ctx context.Context, _ Call, _ order) (string, error) {
			began := time.Now()
			<-ctx.Done()
			lasted = append(lasted, time.Since(began))
			return "", ctx.Err()
		}, func(_ context.Context, _ Call, _ order, o Outcome[string]) error {
			knew = append(knew, o.Known)
			return nil
		}, (*order).add).With(StepOptions{Timeout: 3 * time.Second, Attempts: 2})), nil)
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrRolledBack)
		require.ErrorContains(t, err, "unknown outcome after 2 attempts")
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Equal(t, "slow", e.Step)
		require.Equal(t, []bool{false}, knew)
		require.Equal(t, []time.Duration{3 * time.Second, 3 * time.Second}, lasted)
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		d := Define("d", 1, nil, Pivot("p", func(context.Context, Call, order) (string, error) {
			at = append(at, time.Now())
			if len(at) == 3 {
				return "", concurrency.RetryAfter(errors.New("later"), 7*time.Second)
			}
			return "", errors.New("again")
		}, (*order).add).With(StepOptions{Attempts: 4, Backoff: concurrency.Backoff{Min: time.Second, Max: time.Second}}))
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrParked)
		require.Len(t, at, 4)
		require.LessOrEqual(t, at[1].Sub(at[0]), time.Second)
		require.GreaterOrEqual(t, at[3].Sub(at[2]), 7*time.Second)
	})
}

func TestDeadlineBeforeThePivotUndoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var undone []string
		var undoLeft time.Duration
		undo := func(ctx context.Context, c Call, _ order, _ Outcome[string]) error {
			undone = append(undone, c.Step)
			end, ok := ctx.Deadline()
			require.True(t, ok)
			undoLeft = time.Until(end)
			return ctx.Err()
		}
		d := Define("d", 1, Before(
			Undoable("a", act("a"), undo, (*order).add),
			Undoable("b", func(_ context.Context, _ Call, _ order) (string, error) { return "", Ongoing(time.Minute) }, undo, (*order).add),
		), Pivot("p", act("p"), (*order).add)).Deadline(10 * time.Minute)
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		began := time.Now()
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrRolledBack)
		require.ErrorContains(t, err, "deadline of 10m0s")
		require.Equal(t, []string{"b", "a"}, undone)
		require.Equal(t, defaultTimeout, undoLeft, "a compensation has its own time")
		require.InDelta(t, 10, time.Since(began).Minutes(), 0.1)
	})
}

// Without a pivot, the last step ends the saga even if it was late; but a
// cancellation that was accepted is kept.
func TestLastStepWithoutPivot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		undone := 0
		d := Define("d", 1, Before(Undoable("a", func(context.Context, Call, order) (string, error) {
			time.Sleep(2 * time.Minute)
			return "a", nil
		}, func(_ context.Context, _ Call, _ order, o Outcome[string]) error {
			require.True(t, o.Known)
			undone++
			return nil
		}, (*order).add)), nil).Deadline(time.Minute)
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "late", order{}))
		_, err := d.Wait(t.Context(), r, "late")
		require.NoError(t, err)
		require.Zero(t, undone)

		require.NoError(t, d.Start(t.Context(), r, "cancelled", order{}))
		time.Sleep(time.Second)
		require.NoError(t, r.Cancel(t.Context(), "cancelled", "no"))
		_, err = d.Wait(t.Context(), r, "cancelled")
		require.ErrorIs(t, err, ErrRolledBack)
		require.Equal(t, 1, undone)
	})
}

func TestDeadlineAfterThePivotOnlyWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		d := Define("d", 1, nil, Pivot("p", act("p"), (*order).add),
			Retriable("r", func(context.Context, Call, order) (string, error) {
				if time.Since(began) < time.Hour {
					return "", Ongoing(time.Minute)
				}
				return "r", nil
			}, (*order).add)).Deadline(time.Minute)
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		state, err := d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, []string{"p", "r"}, state.Steps)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := make(chan string, 1)
		var cause error
		block := func(ctx context.Context, c Call, _ order) (string, error) {
			in <- c.Step
			<-ctx.Done()
			cause = context.Cause(ctx)
			return "", ctx.Err()
		}
		var undone []string
		undo := func(ctx context.Context, c Call, _ order, o Outcome[string]) error {
			undone = append(undone, fmt.Sprint(c.Step, o.Known))
			return ctx.Err()
		}
		d := Define("d", 1, Before(Undoable("a", act("a"), undo, (*order).add),
			Undoable("b", block, undo, (*order).add).With(StepOptions{Timeout: time.Hour})), Pivot("p", act("p"), (*order).add))
		stuck := Define("stuck", 1, nil, Pivot("p", block, (*order).add).With(StepOptions{Timeout: time.Minute, Attempts: 1}))
		r := runner(t, NewMemoryStore(), nil, d, stuck)
		start(t, r)
		began := time.Now()
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		require.Equal(t, "b", <-in)
		require.NoError(t, r.Cancel(t.Context(), "1", "changed my mind"))
		require.NoError(t, r.Cancel(t.Context(), "1", "again"))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrRolledBack)
		require.ErrorContains(t, err, "cancelled: changed my mind")
		require.ErrorContains(t, cause, "cancelled")
		require.Equal(t, []string{"bfalse", "atrue"}, undone)
		require.Less(t, time.Since(began), time.Minute)
		require.NoError(t, r.Cancel(t.Context(), "1", "too late"))

		require.NoError(t, stuck.Start(t.Context(), r, "2", order{}))
		require.Equal(t, "p", <-in)
		require.ErrorIs(t, r.Cancel(t.Context(), "2", ""), ErrPastPivot)
		_, err = stuck.Wait(t.Context(), r, "2")
		require.ErrorIs(t, err, ErrParked)
		require.ErrorIs(t, cause, context.DeadlineExceeded, "the pivot was not disturbed")
		require.ErrorIs(t, r.Cancel(t.Context(), "3", ""), ErrNotFound)
	})
}

// Another process's cancellation is seen at the next poll.
func TestCancelFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Define("d", 1, Before(Undoable("a", func(context.Context, Call, order) (string, error) {
			return "", Ongoing(2 * time.Second)
		}, noUndo, (*order).add)), nil)
		store := NewMemoryStore()
		start(t, runner(t, store, nil, d))
		operator := runner(t, store, nil, d)
		require.NoError(t, d.Start(t.Context(), operator, "1", order{}))
		time.Sleep(10 * time.Second)
		require.NoError(t, operator.Cancel(t.Context(), "1", "stop"))
		began := time.Now()
		_, err := d.Wait(t.Context(), operator, "1")
		require.ErrorIs(t, err, ErrRolledBack)
		require.LessOrEqual(t, time.Since(began), 3*time.Second)
	})
}

// A cancellation during a poll does not wait for the next one, and does not hurry
// the compensation's own polls.
func TestCancelDuringAPoll(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		t.Run(fmt.Sprintf("elsewhere %v", elsewhere), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				polling := make(chan struct{}, 1)
				var undoing []time.Time
				d := Define("d", 1, Before(Undoable("a", func(context.Context, Call, order) (string, error) {
					polling <- struct{}{}
					time.Sleep(2 * time.Second) // also when it is cancelled: it asks a far side
					return "", Ongoing(time.Hour)
				}, func(context.Context, Call, order, Outcome[string]) error {
					if undoing = append(undoing, time.Now()); len(undoing) < 3 {
						return Ongoing(time.Hour)
					}
					return nil
				}, (*order).add)), nil)
				store := NewMemoryStore()
				r := runner(t, store, nil, d)
				operator := r
				if elsewhere {
					operator = runner(t, store, nil, d)
				}
				start(t, r)
				synctest.Wait()
				require.NoError(t, d.Start(t.Context(), r, "1", order{}))
				<-polling
				require.NoError(t, operator.Cancel(t.Context(), "1", "stop"))
				began := time.Now()
				_, err := d.Wait(t.Context(), r, "1")
				require.ErrorIs(t, err, ErrRolledBack)
				require.Len(t, undoing, 3)
				require.LessOrEqual(t, undoing[0].Sub(began), 5*time.Second)
				require.GreaterOrEqual(t, undoing[1].Sub(undoing[0]), time.Hour)
				require.GreaterOrEqual(t, undoing[2].Sub(undoing[1]), time.Hour)
			})
		})
	}
}

func TestParkedIsResumedOrResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		fail := func(_ context.Context, c Call, _ order) (string, error) {
			if broken {
				return "", concurrency.Permanent(errors.New("broken"))
			}
			return c.Step, nil
		}
		undo := func(context.Context, Call, order, Outcome[string]) error {
			if broken {
				return Reject(errors.New("cannot undo"))
			}
			return nil
		}
		d := Define("d", 1, Before(Undoable("a", act("a"), undo, (*order).add)), Pivot("p", fail, (*order).add), Retriable("r", fail, (*order).add))
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		park := func(id string) {
			broken = true
			require.NoError(t, d.Start(t.Context(), r, id, order{}))
			_, err := d.Wait(t.Context(), r, id)
			require.ErrorIs(t, err, ErrParked)
		}
		park("resume")
		require.ErrorIs(t, r.Cancel(t.Context(), "resume", ""), ErrPastPivot)
		broken = false
		require.NoError(t, r.Resume(t.Context(), "resume"))
		state, err := d.Wait(t.Context(), r, "resume")
		require.NoError(t, err)
		require.Equal(t, []string{"a", "p", "r"}, state.Steps)
		require.ErrorIs(t, r.Resume(t.Context(), "resume"), ErrState)

		park("done")
		require.Error(t, r.Resolve(t.Context(), "done", "p", true, ""), "evidence is needed")
		require.ErrorIs(t, r.Resolve(t.Context(), "done", "a", true, "x"), ErrState)
		require.NoError(t, r.Resolve(t.Context(), "done", "p", true, "the bank says so"))
		_, err = d.Wait(t.Context(), r, "done")
		require.ErrorIs(t, err, ErrParked, "now at r")
		info, err := r.Get(t.Context(), "done")
		require.NoError(t, err)
		require.Equal(t, "r", info.Step)
		require.True(t, info.PastPivot)
		require.ErrorIs(t, r.Resolve(t.Context(), "done", "r", false, "x"), ErrState)
		require.NoError(t, r.Resolve(t.Context(), "done", "r", true, "sent by hand"))
		state, err = d.Wait(t.Context(), r, "done")
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, state.Steps, "what is resolved by hand folds nothing")
		require.Contains(t, notes(t, r, "done"), "p resolved as done: the bank says so")

		park("back")
		require.NoError(t, r.Resolve(t.Context(), "back", "p", false, "the bank says no"))
		_, err = d.Wait(t.Context(), r, "back")
		require.ErrorIs(t, err, ErrParked, "the compensation fails")
		require.ErrorIs(t, r.Resolve(t.Context(), "back", "a", false, "x"), ErrState)
		require.NoError(t, r.Resolve(t.Context(), "back", "a", true, "released by hand"))
		_, err = d.Wait(t.Context(), r, "back")
		require.ErrorIs(t, err, ErrRolledBack)
		require.ErrorContains(t, err, "the bank says no", "why it turned back, not why it was parked")

		var ids []string
		for info, err := range r.List(t.Context(), Query{Status: []Status{Completed}}) {
			require.NoError(t, err)
			ids = append(ids, info.ID)
		}
		require.Equal(t, []string{"done", "resume"}, ids)
	})
}

// A crashed runner's sagas are taken over when its lease has ended, not before.
func TestLeaseAndFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &cutStore{MemoryStore: NewMemoryStore()}
		in := make(chan Call, 2)
		released := make(chan struct{})
		release := sync.OnceFunc(func() { close(released) })
		d := Define("d", 1, nil, Pivot("p", func(_ context.Context, c Call, _ order) (string, error) {
			in <- c
			if c.Fence == 1 {
				<-released
			}
			return fmt.Sprint("fence ", c.Fence), nil
		}, (*order).add))
		first := runner(t, store, &Options{Lease: 15 * time.Second}, d)
		stopFirst := start(t, first)
		t.Cleanup(release)
		synctest.Wait()
		require.NoError(t, first.Health(t.Context()))
		require.NoError(t, d.Start(t.Context(), first, "1", order{}))
		require.Equal(t, int64(1), (<-in).Fence)
		second := runner(t, store.MemoryStore, nil, d)
		start(t, second)
		time.Sleep(time.Minute)
		require.Empty(t, in, "the first holds its lease")

		store.cut(true)
		cut := time.Now()
		call := <-in
		// The cut runner may have tried to claim it again first, in vain.
		require.Greater(t, call.Fence, int64(1))
		served := fmt.Sprint("fence ", call.Fence)
		require.InDelta(t, 13, time.Since(cut).Seconds(), 4, "lease minus the age of the last heartbeat")
		state, err := d.Wait(t.Context(), second, "1")
		require.NoError(t, err)
		require.Equal(t, []string{served}, state.Steps)
		require.Error(t, first.Health(t.Context()))

		store.cut(false) // the zombie comes back and writes
		release()
		stopFirst()
		info, err := second.Get(t.Context(), "1")
		require.NoError(t, err)
		require.JSONEq(t, fmt.Sprintf(`{"Steps":[%q]}`, served), string(info.State))
		require.ErrorContains(t, first.Health(t.Context()), "not running")
	})
}

// A saga that was claimed anew under the same owner's name is another's all the
// same: the fence says so.
func TestFenceBeatsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemoryStore()
		in, release := make(chan Call), make(chan struct{})
		d := Define("d", 1, nil, Pivot("p", func(_ context.Context, c Call, _ order) (string, error) {
			in <- c
			<-release
			return "p", nil
		}, (*order).add))
		r := runner(t, store, nil, d)
		stop := start(t, r)
		synctest.Wait()
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		<-in
		rec, err := store.Load(t.Context(), "1")
		require.NoError(t, err)
		require.NoError(t, store.Beat(t.Context(), rec.Owner, 0))
		claimed, err := store.Claim(t.Context(), rec.Owner, []Shape{d.Shape()}, 1)
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		close(release)
		stop()
		now, err := store.Load(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, claimed[0], now)
	})
}

// Nothing runs of a saga that could not be created.
func TestNoRecordNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &deafStore{MemoryStore: NewMemoryStore()}
		calls := 0
		d := Define("d", 1, nil, Pivot("p", func(context.Context, Call, order) (string, error) {
			calls++
			return "p", nil
		}, (*order).add))
		r := runner(t, store, nil, d)
		start(t, r)
		synctest.Wait()
		require.ErrorContains(t, d.Start(t.Context(), r, "1", order{}), "deaf")
		time.Sleep(time.Minute)
		require.Zero(t, calls)
		store.lost = true // now the record is stored, and only the answer lost
		require.ErrorContains(t, d.Start(t.Context(), r, "1", order{}), "deaf")
		state, err := d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, []string{"p"}, state.Steps)
		require.Equal(t, 1, calls)
	})
}

// A saga that is started again while it is claimed runs once: that the claim was
// by this very runner does not make the second start its owner.
func TestStartedAgainWhileClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowCreation{MemoryStore: NewMemoryStore(), claim: make(chan struct{}), running: make(chan struct{})}
		calls := make(chan Call, 2)
		release := make(chan struct{})
		d := Define("d", 1, nil, Pivot("p", func(_ context.Context, c Call, _ order) (string, error) {
			if calls <- c; len(calls) == 1 {
				close(store.running)
			}
			<-release
			return "p", nil
		}, (*order).add))
		r := runner(t, store, nil, d)
		require.NoError(t, d.Start(t.Context(), r, "1", order{})) // nobody owns it: Run has not begun
		stop := start(t, r)
		synctest.Wait() // it is about to claim
		store.slow = true
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		synctest.Wait()
		close(release)
		_, err := d.Wait(t.Context(), r, "1")
		stop()
		require.NoError(t, err)
		require.Len(t, calls, 1)
	})
}

// slowCreation claims when told to, and, if slow, creates only when what was
// claimed runs.
type slowCreation struct {
	*MemoryStore

	slow           bool
	claim, running chan struct{}
}

func (s *slowCreation) Claim(ctx context.Context, owner string, shapes []Shape, limit int) ([]Record, error) {
	<-s.claim
	return s.MemoryStore.Claim(ctx, owner, shapes, limit)
}

func (s *slowCreation) Create(ctx context.Context, r Record) error {
	if s.slow {
		close(s.claim)
		<-s.running
	}
	return s.MemoryStore.Create(ctx, r)
}

// deafStore fails to create, or, if lost, to say so.
type deafStore struct {
	*MemoryStore

	lost bool
}

func (d *deafStore) Create(ctx context.Context, r Record) error {
	if d.lost {
		if err := d.MemoryStore.Create(ctx, r); err != nil {
			return err
		}
	}
	return errors.New("deaf")
}

// cutStore loses heartbeats while it is cut.
type cutStore struct {
	*MemoryStore

	mu  sync.Mutex
	off bool
}

func (c *cutStore) cut(off bool) {
	c.mu.Lock()
	c.off = off
	c.mu.Unlock()
}

func (c *cutStore) Beat(ctx context.Context, owner string, ttl time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return errors.New("cut off")
	}
	return c.MemoryStore.Beat(ctx, owner, ttl)
}

// Run hands back what it does not finish, and another takes it at once.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick, slow := make(chan struct{}), make(chan struct{}, 2)
		d := Define("d", 1, Before(
			Undoable("quick", func(context.Context, Call, order) (string, error) {
				<-quick
				return "quick", nil
			}, noUndo, (*order).add),
			Undoable("slow", func(ctx context.Context, c Call, _ order) (string, error) {
				slow <- struct{}{}
				if c.Fence > 1 {
					return "slow", nil
				}
				<-ctx.Done()
				return "", ctx.Err()
			}, noUndo, (*order).add).With(StepOptions{Timeout: time.Hour, Attempts: 1}),
		), nil)
		store := NewMemoryStore()
		r := runner(t, store, &Options{Drain: 5 * time.Second}, d)
		stop := start(t, r)
		synctest.Wait()
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		close(quick)
		<-slow
		began := time.Now()
		stop()
		require.Equal(t, 5*time.Second, time.Since(began))
		rec, err := store.Load(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, Running, rec.Status, "a call that was ended by us counts as nothing")
		require.Equal(t, "slow", rec.Step)
		require.Empty(t, rec.Owner)

		began = time.Now()
		start(t, r) // the same runner again
		state, err := d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, []string{"quick", "slow"}, state.Steps)
		require.Zero(t, time.Since(began))
		require.ErrorContains(t, r.Run(t.Context()), "running already")
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		d := Define("d", 1, Before(ReadOnly("a", func(context.Context, Call, order) (string, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return "a", nil
		}, (*order).add)), nil)
		r := runner(t, NewMemoryStore(), &Options{Concurrency: 3}, d)
		start(t, r)
		const sagas = 100 // more than are held at a time
		for i := range sagas {
			require.NoError(t, d.Start(t.Context(), r, fmt.Sprint(i), order{}))
		}
		for i := range sagas {
			_, err := d.Wait(t.Context(), r, fmt.Sprint(i))
			require.NoError(t, err)
		}
		require.Equal(t, 3, most)
	})
}

// A pause longer than the lease is stored, and survives.
func TestLongWaitIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		d := Define("d", 1, nil, Pivot("p", func(context.Context, Call, order) (string, error) {
			if calls++; calls == 1 {
				return "", Ongoing(time.Hour)
			}
			return "p", nil
		}, (*order).add))
		store := NewMemoryStore()
		r := runner(t, store, nil, d)
		start(t, r)
		require.NoError(t, d.Start(t.Context(), r, "1", order{}))
		began := time.Now()
		time.Sleep(time.Minute)
		rec, err := store.Load(t.Context(), "1")
		require.NoError(t, err)
		require.Empty(t, rec.Owner)
		require.WithinDuration(t, began.Add(time.Hour), rec.Wake, 2*time.Second)
		_, err = d.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.InDelta(t, 60, time.Since(began).Minutes(), 0.1)
	})
}

func TestUnknownShapeIsLeftAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemoryStore()
		old := Define("d", 1, Before(ReadOnly("a", act("a"), (*order).add)), nil)
		require.NoError(t, old.Start(t.Context(), runner(t, store, nil, old), "1", order{}))
		changed := Define("d", 1, Before(ReadOnly("b", act("b"), (*order).add)), nil)
		r := runner(t, store, nil, changed)
		start(t, r)
		time.Sleep(time.Minute)
		_, err := changed.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrDefinition)
		require.ErrorContains(t, err, "version 1 with other steps")
		require.ErrorIs(t, changed.Start(t.Context(), r, "1", order{}), ErrDefinition)
		require.ErrorIs(t, r.Cancel(t.Context(), "1", ""), ErrDefinition)
		start(t, runner(t, store, nil, old))
		_, err = changed.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrDefinition, "still running")
		time.Sleep(time.Minute)
		state, err := changed.Wait(t.Context(), r, "1")
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, state.Steps)
	})
}

// What cannot be written as JSON is never half-recorded.
func TestStateThatDoesNotEncode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type state struct{ F any }
		undone := 0
		d := Define("d", 1, Before(Undoable("a",
			func(context.Context, Call, state) (string, error) { return "a", nil },
			func(context.Context, Call, state, Outcome[string]) error { undone++; return nil },
			func(s *state, _ string) { s.F = func() {} })), nil)
		r := runner(t, NewMemoryStore(), nil, d)
		start(t, r)
		require.Error(t, d.Start(t.Context(), r, "0", state{F: make(chan int)}))
		require.NoError(t, d.Start(t.Context(), r, "1", state{}))
		_, err := d.Wait(t.Context(), r, "1")
		require.ErrorIs(t, err, ErrRolledBack)
		require.ErrorContains(t, err, "encode the state")
		require.Equal(t, 1, undone)
	})
}

// Changes that wait for the store go there together.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{MemoryStore: NewMemoryStore()}
		d := Define("d", 1, Before(ReadOnly("a", act("a"), (*order).add), ReadOnly("b", act("b"), (*order).add)), nil)
		r := runner(t, slow, nil, d)
		start(t, r)
		synctest.Wait()
		for i := range 50 {
			require.NoError(t, d.Start(t.Context(), r, fmt.Sprint(i), order{}))
		}
		for i := range 50 {
			_, err := d.Wait(t.Context(), r, fmt.Sprint(i))
			require.NoError(t, err)
		}
		require.Equal(t, 100, slow.changes, "two per saga, beside its creation")
		require.LessOrEqual(t, slow.commits, 6)
	})
}

type slowStore struct {
	*MemoryStore

	commits, changes int // by one caller at a time
}

func (s *slowStore) Commit(ctx context.Context, changes []Change) ([]error, error) {
	s.commits++
	s.changes += len(changes)
	time.Sleep(10 * time.Millisecond)
	return s.MemoryStore.Commit(ctx, changes)
}

func TestHistoryKeepsItsEnds(t *testing.T) {
	r := Record{}
	for i := range 2500 {
		note(&r, Event{Attempt: i})
	}
	require.Len(t, r.Log, 1000)
	require.Equal(t, 499, r.Log[499].Attempt)
	require.Equal(t, 2000, r.Log[500].Attempt)
	require.Equal(t, 2499, r.Log[999].Attempt)
}

func TestIntercept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		mode := ""
		d := Define("d", 1, nil, Pivot("p", act("p"), (*order).add).With(StepOptions{Attempts: 1}))
		r := runner(t, NewMemoryStore(), &Options{Intercept: func(ctx context.Context, c Call, next func(context.Context) error) error {
			seen = append(seen, c.Saga+" "+c.Step+" "+c.Op.String())
			switch mode {
			case "skip":
				return nil
			case "panic":
				panic("oops")
			}
			return next(ctx)
		}}, d)
		start(t, r)
		for _, mode = range []string{"call", "skip", "panic"} {
			require.NoError(t, d.Start(t.Context(), r, mode, order{}))
			_, err := d.Wait(t.Context(), r, mode)
			switch mode {
			case "call":
				require.NoError(t, err)
			default:
				require.ErrorIs(t, err, ErrParked, "%s is not success", mode)
			}
		}
		require.Equal(t, []string{"call p action", "skip p action", "panic p action"}, seen)
	})
}

// List and History pass the store's errors on.
func TestStoreErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := runner(t, NewMemoryStore(), nil)
	var err error
	first(r.List(ctx, Query{}), &err)
	require.ErrorIs(t, err, context.Canceled)
	first(r.History(ctx, "x"), &err)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Get(t.Context(), "x")
	require.EqualError(t, err, `saga: id "x": not found`)
	require.NoError(t, r.Run(ctx), "a context that has ended is no failure")
}

func first[T any](seq iter.Seq2[T, error], err *error) {
	for _, *err = range seq {
		return
	}
}
