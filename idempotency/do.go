package idempotency

import (
	"context"
	"errors"
	"fmt"
)

// Do runs f once for the key k: the first call that succeeds stores f's result,
// and every later call returns it without running f, until the guard's TTL
// ends. T must survive a round trip through JSON; only replays make it.
//
// An error of f is returned as it is, beside the value f returned. It is not
// stored: the key is given back and the next call runs f again. The same holds
// if f panics; the panic passes on.
//
// While f runs, the lease is renewed. If it is lost nevertheless, f's context
// ends with a cause that matches [ErrStale]: somebody else may be running f by
// then. f should obey its context. When ctx ends, f's context ends, but a
// result that f still returns is stored.
//
// Other errors are an [*Error] and match
//
//   - [ErrInProgress], with Until: another call runs f. Come back then; the
//     error carries the mark of concurrency.RetryAfter.
//   - [ErrMismatch], [ErrKey]: a mistake, marked concurrency.Permanent.
//   - [ErrTooLarge]: f succeeded, now or before, with a result above
//     Options.MaxResult. It will not run again. The call that ran f returns its
//     value beside the error; so it does if the result has no JSON form.
//   - [ErrStale]: f ran, but somebody took the key over meanwhile. f's value
//     stands beside the error, and the effect may have happened twice.
//   - anything else with Op "begin": the store failed, and f did not run.
//   - anything else with Op "complete": f succeeded, its value stands beside
//     the error, and the store failed to record it. f may run again once the
//     lease has ended.
//
// With Options.FailOpen, a store that fails to begin lets f run unguarded, and
// one that fails to record is only logged.
func Do[T any](ctx context.Context, g *Guard, k Key, f func(context.Context) (T, error)) (value T, err error) {
	ctx, call := g.telemetry.start(ctx, entryDo, k)
	defer call.end()

	out, err := g.begin(ctx, k)
	switch {
	case err != nil:
		call.refused(err)
		return value, err
	case out.State == Done:
		call.is(replayed)
		if value, err = decodeValue[T](out.Result); err != nil {
			return value, &Error{Op: "replay", Key: k, Err: err}
		}
		return value, nil
	case out.State != Acquired:
		call.is(unguarded)
		return f(ctx)
	}

	var failed, unkeepable error
	err = g.hold(ctx, out.Token, func(ctx context.Context) ([]byte, bool) {
		if value, failed = f(ctx); failed != nil {
			return nil, false
		}
		var result []byte
		result, unkeepable = encodeValue(value)
		return result, true
	})
	switch {
	case failed != nil:
		call.is(failedRun)
		return value, failed
	case err == nil && unkeepable != nil:
		call.is(ran)
		err = fmt.Errorf("the work was done, but its result has no JSON form and is not kept: %w", unkeepable)
		return value, &Error{Op: "complete", Key: k, Err: err}
	case err == nil || errors.Is(err, ErrTooLarge):
		call.is(ran)
		return value, err
	}
	call.is(unrecorded)
	if g.failOpen {
		g.telemetry.warn(ctx, "done, but not recorded", k, err)
		return value, nil
	}
	return value, err
}
