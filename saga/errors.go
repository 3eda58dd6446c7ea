package saga

import (
	"errors"
	"strconv"
	"strings"
)

var (
	// ErrRolledBack: the saga was undone. What happened stands in the same error's text.
	ErrRolledBack = errors.New("rolled back")
	// ErrParked: the saga waits for a person; see [Runner.Resume] and [Runner.Resolve].
	ErrParked = errors.New("parked")
	// ErrPastPivot: the pivot may have run, so the saga can no longer be undone.
	ErrPastPivot = errors.New("the pivot may have run")
	// ErrNotFound: no saga has this ID.
	ErrNotFound = errors.New("not found")
	// ErrExists: the ID belongs to a saga of another definition, or, from a
	// [Store], to any saga.
	ErrExists = errors.New("the ID is taken")
	// ErrDefinition: a definition is not sound, or not one the runner was made with.
	ErrDefinition = errors.New("definition")
	// ErrStale: the record has been changed since it was read, or another
	// runner owns it now.
	ErrStale = errors.New("stale")
	// ErrState: what was asked does not fit the saga's status, as resuming one that is not parked.
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
