package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// StepOptions are a step's limits. Zero fields are defaults.
type StepOptions struct {
	// Timeout bounds one call of the action or the compensation; 10 s. The
	// context it gets ends then, and a call that ignores its context keeps its
	// saga waiting until it returns.
	Timeout time.Duration
	// Attempts is how often the action is called before its outcome is given up
	// as unknown; 5, and 25 for steps after the pivot. A compensation, counted
	// apart, is called up to 25 times, or Attempts if that is more. With the
	// default pauses 5 attempts take about half a second and 25 about four minutes.
	Attempts int
	// Backoff is the pause between attempts, with full jitter; 50 ms to 5 s, and
	// for compensations and steps after the pivot 50 ms to 30 s.
	Backoff concurrency.Backoff
}

const (
	defaultTimeout  = 10 * time.Second
	defaultAttempts = 5
	patientAttempts = 25
	patientPause    = 30 * time.Second
)

// attempts is how often one function of a step is called.
func (o StepOptions) attempts(k kind, op Op) int {
	switch {
	case op == Compensation:
		return max(o.Attempts, patientAttempts)
	case o.Attempts > 0:
		return o.Attempts
	case k == retriable:
		return patientAttempts
	}
	return defaultAttempts
}

func (o StepOptions) backoff(k kind, op Op) concurrency.Backoff {
	if o.Backoff.Max == 0 && (op == Compensation || k == retriable) {
		o.Backoff.Max = max(patientPause, o.Backoff.Min)
	}
	return o.Backoff
}

type kind string

const (
	undoable  kind = "undoable"
	readOnly  kind = "read-only"
	pivotal   kind = "pivot"
	retriable kind = "retriable"
)

// step is a step of state S, without the type of its result.
type step[S any] struct {
	name string
	kind kind
	opts StepOptions
	do   func(context.Context, Call, S) (fold func(*S), result json.RawMessage, err error)
	undo func(ctx context.Context, c Call, state S, result json.RawMessage) error
	err  error
}

// Reversible is a step that may stand before the pivot; see [Undoable] and [ReadOnly].
type Reversible[S any] struct{ step step[S] }

// Irreversible is the step that cannot be taken back; see [Pivot].
type Irreversible[S any] struct{ step step[S] }

// Forward is a step that stands after the pivot; see [Retriable].
type Forward[S any] struct{ step step[S] }

// Undoable returns a step with a compensation. The compensation counts as
// registered before the action begins: if the process dies in the middle of do,
// undo is called.
//
// Do gets a copy of the state, returns its result, and says by its error what
// happened (see the package comment). Undo gets the state as it is then and what
// do returned, if that is known. Fold puts the result into the state, and may be
// nil. The state and the result are kept as JSON. All three are called from one
// goroutine at a time per saga, and from many for different sagas.
func Undoable[S, O any](
	name string,
	do func(context.Context, Call, S) (O, error),
	undo func(context.Context, Call, S, Outcome[O]) error,
	fold func(*S, O),
) Reversible[S] {
	s := newStep(name, undoable, do, fold, true)
	if undo == nil {
		s.err = errors.Join(s.err, fmt.Errorf("step %q is Undoable and has no compensation; ReadOnly needs none", name))
		return Reversible[S]{s}
	}
	s.undo = func(ctx context.Context, c Call, state S, result json.RawMessage) error {
		o := Outcome[O]{Known: result != nil}
		if o.Known {
			if err := json.Unmarshal(result, &o.Value); err != nil {
				return concurrency.Permanent(fmt.Errorf("decode the action's result: %w", err))
			}
		}
		return undo(ctx, c, state, o)
	}
	return Reversible[S]{s}
}

// ReadOnly returns a step that changes nothing outside the saga, so that nothing
// has to undo it. Do and fold are as in [Undoable].
func ReadOnly[S, O any](name string, do func(context.Context, Call, S) (O, error), fold func(*S, O)) Reversible[S] {
	return Reversible[S]{newStep(name, readOnly, do, fold, false)}
}

// Pivot returns the step after which there is no way back. A [Reject] from it
// undoes the saga; success makes everything after it go forward only; an unknown
// outcome is asked for again by the same Call.Key, and then parked. Do and fold
// are as in [Undoable].
func Pivot[S, O any](name string, do func(context.Context, Call, S) (O, error), fold func(*S, O)) *Irreversible[S] {
	return &Irreversible[S]{newStep(name, pivotal, do, fold, false)}
}

// Retriable returns a step that succeeds if it is repeated long enough, for
// after the pivot. If it does not within its attempts, the saga is parked. Do
// and fold are as in [Undoable].
func Retriable[S, O any](name string, do func(context.Context, Call, S) (O, error), fold func(*S, O)) Forward[S] {
	return Forward[S]{newStep(name, retriable, do, fold, false)}
}

// Forward returns the step for use after the pivot, where its compensation never runs.
func (s Reversible[S]) Forward() Forward[S] {
	s.step.kind, s.step.undo = retriable, nil
	return Forward[S](s)
}

// With returns the step with these limits.
func (s Reversible[S]) With(o StepOptions) Reversible[S] {
	s.step.setOptions(o)
	return s
}

// With returns the step with these limits.
func (s *Irreversible[S]) With(o StepOptions) *Irreversible[S] {
	c := *s
	c.step.setOptions(o)
	return &c
}

// With returns the step with these limits.
func (s Forward[S]) With(o StepOptions) Forward[S] {
	s.step.setOptions(o)
	return s
}

func (s *step[S]) setOptions(o StepOptions) {
	s.opts = o
	if o.Timeout < 0 || o.Attempts < 0 || o.Backoff.Min < 0 || o.Backoff.Max < 0 {
		s.err = errors.Join(s.err, fmt.Errorf("step %q has a negative limit in its StepOptions", s.name))
	}
}

func newStep[S, O any](name string, k kind, do func(context.Context, Call, S) (O, error), fold func(*S, O), keep bool) step[S] {
	s := step[S]{name: name, kind: k}
	if do == nil {
		s.err = fmt.Errorf("step %q has no action", name)
		return s
	}
	s.do = func(ctx context.Context, c Call, state S) (func(*S), json.RawMessage, error) {
		value, err := do(ctx, c, state)
		if err != nil {
			return nil, nil, err
		}
		var result json.RawMessage
		if keep {
			if result, err = json.Marshal(value); err != nil {
				return nil, nil, concurrency.Permanent(fmt.Errorf("encode the action's result: %w", err))
			}
		}
		return func(state *S) {
			if fold != nil {
				fold(state, value)
			}
		}, result, nil
	}
	return s
}
