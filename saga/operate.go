package saga

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Get returns what is recorded about a saga.
func (r *Runner) Get(ctx context.Context, id string) (Info, error) {
	rec, err := r.store.Load(ctx, id)
	if err != nil {
		return Info{}, &Error{Saga: id, Err: err}
	}
	return rec.Info, nil
}

// List yields the sagas that q chooses, in the order of their IDs, also those of
// definitions the runner does not know. An error is yielded last.
func (r *Runner) List(ctx context.Context, q Query) iter.Seq2[Info, error] {
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	return func(yield func(Info, error) bool) {
		for rec, err := range r.store.Scan(ctx, q) {
			if err != nil {
				yield(Info{}, &Error{Err: err})
				return
			}
			if !yield(rec.Info, nil) {
				return
			}
		}
	}
}

// History yields what happened to a saga, oldest first. Failures of a step are
// recorded with the next durable write, so those of a step that is being
// repeated are not in it yet. An error is yielded last.
func (r *Runner) History(ctx context.Context, id string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		rec, err := r.store.Load(ctx, id)
		if err != nil {
			yield(Event{}, &Error{Saga: id, Err: err})
			return
		}
		for _, e := range rec.Log {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Cancel makes a saga that has not reached its pivot turn back. Nil means that
// this is recorded, not that it is undone; see [Definition.Wait]. The context of
// an action that runs in this process ends, and its outcome counts as unknown;
// in another process the cancellation is seen at the next call. For a saga that
// is turning or has turned back it does nothing. Otherwise the error matches
// [ErrPastPivot]: the pivot may have run, or the saga is completed.
func (r *Runner) Cancel(ctx context.Context, id, reason string) error {
	if reason == "" {
		reason = "no reason given"
	}
	err := r.operate(ctx, id, func(rec *Record, p *plan) error {
		switch {
		case rec.Cancelled != "" || rec.Failed != "" || rec.Status == RolledBack:
			return errNothingToDo
		case rec.Status == Completed || !p.reversible(p.index(rec.Step)):
			return ErrPastPivot
		}
		rec.Cancelled = shorten(reason)
		rec.Wake = time.Time{}
		note(rec, Event{Time: time.Now(), Fence: rec.Fence, Note: "cancelled: " + rec.Cancelled})
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	x := r.held[id]
	r.mu.Unlock()
	if x != nil {
		x.changed(errors.New("saga: cancelled: " + reason))
	}
	r.lookNow()
	return nil
}

// Resume lets a parked step be tried again, with all its attempts. The error
// matches [ErrState] if the saga is not parked.
func (r *Runner) Resume(ctx context.Context, id string) error {
	err := r.operate(ctx, id, func(rec *Record, p *plan) error {
		if rec.Status != Parked {
			return fmt.Errorf("%w: it is %v", ErrState, rec.Status)
		}
		p.resume(rec)
		note(rec, Event{Time: time.Now(), Step: rec.Step, Op: rec.Op, Fence: rec.Fence, Note: "resumed"})
		return nil
	})
	if err == nil {
		r.lookNow()
	}
	return err
}

// Resolve settles a parked step by hand, with the evidence for the history. Done
// says that the action or compensation has happened: the saga goes on after it,
// without folding a result of the action into the state. Not done is possible
// for a pivot only, and turns the saga back; any other step that has not
// happened must be resumed. The error matches [ErrState] if the saga is not
// parked at this step, or if done is false where it may not be.
func (r *Runner) Resolve(ctx context.Context, id, step string, done bool, evidence string) error {
	if evidence == "" {
		return &Error{Saga: id, Step: step, Err: errors.New("Resolve needs evidence, for the history")}
	}
	err := r.operate(ctx, id, func(rec *Record, p *plan) error {
		i := p.index(rec.Step)
		if rec.Status != Parked || rec.Step != step {
			return fmt.Errorf("%w: it is %v at step %q", ErrState, rec.Status, rec.Step)
		}
		if !done && (i != p.pivot || rec.Op != Action) {
			return fmt.Errorf("%w: what has not happened at a %s of a %s step must be resumed", ErrState, rec.Op, p.steps[i].kind)
		}
		text := "resolved as not done: "
		if done {
			text = "resolved as done: "
		}
		note(rec, Event{Time: time.Now(), Step: rec.Step, Op: rec.Op, Fence: rec.Fence, Note: shorten(text + evidence)})
		p.resume(rec)
		if done {
			p.done(rec, nil, nil, time.Now())
		} else {
			p.refused(rec, errors.New("resolved as not done: "+shorten(evidence)))
		}
		return nil
	})
	if err == nil {
		r.wakeWatchers(id)
		r.lookNow()
	}
	return err
}

var errNothingToDo = errors.New("nothing to do")

// operate changes a record from outside its execution.
func (r *Runner) operate(ctx context.Context, id string, change func(*Record, *plan) error) error {
	for {
		rec, err := r.store.Load(ctx, id)
		if err != nil {
			return &Error{Saga: id, Err: err}
		}
		d, ok := r.defs[rec.Shape]
		if !ok {
			if err := r.checkRunnable(&rec); err != nil {
				return err
			}
			return &Error{Definition: rec.Definition, Saga: id, Err: fmt.Errorf("%w: it is %v", ErrState, rec.Status)}
		}
		rev, fence := rec.Rev, rec.Fence
		step, op := rec.Step, rec.Op
		switch err := change(&rec, d.plan()); {
		case errors.Is(err, errNothingToDo):
			return nil
		case err != nil:
			return &Error{Definition: rec.Definition, Saga: id, Step: step, Op: op, Err: err}
		}
		rec.Updated = time.Now()
		results, err := r.store.Commit(ctx, []Change{{Record: rec, Rev: rev, Fence: fence, Release: rec.Owner == ""}})
		if err == nil && len(results) != 1 {
			err = errMisaligned
		}
		if err == nil {
			err = results[0]
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrStale) {
			return &Error{Definition: rec.Definition, Saga: id, Err: err}
		}
	}
}
