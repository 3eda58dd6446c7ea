package concurrency

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Batch collects the elements of src, and yields them n at a time, in order, or
// fewer when the first of them has waited that long for the others. If wait is
// not positive none waits: a batch is what has come while the loop was busy.
// The last batch may be smaller, and none is empty.
//
// An error of src ends the batch before it and is yielded next, with a nil
// batch; then Batch goes on. When ctx ends, what has been collected is yielded,
// and then context.Cause(ctx), once and last, unless src had ended before.
//
// The source is read on a goroutine of its own while the loop is busy, until n
// elements are collected. A break ends that goroutine and waits for it, and so
// does the end of ctx: as for [Stream], a source that can block must obey ctx.
// A panic or Goexit of the source goes on in the loop's goroutine, as there.
//
// Each batch is a new slice, which belongs to the loop. Batch panics if n is not
// positive or src is nil. The sequence can be ranged over as often as src can.
func Batch[T any](ctx context.Context, src iter.Seq2[T, error], n int, wait time.Duration) iter.Seq2[[]T, error] {
	mustCall("Batch", src != nil)
	if n <= 0 {
		panic(fmt.Sprintf("concurrency: Batch: n is %d, must be positive", n))
	}
	return func(yield func([]T, error) bool) {
		b := &batches[T]{n: n, wait: wait}
		b.begin(ctx)
		defer b.share()
		defer b.end()
		if greet(&b.stage, yield) {
			read(&b.stage, src, b.put)
			b.deliver(ctx, yield)
		}
	}
}

// batches is one range over batches.
type batches[T any] struct {
	stage
	n    int
	wait time.Duration

	// Guarded by mu.
	items   []T
	since   time.Time // when the first of them came
	err     error     // of the source, after the items
	wanting bool      // the goroutine that ranges waits
}

// put takes an element of the source, and returns when there is room for one
// more: false if none is wanted.
func (b *batches[T]) put(v T, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() {
		return false
	}
	if err != nil {
		b.err = err
	} else if b.items = append(b.items, v); len(b.items) == 1 {
		b.since = time.Now()
	}
	if b.wanting && (len(b.items) == 1 || b.complete()) {
		b.wanting = false
		b.results.Signal()
	}
	for b.complete() && !b.over() {
		b.room.Wait()
	}
	return !b.over()
}

func (b *batches[T]) complete() bool { return len(b.items) >= b.n || b.err != nil }

func (b *batches[T]) deliver(ctx context.Context, yield func([]T, error) bool) {
	var cut bool
	for more := true; more; {
		var (
			items []T
			err   error
		)
		items, err, more = b.take()
		if len(items) > 0 && !yield(items, nil) {
			return
		}
		if err != nil && ended(ctx, err) {
			cut = true
		} else if err != nil && !yield(nil, err) {
			return
		}
	}
	b.end()
	if !b.fallen() && ctx.Err() != nil && (cut || b.cut) {
		yield(nil, context.Cause(ctx))
	}
}

// take waits for a batch, for an error, or for the end.
func (b *batches[T]) take() (items []T, err error, more bool) { //nolint:revive // the order in which they are yielded
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.fallen() && !b.closed && !b.complete() && (len(b.items) == 0 || !b.over()) {
		rest := b.wait
		if len(b.items) > 0 {
			if rest -= time.Since(b.since); rest <= 0 {
				break
			}
		}
		b.wanting = true
		if len(b.items) == 0 {
			b.results.Wait()
			continue
		}
		b.pause(rest)
	}
	if b.fallen() {
		return nil, nil, false
	}
	items, err, more = b.items, b.err, !b.closed
	b.items, b.err = make([]T, 0, len(items)), nil
	b.room.Signal()
	return items, err, more
}

// pause waits for results, but not for longer than d.
func (b *batches[T]) pause(d time.Duration) {
	b.wg.Add(1)
	t := time.AfterFunc(d, func() {
		defer b.wg.Done()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.results.Signal()
	})
	b.results.Wait()
	if t.Stop() {
		b.wg.Done()
	}
}
