package idempotency

import (
	"errors"
	"fmt"
	"time"
)

// Errors to test for with [errors.Is]. Stores and guards return them inside an
// [*Error].
var (
	// ErrKey means that a key cannot be used: its Scope or its ID is empty or
	// too long. It is a mistake of the caller, and no retry helps.
	ErrKey = errors.New("unusable key")
	// ErrInProgress means that somebody else holds the key; Error.Until says
	// until when. Come back then.
	ErrInProgress = errors.New("in progress elsewhere")
	// ErrMismatch means that the key came before with another fingerprint: one
	// key was used for two different requests. No retry helps.
	ErrMismatch = errors.New("the key belongs to a different request")
	// ErrStale means that the caller no longer holds the key: its lease ended
	// and somebody took over, the key was given back, or it was forgotten. What
	// it brings comes too late. Begin returns it for a claim whose Fence is
	// below the highest seen.
	ErrStale = errors.New("no longer the holder of the key")
	// ErrTooLarge means that the work was done, but its result exceeds the
	// limit and was not kept. Later calls with the key get this error too; the
	// work is not run again.
	ErrTooLarge = errors.New("the result is too large to keep")
	// ErrFull means that a store of limited size holds its limit of keys, none
	// of which may be forgotten yet.
	ErrFull = errors.New("the store is full")
)

// Error is the error of this package and its stores. Errors of the guarded work
// are not wrapped in it.
type Error struct {
	Op    string    // what failed: begin, renew, complete, abort, or replay
	Key   Key       // of which key
	Until time.Time // with ErrInProgress: when the lease ends, by this machine's clock; else zero
	Err   error     // why; never nil
}

// Error returns "idempotency: ", the operation, the key and the cause.
func (e *Error) Error() string {
	if !e.Until.IsZero() {
		return fmt.Sprintf("idempotency: %s %s: %v, until %s", e.Op, e.Key, e.Err, e.Until.Format(time.RFC3339))
	}
	return fmt.Sprintf("idempotency: %s %s: %v", e.Op, e.Key, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// wrap returns err as an *Error, and as it is where it already is one.
func wrap(op string, k Key, err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Op: op, Key: k, Err: err}
}
