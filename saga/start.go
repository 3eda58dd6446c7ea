package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

const maxID = 256

// Start creates the saga id with the state in; a runner, this one or another,
// executes it. Nil means that it is durable, not that it is done; see [Definition.Wait].
// Once per id: if a saga of this definition has the ID already, whatever its
// state, Start changes nothing and returns nil; if one of another definition
// has it, the error matches [ErrExists]. After any other error the saga may have
// been created: call Start again with the same ID. An ID is 1 to 256 bytes
// of UTF-8.
func (d *Definition[S]) Start(ctx context.Context, r *Runner, id string, in S) error {
	fail := func(err error) error { return &Error{Definition: d.Name(), Saga: id, Err: err} }
	if _, ok := r.defs[d.Shape()]; !ok {
		return fail(fmt.Errorf("%w: not among those the runner was made with", ErrDefinition))
	}
	if id == "" || len(id) > maxID {
		return fail(fmt.Errorf("the ID has %d bytes; 1 to %d are allowed", len(id), maxID))
	}
	if !utf8.ValidString(id) {
		return fail(errors.New("the ID is not UTF-8"))
	}
	state, err := json.Marshal(in)
	if err != nil {
		return fail(fmt.Errorf("encode the state: %w", err))
	}
	rec := Record{Info: Info{ID: id, Definition: d.Name(), Version: d.Version(), State: state}, Shape: d.Shape()}
	d.outline.begin(&rec, time.Now())
	note(&rec, Event{Time: rec.Started, Note: "started"})
	if err := r.create(ctx, rec); !errors.Is(err, ErrExists) {
		if err != nil {
			return fail(err)
		}
		return nil
	}
	old, err := r.store.Load(ctx, id)
	switch {
	case err != nil:
		return fail(err)
	case old.Definition != d.Name():
		return fail(fmt.Errorf("%w by a saga of %s", ErrExists, old.Definition))
	}
	return r.checkRunnable(&old)
}

// create stores a new record. If Run takes sagas here, it owns this one from
// the start, which saves the write of a claim.
func (r *Runner) create(ctx context.Context, rec Record) error {
	rec.Fence = 1 // a claim gives more: what is read with 1 has no owner but its creator
	r.mu.Lock()
	s := r.session
	var x *execution
	if _, taken := r.held[rec.ID]; s != nil && !taken && len(r.held) < r.opts.Concurrency*heldPerSlot {
		rec.Owner = s.owner
		x = r.newExecution(s, s.term, rec.Clone())
		x.rec.Rev = 1
		x.created = make(chan struct{})
		r.held[rec.ID] = x
		s.launch(x) // while the session is known not to have ended
	}
	r.mu.Unlock()
	err := r.store.Create(ctx, rec)
	if x == nil {
		r.lookNow()
		return err
	}
	// After an error the record may be there with our name on it, or be another's,
	// or none: the execution looks for itself.
	if x.unsure = err != nil; x.unsure && !errors.Is(err, ErrExists) {
		r.doubt(s) // the record may even come when the execution has looked
	}
	close(x.created)
	return err
}

// checkRunnable returns an error if the saga has work left that this runner's
// definitions cannot do.
func (r *Runner) checkRunnable(rec *Record) error {
	if _, ok := r.defs[rec.Shape]; ok || rec.Status == Completed || rec.Status == RolledBack {
		return nil
	}
	return &Error{Definition: rec.Definition, Saga: rec.ID, Step: rec.Step, Err: fmt.Errorf(
		"%w: the saga was started by version %d with other steps than any this runner was made with; add that definition to NewRunner, or give the new steps a new version",
		ErrDefinition, rec.Version)}
}

// watchEvery is how often Wait looks for what another process did.
const watchEvery = 500 * time.Millisecond

// watcher wakes those who wait for one saga in this process.
type watcher struct {
	woken chan struct{}
	n     int
}

// Wait returns the saga's state when it has ended. If it was undone, the error
// matches [ErrRolledBack], if it is parked, [ErrParked], and the state is what it
// was then; an [Error] says at which step. It returns an error that matches
// [ErrNotFound] if there is no such saga, and the cause of ctx if that ends first.
func (d *Definition[S]) Wait(ctx context.Context, r *Runner, id string) (S, error) {
	var state S
	rec, err := r.await(ctx, id)
	if err == nil && rec.Definition != d.Name() {
		err = fmt.Errorf("%w by a saga of %s", ErrExists, rec.Definition)
	}
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return state, err
		}
		return state, &Error{Definition: d.Name(), Saga: id, Err: err}
	}
	fail := &Error{Definition: d.Name(), Saga: id, Step: rec.Failed}
	if state, fail.Err = decodeState[S](rec.State); fail.Err != nil {
		return state, fail
	}
	switch rec.Status {
	case RolledBack:
		fail.Err = fmt.Errorf("%w: %s", ErrRolledBack, rec.Err)
	case Parked:
		fail.Step, fail.Op = rec.Step, rec.Op
		fail.Err = fmt.Errorf("%w: %s", ErrParked, rec.Err)
	default:
		return state, nil
	}
	return state, fail
}

// await returns the record once the saga is no longer active.
func (r *Runner) await(ctx context.Context, id string) (Record, error) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		woken, leave := r.watchFor(id)
		rec, err := r.store.Load(ctx, id)
		if err == nil && rec.Status.Active() {
			err = r.checkRunnable(&rec)
		}
		if err != nil || !rec.Status.Active() {
			leave()
			return rec, err
		}
		select {
		case <-woken:
		case <-tick.C:
		case <-ctx.Done():
			leave()
			return Record{}, context.Cause(ctx)
		}
		leave()
	}
}

func (r *Runner) watchFor(id string) (woken <-chan struct{}, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watch[id]
	if w == nil {
		w = &watcher{woken: make(chan struct{})}
		r.watch[id] = w
	}
	w.n++
	return w.woken, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if w.n--; w.n == 0 && r.watch[id] == w {
			delete(r.watch, id)
		}
	}
}

func (r *Runner) wakeWatchers(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watch[id]; w != nil {
		close(w.woken)
		delete(r.watch, id)
	}
}
