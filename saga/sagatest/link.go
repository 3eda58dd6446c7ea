package sagatest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// link is a process's way to the store.
type link[S any] struct{ p *process[S] }

func (l *link[S]) up() error {
	if l.p.isGone() {
		return errCrashed
	}
	return nil
}

// write disturbs one durable write.
func (l *link[S]) write(create bool, do func() error) error {
	if err := l.up(); err != nil {
		return err
	}
	at, hit := l.p.w.pass(point{})
	if hit == zombie && create {
		hit = crashBefore // who creates need not be a runner
	}
	switch hit {
	case crashBefore:
		l.p.leave(false)
		return errCrashed
	case crashAfter:
		err := do()
		l.p.leave(false)
		return errors.Join(errCrashed, err)
	case storeFails:
		return fmt.Errorf("%w store failure at %s", errInjected, at)
	case answerLost:
		return errors.Join(fmt.Errorf("%w: the answer of %s is lost", errInjected, at), do())
	case zombie:
		l.p.w.mu.Lock()
		l.p.w.zombies = append(l.p.w.zombies, l.p)
		l.p.w.mu.Unlock()
		l.p.leave(true)
		<-l.p.thaw
		err := do()
		if err == nil {
			_ = l.p.w.violate("%s of a runner whose sagas another had finished was accepted", at)
		}
		return err
	case cutOff:
		err := errors.Join(l.p.occupy(), do())
		l.p.w.mu.Lock()
		l.p.w.zombies = append(l.p.w.zombies, l.p)
		l.p.w.mu.Unlock()
		l.p.leave(true)
		return err
	default:
		return do()
	}
}

// Create disturbs the write that makes the saga.
func (l *link[S]) Create(ctx context.Context, r saga.Record) error {
	if r.ID != sagaID {
		if err := l.up(); err != nil {
			return err
		}
		return l.p.w.store.Create(ctx, r)
	}
	return l.write(true, func() error { return l.p.w.store.Create(ctx, r) })
}

// Commit disturbs the writes that move it on.
func (l *link[S]) Commit(ctx context.Context, changes []saga.Change) (results []error, err error) {
	if !slices.ContainsFunc(changes, func(c saga.Change) bool { return c.Record.ID == sagaID }) {
		if err := l.up(); err != nil {
			return nil, err
		}
		return l.p.w.store.Commit(ctx, changes)
	}
	err = l.write(false, func() error {
		// A frozen process writes long after its context has ended.
		results, err = l.p.w.store.Commit(context.WithoutCancel(ctx), changes)
		return errors.Join(append(results, err)...)
	})
	if results != nil && err != nil && !errors.Is(err, errCrashed) && !errors.Is(err, errInjected) {
		err = nil // each change has its own result
	}
	if err != nil {
		results = nil
	}
	return results, err
}

// Claim disturbs those that find the saga.
func (l *link[S]) Claim(ctx context.Context, owner string, shapes []saga.Shape, limit int) ([]saga.Record, error) {
	if err := l.up(); err != nil {
		return nil, err
	}
	records, err := l.p.w.store.Claim(ctx, owner, shapes, limit)
	if err != nil || !slices.ContainsFunc(records, func(r saga.Record) bool { return r.ID == sagaID }) {
		return records, err
	}
	switch at, hit := l.p.w.pass(point{claim: true}); hit {
	case crashAfter:
		l.p.leave(false)
		return nil, errCrashed
	case answerLost:
		return nil, fmt.Errorf("%w: the answer of %s is lost", errInjected, at)
	default:
		return records, nil
	}
}

// Beat fails once the process has crashed.
func (l *link[S]) Beat(ctx context.Context, owner string, ttl time.Duration) error {
	if err := l.up(); err != nil {
		return err
	}
	return l.p.w.store.Beat(ctx, owner, ttl)
}

// Load fails once the process has crashed.
func (l *link[S]) Load(ctx context.Context, id string) (saga.Record, error) {
	if err := l.up(); err != nil {
		return saga.Record{}, err
	}
	return l.p.w.store.Load(ctx, id)
}

// Scan fails once the process has crashed.
func (l *link[S]) Scan(ctx context.Context, q saga.Query) iter.Seq2[saga.Record, error] {
	if err := l.up(); err != nil {
		return func(yield func(saga.Record, error) bool) { yield(saga.Record{}, err) }
	}
	return l.p.w.store.Scan(ctx, q)
}
