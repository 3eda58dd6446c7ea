package retrain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/idempotency"
)

// Limits are a budget per model. A zero field is its default, a negative one no limit.
type Limits struct {
	// Debounce takes requests that come within this time of a started run as
	// reports of the same cause: they get that run; 5 min.
	Debounce time.Duration
	// Cooldown refuses requests within this time of a started run; 1 h.
	Cooldown time.Duration
	// PerDay is how many runs may be started on one day in UTC; 4.
	PerDay int
}

// lease is how long one call of the limited trigger may take.
const lease = time.Minute

// started is what the guard remembers of the last run of a model.
type started struct {
	Run Run
	At  time.Time
}

// Limited returns a trigger that calls t within limits. It keeps its books in
// the guard's store, so replicas that share a durable store share the budget.
//
// The request's key counts first: a key that has started a run returns that run
// for as long as the guard remembers, and uses no budget. What t fails to start
// uses none either. A refusal matches [ErrLimited] and is not remembered: the
// same request may succeed later. One call of t is given a minute.
func Limited(g *idempotency.Guard, l Limits, t Trigger) Trigger {
	b := &budget{guard: g, limits: l, next: t}
	if l.Debounce == 0 {
		b.limits.Debounce = 5 * time.Minute
	}
	if l.Cooldown == 0 {
		b.limits.Cooldown = time.Hour
	}
	if l.PerDay == 0 {
		b.limits.PerDay = 4
	}
	return b.trigger
}

type budget struct {
	guard  *idempotency.Guard
	limits Limits
	next   Trigger
}

func (b *budget) trigger(ctx context.Context, r Request) (Run, error) {
	fail := func(err error) error { return &Error{Model: r.Model, Key: r.Key, Err: err} }
	if r.Model == "" {
		return Run{}, fail(errors.New("the request names no model"))
	}
	if err := r.Key.Validate(); err != nil {
		return Run{}, fail(err)
	}
	run, err := idempotency.Do(ctx, b.guard, r.Key.Child("retrain-limited"), func(ctx context.Context) (Run, error) {
		return b.spaced(ctx, r)
	})
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = fail(err)
		}
		return Run{}, err
	}
	return run, nil
}

// spaced keeps runs of one model apart. The key is held while a run is started,
// and then remembered for as long as it matters.
func (b *budget) spaced(ctx context.Context, r Request) (Run, error) {
	keep := max(b.limits.Debounce, b.limits.Cooldown)
	if keep <= 0 {
		run, err := b.counted(ctx, r)
		return run.Run, err
	}
	token, out, err := b.take(ctx, idempotency.Key{Scope: "retrain/last", ID: r.Model})
	if err != nil {
		return Run{}, err
	}
	switch out.State {
	case idempotency.Acquired:
	case idempotency.Done:
		var last started
		if err := json.Unmarshal(out.Result, &last); err != nil {
			return Run{}, fmt.Errorf("decode the last run: %w", err)
		}
		if time.Since(last.At) < b.limits.Debounce {
			return last.Run, nil
		}
		return Run{}, b.refuse(r, last.At.Add(keep), "cooling down after the last run")
	default:
		return Run{}, b.refuse(r, out.Until, "another request for the model is being started")
	}
	run, err := b.counted(ctx, r)
	return run.Run, b.settle(ctx, token, run, keep, err)
}

// counted starts a run if one of the day's places is free.
func (b *budget) counted(ctx context.Context, r Request) (started, error) {
	if b.limits.PerDay < 0 {
		return b.start(ctx, r)
	}
	day := time.Now().UTC().Truncate(24 * time.Hour)
	scope := "retrain/day/" + day.Format(time.DateOnly)
	for place := range b.limits.PerDay {
		key := idempotency.Key{Scope: scope, ID: r.Model}.Child(strconv.Itoa(place))
		token, out, err := b.take(ctx, key)
		if err != nil {
			return started{}, err
		}
		if out.State != idempotency.Acquired {
			continue
		}
		run, err := b.start(ctx, r)
		return run, b.settle(ctx, token, run, 48*time.Hour, err)
	}
	return started{}, b.refuse(r, day.Add(24*time.Hour), fmt.Sprintf("%d runs were started today", b.limits.PerDay))
}

func (b *budget) start(ctx context.Context, r Request) (started, error) {
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	run, err := b.next(ctx, r)
	return started{run, time.Now()}, err
}

func (b *budget) take(ctx context.Context, k idempotency.Key) (idempotency.Token, idempotency.Outcome, error) {
	// The lease is longer than a call of the trigger, so nobody takes the key meanwhile.
	out, err := b.guard.Store().Begin(ctx, idempotency.Claim{Key: k, Lease: 2 * lease})
	return out.Token, out, err
}

// settle remembers a run that was started, or gives the key back. If remembering
// fails, so does the request; asked again, it finds the same run by its key and
// remembers that.
func (b *budget) settle(ctx context.Context, t idempotency.Token, run started, keep time.Duration, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease)
	defer cancel()
	if failed != nil {
		if err := b.guard.Store().Abort(ctx, t); err != nil && !errors.Is(err, idempotency.ErrStale) {
			return fmt.Errorf("%w (and giving the budget back failed: %w)", failed, err)
		}
		return failed
	}
	result, err := json.Marshal(run)
	if err != nil {
		return fmt.Errorf("encode the run: %w", err)
	}
	if err := b.guard.Store().Complete(ctx, t, result, keep); err != nil && !errors.Is(err, idempotency.ErrStale) {
		return fmt.Errorf("the run %q was started; remembering it failed: %w", run.Run.ID, err)
	}
	return nil
}

func (b *budget) refuse(r Request, until time.Time, why string) error {
	err := &Error{Model: r.Model, Key: r.Key, Until: until, Err: fmt.Errorf("%w: %s", ErrLimited, why)}
	return concurrency.RetryAfter(err, max(time.Until(until), 0))
}
