package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Shape describes a definition's steps: their names, kinds and order. It is
// JSON, {"name":…,"version":…,"steps":[{"name":…,"kind":…}…]}, with the kinds
// undoable, read-only, pivot and retriable. A saga is resumed only by a
// definition of its own shape, so a change of steps needs a new version.
type Shape string

// AnyDefinition is a [Definition] of any state. Only this package implements it.
type AnyDefinition interface {
	// Name is the name given to Define.
	Name() string
	// Version is the version given to Define.
	Version() int
	// Err is what is wrong with the definition, or nil.
	Err() error
	// Shape describes the steps.
	Shape() Shape
	// Mermaid returns a flow chart in Mermaid's language, with the progress of
	// one saga if live is not nil.
	Mermaid(live *Info) string
	// Text returns one line per step, with the progress of one saga if live is
	// not nil.
	Text(live *Info) string

	plan() *plan
	do(ctx context.Context, c Call, step int, state json.RawMessage) (after, result json.RawMessage, err error)
	undo(ctx context.Context, c Call, step int, state, result json.RawMessage) error
}

// Definition is a saga over a state S, which must survive JSON. It is immutable
// and safe for concurrent use; keep it in a package variable.
type Definition[S any] struct {
	outline *plan
	steps   []step[S]
	err     error
}

// Before lists the steps before the pivot, which are undone in reverse order.
func Before[S any](steps ...Reversible[S]) []Reversible[S] { return steps }

// Define returns the definition of a saga. Names of definitions and steps are 1
// to 100 letters, digits, and the signs -._ ; step names differ from each other.
// Raise version, which is at least 1, whenever steps change while sagas may be in
// flight. With a nil pivot every step can be undone until the last is done, and
// there are no steps after it. What is wrong is in Err, and NewRunner refuses it.
func Define[S any](name string, version int, before []Reversible[S], pivot *Irreversible[S], after ...Forward[S]) *Definition[S] {
	d := &Definition[S]{outline: &plan{name: name, version: version, pivot: -1}}
	var errs []error
	if !validName(name) {
		errs = append(errs, fmt.Errorf("name %q is not 1 to 100 letters, digits and -._", name))
	}
	if version < 1 {
		errs = append(errs, fmt.Errorf("version %d is below 1", version))
	}
	for _, s := range before {
		d.steps = append(d.steps, s.step)
	}
	if pivot != nil {
		d.outline.pivot = len(d.steps)
		d.steps = append(d.steps, pivot.step)
	} else if len(after) > 0 {
		errs = append(errs, errors.New("there are steps after the pivot, and no pivot"))
	}
	for _, s := range after {
		d.steps = append(d.steps, s.step)
	}
	if len(d.steps) == 0 {
		errs = append(errs, errors.New("there are no steps"))
	}
	seen := map[string]bool{}
	for _, s := range d.steps {
		if !validName(s.name) {
			errs = append(errs, fmt.Errorf("step name %q is not 1 to 100 letters, digits and -._", s.name))
		}
		if seen[s.name] {
			errs = append(errs, fmt.Errorf("two steps are named %q", s.name))
		}
		if s.do == nil && s.err == nil {
			errs = append(errs, fmt.Errorf("step %q is a zero value; use Undoable, ReadOnly, Pivot or Retriable", s.name))
		}
		seen[s.name] = true
		errs = append(errs, s.err)
		d.outline.steps = append(d.outline.steps, stepPlan{s.name, s.kind, s.undo != nil, s.opts})
	}
	if err := errors.Join(errs...); err != nil {
		d.err = &Error{Definition: name, Err: fmt.Errorf("%w: %w", ErrDefinition, err)}
	}
	d.outline.shape = d.outline.describe()
	return d
}

// Deadline returns the definition with a limit on the whole saga, counted from
// its start. Before the pivot the saga is undone when it passes; after it nothing
// can be, and the overrun is logged and counted. Zero is none.
func (d *Definition[S]) Deadline(after time.Duration) *Definition[S] {
	c, outline := *d, *d.outline
	outline.deadline = after
	c.outline = &outline
	if after < 0 {
		return c.WithErr(fmt.Errorf("negative deadline %v", after))
	}
	return &c
}

// WithErr returns the definition with err as one more thing that is wrong with
// it, for packages that build definitions from plans of their own. A nil err
// changes nothing.
func (d *Definition[S]) WithErr(err error) *Definition[S] {
	c := *d
	if err != nil {
		c.err = errors.Join(c.err, &Error{Definition: d.outline.name, Err: fmt.Errorf("%w: %w", ErrDefinition, err)})
	}
	return &c
}

// Name is the name given to Define.
func (d *Definition[S]) Name() string { return d.outline.name }

// Version is the version given to Define.
func (d *Definition[S]) Version() int { return d.outline.version }

// Err is what is wrong with the definition, or nil; it matches [ErrDefinition].
func (d *Definition[S]) Err() error { return d.err }

// Shape describes the steps.
func (d *Definition[S]) Shape() Shape { return d.outline.shape }

func (d *Definition[S]) plan() *plan { return d.outline }

func (d *Definition[S]) do(ctx context.Context, c Call, i int, state json.RawMessage) (after, result json.RawMessage, err error) {
	s, err := decodeState[S](state)
	if err != nil {
		return nil, nil, err
	}
	fold, result, err := d.steps[i].do(ctx, c, s)
	if err != nil {
		return nil, nil, err
	}
	// The action got a copy of the state, and may have written into its maps and slices.
	if s, err = decodeState[S](state); err != nil {
		return nil, nil, err
	}
	fold(&s)
	if after, err = json.Marshal(s); err != nil {
		return nil, nil, concurrency.Permanent(fmt.Errorf("encode the state: %w", err))
	}
	return after, result, nil
}

func (d *Definition[S]) undo(ctx context.Context, c Call, i int, state, result json.RawMessage) error {
	s, err := decodeState[S](state)
	if err != nil {
		return err
	}
	return d.steps[i].undo(ctx, c, s, result)
}

func decodeState[S any](state json.RawMessage) (S, error) {
	var s S
	if err := json.Unmarshal(state, &s); err != nil {
		return s, concurrency.Permanent(fmt.Errorf("decode the state: %w", err))
	}
	return s, nil
}

func validName(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	const others = "-._"
	return strings.IndexFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune(others, c)
	}) < 0
}
