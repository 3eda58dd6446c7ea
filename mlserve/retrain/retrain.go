// Package retrain starts training runs when something asks for them, as a drift
// alert does: one run per cause, however often the cause is reported, and no
// more than a budget allows.
//
// A [Trigger] starts a run; package rollout makes one of a rollout saga.
// [Limited] puts a budget in front of any.
package retrain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

// Trigger starts a run, or returns the one that was started for the same
// Request.Key. Nil means started, not finished. It is safe for concurrent use,
// and after an error it may be called again with the same request.
type Trigger func(ctx context.Context, r Request) (Run, error)

// Request says what to train and why.
type Request struct {
	// Key names the cause: the same Key starts one run. A drift alert's ID is a
	// good one.
	Key idempotency.Key
	// Model is the name of the model to train.
	Model string
	// Reason is for people: the feature that drifted.
	Reason string
	// Params are passed on to the run, where the trigger has a place for them.
	Params map[string]string
}

// Run is a run that was started.
type Run struct {
	// ID names the run where it runs.
	ID string
	// URL is where a person can look at it; empty if nowhere.
	URL string
}

var (
	// ErrLimited means that the budget allows no run now. The error carries the
	// time to wait, see concurrency.Advice.
	ErrLimited = errors.New("limited")
	// ErrBusy means that a run for this model goes on, and the trigger starts one
	// at a time.
	ErrBusy = errors.New("a run is going on")
)

// Error says which request failed.
type Error struct {
	// Model is the model that was to be trained.
	Model string
	// Key is the request's.
	Key idempotency.Key
	// Until is when the budget allows the next run; zero if that is not the reason.
	Until time.Time
	// Err is the cause; never nil.
	Err error
}

// Error names the model and the cause.
func (e *Error) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("retrain: model %q, request %s: %v", e.Model, e.Key, e.Err)
	}
	return fmt.Sprintf("retrain: model %q, request %s: %v until %s", e.Model, e.Key, e.Err, e.Until.Format(time.RFC3339))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
