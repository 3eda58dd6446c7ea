package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Flight lets callers that want the same thing at the same time share one call
// for it. It remembers nothing: when the call has returned, the next caller
// makes another. Put it in front of a cache's loader, so that an expired entry
// is fetched once and not by every request that misses it.
//
// The zero Flight is ready. It is safe for concurrent use and must not be
// copied once used.
type Flight[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

// call is one execution, and the context it runs with. Its last fields are
// written before done is closed.
type call[V any] struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelCauseFunc
	waiting         int  // callers that have not left; guarded by the Flight's mutex
	joined          bool // there were others than the first; likewise
	done            chan struct{}

	value V
	err   error
	fate
}

// Value implements [context.Context]. Below a call, the call itself is known.
func (c *call[V]) Value(key any) any {
	if key == any(c) {
		return c
	}
	return c.Context.Value(key)
}

var errSelf = errors.New("concurrency: Flight: the call for a key asks for the same key, and would wait for itself")

// Do returns what f returns, once ctx ends at the latest. If a call for key is
// under way, f is not called, and Do waits for that one. shared tells that the
// value may have gone to others as well: whoever gets a map, a slice or a
// pointer from a Flight must not modify what is behind it.
//
// No caller decides for another. The call runs with a context of its own,
// which has the values of the first caller's, no deadline, and ends when the
// last caller has left. A caller whose ctx ends leaves at once, with an error
// that matches ctx.Err() and [context.Cause], while others still wait. The last
// to leave cancels the call and waits for it to return, as [WaitFor] does: a
// late success is still a success. Who asks for key in the meantime does not
// join a cancelled call but starts one of its own. For a time limit of the work
// itself use [WaitFor] inside f.
//
// An error of f goes to all who wait. If f panics, all of them panic, with the
// same [*PanicError]; if it calls [runtime.Goexit], all their goroutines end.
// Within f, asking for the same key through the context of f is an error, not a
// deadlock. If ctx is done already, f is not called. Do panics if f is nil.
//
// Where ctx can end, f runs on a goroutine of its own, and otherwise on that of
// the first caller.
func (f *Flight[K, V]) Do(ctx context.Context, key K, fn func(context.Context) (V, error)) (v V, shared bool, err error) {
	mustCall("Flight.Do", fn != nil)
	if ctx.Err() != nil {
		return v, false, fmt.Errorf("concurrency: Flight not asked: %w", endOf(ctx))
	}
	f.mu.Lock()
	if c, ok := f.calls[key]; ok {
		if ctx.Value(c) != nil {
			f.mu.Unlock()
			return v, false, errSelf
		}
		c.waiting++
		c.joined = true
		f.mu.Unlock()
		return f.wait(ctx, key, c)
	}
	c := &call[V]{waiting: 1, done: make(chan struct{})}
	c.Context, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if f.calls == nil {
		f.calls = make(map[K]*call[V])
	}
	f.calls[key] = c
	f.mu.Unlock()

	if ctx.Done() == nil {
		f.run(key, c, fn) // this caller cannot leave
	} else {
		go f.run(key, c, fn) // joined by the last to leave
	}
	return f.wait(ctx, key, c)
}

// Forget makes the next Do for key start a call of its own even if one is under
// way, whose callers get what they asked for. Use it when what the call may
// have read has changed since.
func (f *Flight[K, V]) Forget(key K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.calls, key)
}

func (f *Flight[K, V]) run(key K, c *call[V], fn func(context.Context) (V, error)) {
	returned := false
	defer func() {
		if !returned {
			_ = c.meet(recover())
		}
		f.mu.Lock()
		f.land(key, c)
		f.mu.Unlock()
		c.cancel(errReturned)
		close(c.done)
	}()
	c.value, c.err = fn(c)
	returned = true
}

// land makes c unjoinable. The mutex is held.
func (f *Flight[K, V]) land(key K, c *call[V]) {
	if f.calls[key] == c { // and not its successor
		delete(f.calls, key)
	}
}

func (f *Flight[K, V]) wait(ctx context.Context, key K, c *call[V]) (v V, shared bool, err error) {
	select {
	case <-c.done:
		return c.outcome()
	case <-ctx.Done():
	}
	f.mu.Lock()
	c.waiting--
	last := c.waiting == 0
	if last {
		f.land(key, c)
	}
	f.mu.Unlock()
	if !last {
		select {
		case <-c.done: // just before this caller left
			return c.outcome()
		default:
			return v, false, fmt.Errorf("concurrency: Flight left to others: %w", endOf(ctx))
		}
	}
	c.cancel(context.Cause(ctx))
	<-c.done
	v, shared, err = c.outcome()
	switch {
	case err == nil:
		return v, shared, nil
	case err == context.Canceled, err == context.Cause(ctx): //nolint:errorlint // the very values: nothing but the end of ctx
		return v, shared, fmt.Errorf("concurrency: Flight cancelled: %w", endOf(ctx))
	case errors.Is(err, ctx.Err()) && errors.Is(err, context.Cause(ctx)):
		return v, shared, err
	}
	return v, shared, fmt.Errorf("concurrency: Flight cancelled: %w: %w", endOf(ctx), err)
}

// outcome is that of a call that has ended.
func (c *call[V]) outcome() (v V, shared bool, err error) {
	c.share()
	return c.value, c.joined, c.err
}
