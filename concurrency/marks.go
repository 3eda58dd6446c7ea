package concurrency

import (
	"errors"
	"time"
)

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

type retryAfterError struct {
	err   error
	after time.Duration
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// Permanent marks err: no repetition helps. [Retry], consumers and saga steps
// understand the mark. The text of err is unchanged, and err stays reachable
// for [errors.Is] and [errors.As]. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// RetryAfter marks err: a repetition may help, but not before d has passed. A
// d that is not positive asks for nothing. The text of err is unchanged, and
// err stays reachable for [errors.Is] and [errors.As]. RetryAfter(nil, d) is
// nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, max(d, 0)}
}

// Advice reads the marks of [Permanent] and [RetryAfter] anywhere in the tree
// of err, joined errors included. If several ask for a delay, the outermost
// one, or the first among joined ones, counts. An unmarked or nil err gives
// false and 0.
func Advice(err error) (permanent bool, after time.Duration) {
	_, permanent = errors.AsType[*permanentError](err)
	if e, ok := errors.AsType[*retryAfterError](err); ok {
		after = e.after
	}
	return permanent, after
}
