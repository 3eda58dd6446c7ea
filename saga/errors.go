package saga

import (
	"errors"
	"strconv"
	"strings"
)

var (
	// ErrRolledBack means that the saga was undone; the same error's text says why.
	ErrRolledBack = errors.New("rolled back")
	// ErrParked means that the saga waits for a person; see [Runner.Resume] and [Runner.Resolve].
	ErrParked = errors.New("parked")
	// ErrPastPivot means that the pivot may have run, so that nothing can be undone.
	ErrPastPivot = errors.New("the pivot may have run")
	// ErrNotFound means that no saga has this ID.
	ErrNotFound = errors.New("not found")
	// ErrExists means that the ID is that of a saga of another definition, or, from a
	// [Store], to any saga.
	ErrExists = errors.New("the ID is taken")
	// ErrDefinition means a definition that is not sound, or not one the runner was made with.
	ErrDefinition = errors.New("definition")
	// ErrStale means that the record has been changed since it was read, or that
	// another runner owns it now.
	ErrStale = errors.New("stale")
	// ErrState means that what was asked does not fit the saga's status, as resuming
	// one that is not parked.
	ErrState = errors.New("not in this state")
)

// Error says where something went wrong. Fields that do not apply are zero.
// What an action returned is reachable through it in the process that ran it;
// from the store comes only its text.
type Error struct {
	// Definition is the name of the definition.
	Definition string
	// Saga is the ID of the saga.
	Saga string
	// Step is the name of the step.
	Step string
	// Op is the step's function that was called.
	Op Op
	// Attempt is the number of the call, from 1.
	Attempt int
	// Err is the cause; never nil.
	Err error
}

// Error returns the fields that are set, then the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("saga:")
	field := func(name, value string) {
		if value != "" {
			b.WriteString(" " + name + strconv.Quote(value))
		}
	}
	field("", e.Definition)
	field("id ", e.Saga)
	field("step ", e.Step)
	if e.Op != 0 {
		b.WriteString(" " + e.Op.String())
	}
	if e.Attempt > 0 {
		b.WriteString(" attempt " + strconv.Itoa(e.Attempt))
	}
	if b.Len() > len("saga:") {
		b.WriteString(":")
	}
	b.WriteString(" " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
