package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve/retrain"
	"github.com/mainstay-go/mainstay/saga"
)

// Trigger returns a trigger that starts a rollout for each request, with
// Request.Reason as its cause. The saga's ID is made from the request's key, so
// the same key starts one rollout; Run.ID is the saga's. While another rollout
// of d is under way or parked, a request with a new key is refused with
// [retrain.ErrBusy]. Model and Params of the request are not used: they are d's.
func Trigger(d *saga.Definition[State], r *saga.Runner) retrain.Trigger {
	var one sync.Mutex // between looking for others and starting
	return func(ctx context.Context, req retrain.Request) (retrain.Run, error) {
		fail := func(err error) (retrain.Run, error) {
			return retrain.Run{}, &retrain.Error{Model: req.Model, Key: req.Key, Err: err}
		}
		if err := req.Key.Validate(); err != nil {
			return fail(err)
		}
		id := sagaID(req.Key)
		one.Lock()
		defer one.Unlock()
		unfinished := saga.Query{Definition: d.Name(), Status: []saga.Status{saga.Running, saga.RollingBack, saga.Parked}}
		for other, err := range r.List(ctx, unfinished) {
			if err != nil {
				return fail(err)
			}
			if other.ID != id {
				if _, err := r.Get(ctx, id); err == nil {
					return retrain.Run{ID: id}, nil // it was started before
				}
				return fail(&busyError{other.ID, other.Status})
			}
		}
		if err := d.Start(ctx, r, id, State{Cause: req.Reason}); err != nil {
			return fail(err)
		}
		return retrain.Run{ID: id}, nil
	}
}

type busyError struct {
	id     string
	status saga.Status
}

func (e *busyError) Error() string { return "the rollout " + e.id + " is " + e.status.String() }
func (e *busyError) Unwrap() error { return retrain.ErrBusy }

// sagaID makes an ID of at most 256 bytes.
func sagaID(k idempotency.Key) string {
	if s := k.String(); len(s) <= 200 {
		return s
	}
	sum := sha256.Sum256([]byte(k.String()))
	return "sha256-" + hex.EncodeToString(sum[:])
}
