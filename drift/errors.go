package drift

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrSchema is the cause when a feature is unknown, has another kind, or when
// two references do not describe the same features. Find it with errors.Is.
var ErrSchema = errors.New("schema mismatch")

// ErrFormat is the cause when bytes or JSON are not a reference, or bytes not a snapshot: damaged, cut
// short, or written by an unknown version. Find it with errors.Is.
var ErrFormat = errors.New("not a drift reference or snapshot")

// Error says which feature, and where it is known which row of it, is wrong.
type Error struct {
	Feature string // name of the feature; empty if no single one is to blame
	Row     int    // index into the column's values; -1 where no row is to blame
	Err     error  // the cause, never nil
}

// Error implements error.
func (e *Error) Error() string {
	s := "drift: "
	if e.Feature != "" {
		s += "feature " + strconv.Quote(e.Feature) + ": "
	}
	if e.Row >= 0 {
		s += "row " + strconv.Itoa(e.Row) + ": "
	}
	return s + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func featureError(feature string, err error) error {
	return &Error{Feature: feature, Row: -1, Err: err}
}

// errorf is an error of no single feature.
func errorf(format string, a ...any) error { return featureError("", fmt.Errorf(format, a...)) }
