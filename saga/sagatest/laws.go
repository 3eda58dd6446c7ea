package sagatest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// Laws checks each compensation of the saga of fresh() by the worlds that
// Case.Snapshot shows, in virtual time; Case.Check is not called. For each
// undoable step before the pivot, a subtest each:
//
//   - undo restores: action and compensation leave the world as it was, whether
//     the compensation knows the action's result or not;
//   - undo without action: a compensation of an action that never ran changes nothing;
//   - undo twice: a second compensation changes nothing more;
//   - late action: an action that arrives after its compensation does nothing.
//     A step keeps it if the far side remembers that Call.Key was undone.
//     It is skipped, visibly, unless Case.LateActions is set.
//
// The steps before the one under test run as they are.
func Laws[S any](t *testing.T, fresh func() Case[S]) {
	t.Helper()
	kinds, err := stepKinds(fresh)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range kinds {
		if st.Kind != "undoable" {
			continue
		}
		for _, law := range laws {
			t.Run(st.Name+"/"+law.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := fresh()
					if c.Snapshot == nil {
						t.Fatal("Laws needs Case.Snapshot")
					}
					if law.late && !c.LateActions {
						t.Skip("Case.LateActions is not set")
					}
					if err := law.check(t.Context(), c.Snapshot, st.Name, func(f interceptor) error { return drive(t.Context(), c, f) }); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

type interceptor = func(context.Context, saga.Call, func(context.Context) error) error

type law struct {
	name  string
	late  bool
	check func(ctx context.Context, snapshot func() any, step string, drive func(interceptor) error) error
}

var errGaveUp = errors.New("sagatest: the answer is lost")

// undoing returns a law that makes the step's outcome unknown, with or without
// calling it, and calls then when the compensation is due.
func undoing(act bool, then func(ctx context.Context, action, undo func(context.Context) error, same func(string) error) error) func(context.Context, func() any, string, func(interceptor) error) error {
	return func(_ context.Context, snapshot func() any, step string, drive func(interceptor) error) error {
		var before any
		var action func(context.Context) error
		var broken error
		tested := false
		same := func(when string) error {
			if now := snapshot(); !reflect.DeepEqual(before, now) {
				return fmt.Errorf("%s, the world differs:\nbefore %+v\n   now %+v", when, before, now)
			}
			return nil
		}
		err := drive(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
			switch {
			case c.Step != step || tested:
				return next(ctx)
			case c.Op == saga.Action:
				if action == nil {
					before, action = snapshot(), next
				}
				if act {
					if err := next(ctx); err != nil {
						return err
					}
				}
				return errGaveUp
			default:
				tested = true
				broken = then(ctx, action, next, same)
				return broken
			}
		})
		if broken == nil && err == nil && !tested {
			broken = fmt.Errorf("the saga never came to the compensation of %q; its earlier steps must succeed", step)
		}
		return errors.Join(broken, err)
	}
}

var laws = []law{
	{name: "undo restores", check: undoing(true, func(ctx context.Context, _, undo func(context.Context) error, same func(string) error) error {
		return errors.Join(undo(ctx), same("after action and compensation"))
	})},
	{name: "undo restores what is known", check: known},
	{name: "undo without action", check: undoing(false, func(ctx context.Context, _, undo func(context.Context) error, same func(string) error) error {
		return errors.Join(undo(ctx), same("after a compensation without its action"))
	})},
	{name: "undo twice", check: undoing(true, func(ctx context.Context, _, undo func(context.Context) error, same func(string) error) error {
		return errors.Join(undo(ctx), undo(ctx), same("after two compensations"))
	})},
	{name: "late action", late: true, check: undoing(true, func(ctx context.Context, action, undo func(context.Context) error, same func(string) error) error {
		err := undo(ctx)
		late := action(ctx) // may say that it came too late
		return errors.Join(err, same(fmt.Sprintf("after an action that came after its compensation (and returned %v)", late)))
	})},
}

// known lets the step succeed and refuses the next one.
func known(_ context.Context, snapshot func() any, step string, drive func(interceptor) error) error {
	var before any
	var broken error
	done, tested := false, false
	err := drive(func(ctx context.Context, c saga.Call, next func(context.Context) error) error {
		switch {
		case c.Op == saga.Action && c.Step == step:
			if !done {
				before, done = snapshot(), true
			}
			return next(ctx)
		case c.Op == saga.Action && done:
			return saga.Reject(errGaveUp)
		case c.Op == saga.Compensation && c.Step == step:
			tested = true
			broken = next(ctx)
			if now := snapshot(); broken == nil && !reflect.DeepEqual(before, now) {
				broken = fmt.Errorf("after action and compensation, the world differs:\nbefore %+v\n   now %+v", before, now)
			}
			return broken
		default:
			return next(ctx)
		}
	})
	if !tested && err == nil {
		return nil // the last step of a saga without a pivot is never undone once it is known
	}
	return errors.Join(broken, err)
}

// drive runs the saga to its end.
func drive[S any](ctx context.Context, c Case[S], f interceptor) error {
	ctx, stop := context.WithTimeoutCause(ctx, week, fmt.Errorf("the saga has not ended within %v", week))
	defer stop()
	runner, err := saga.NewRunner(saga.NewMemoryStore(), &saga.Options{Intercept: f, Drain: time.Nanosecond}, c.Definition)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(running) }()
	err = c.Definition.Start(ctx, runner, sagaID, c.Input)
	if err == nil {
		_, err = c.Definition.Wait(ctx, runner, sagaID)
	}
	end()
	if errors.Is(err, saga.ErrRolledBack) || errors.Is(err, saga.ErrParked) {
		err = nil // the laws look at the world
	}
	return errors.Join(err, <-ended)
}

type stepKind struct{ Name, Kind string }

// stepKinds reads the steps of the definition.
func stepKinds[S any](fresh func() Case[S]) ([]stepKind, error) {
	d := fresh().Definition
	if err := d.Err(); err != nil {
		return nil, err
	}
	return readShape(d.Shape())
}
