package messaging

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/mainstay-go/mainstay/concurrency"
)

// OnBatch routes the topic's messages to f, decoded, up to n at a time. A batch
// begins with its first message and is handed over when it has n, or after
// wait, whichever is first; wait is positive and shorter than
// ConsumerOptions.Timeout and Drain. n is at most ConsumerOptions.Concurrency,
// whose default rises to n; with k times n there are up to k batches at a
// time.
//
// The result aligns with the values: each message is settled, tried again or
// made a dead letter by its own error, as if it had come alone. Nil: all are
// settled. A result of another length, and a panic, is a failure of all of
// them. A batch has one message of a key, or of a partition with ByPartition,
// so order holds; with Unordered it has whatever comes. What cannot be decoded
// is a dead letter at once and in no batch.
//
// Inbox, retries and middleware see each message by itself. The context ends
// when that of every message has ended; the deliveries' traces are linked to
// the batch's own span. The slices belong to f.
func (t Topic[T]) OnBatch(n int, wait time.Duration, f func(ctx context.Context, values []T, ds []*Delivery) []error) Route {
	r := Route{topic: t.name, batch: &batching{n, wait}}
	if f == nil {
		return r
	}
	b := &batcher[T]{batching: *r.batch, f: f, open: make(map[string]*batch[T])}
	r.handler = func(ctx context.Context, d *Delivery) error {
		v, err := t.codec.Decode(&d.Message)
		if err != nil {
			return Permanent(&undecodable{err})
		}
		return b.join(ctx, v, d)
	}
	return r
}

// batching is what a consumer checks about a batch route.
type batching struct {
	most int
	wait time.Duration
}

// batcher makes batches of the messages that workers bring, each of whom stays
// until the fate of its message is known. So a batch is nothing to the rest of
// the consumer: its messages are in handlers that take their time.
type batcher[T any] struct {
	batching
	f func(context.Context, []T, []*Delivery) []error

	mu   sync.Mutex
	open map[string]*batch[T] // the one that gathers, by group
}

// batch belongs to the worker of its first message, who runs it.
type batch[T any] struct {
	members []*member[T]
	closed  bool          // gathers no more
	full    chan struct{} // closed when there are enough
	done    chan struct{} // closed when the members' errors are set
}

// member is a message with what the batch needs of its context.
type member[T any] struct {
	v     T
	d     *Delivery
	over  func() error                    // why its time is over, nil while it is not
	after func(func()) (stop func() bool) // calls when it is
	span  trace.SpanContext
	err   error
}

func (b *batcher[T]) join(ctx context.Context, v T, d *Delivery) error {
	m := &member[T]{
		v: v, d: d, span: trace.SpanContextFromContext(ctx),
		over:  func() error { return context.Cause(ctx) },
		after: func(f func()) func() bool { return context.AfterFunc(ctx, f) },
	}
	x, first := b.enter(m)
	if first {
		t := time.NewTimer(b.wait)
		select {
		case <-x.full:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		b.run(ctx, x, d.Group)
		return m.err
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		if b.leave(x, m) {
			return context.Cause(ctx)
		}
		<-x.done // f has it
	}
	return m.err
}

func (b *batcher[T]) enter(m *member[T]) (x *batch[T], first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x = b.open[m.d.Group]
	if first = x == nil; first {
		x = &batch[T]{full: make(chan struct{}), done: make(chan struct{})}
		b.open[m.d.Group] = x
	}
	x.members = append(x.members, m)
	if len(x.members) == b.most {
		b.shut(x, m.d.Group)
		close(x.full)
	}
	return x, first
}

func (b *batcher[T]) shut(x *batch[T], group string) {
	if !x.closed {
		x.closed = true
		delete(b.open, group)
	}
}

// leave takes m out, if its batch still gathers.
func (b *batcher[T]) leave(x *batch[T], m *member[T]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.closed {
		return false
	}
	x.members = slices.DeleteFunc(x.members, func(y *member[T]) bool { return y == m })
	return true
}

// run hands the batch to f, without those whose time is over. ctx is that of
// the first message.
func (b *batcher[T]) run(ctx context.Context, x *batch[T], group string) {
	b.mu.Lock()
	b.shut(x, group)
	b.mu.Unlock()
	defer close(x.done)
	var (
		live   []*member[T]
		values []T
		ds     []*Delivery
	)
	for _, m := range x.members {
		if m.err = m.over(); m.err != nil {
			continue
		}
		live, values, ds = append(live, m), append(values, m.v), append(ds, m.d)
	}
	if len(live) == 0 {
		return
	}
	for _, m := range live {
		m.err = errGone // unless something better is known
	}
	together, end := whileAny(ctx, live)
	defer end()
	together, span := trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(together, "process batch "+live[0].d.Topic,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindInternal), trace.WithLinks(links(live)...))
	defer span.End()
	errs, err := b.call(together, values, ds)
	for i, m := range live {
		m.err = err
		if err == nil && errs != nil {
			m.err = errs[i]
		}
	}
}

// errGone is what the others hear when a handler ends its goroutine.
var errGone = errors.New("the batch handler ended its goroutine")

func (b *batcher[T]) call(ctx context.Context, values []T, ds []*Delivery) (errs []error, err error) {
	n := len(values)
	defer func() {
		if v := recover(); v != nil {
			err = &concurrency.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	errs = b.f(ctx, values, ds)
	if errs != nil && len(errs) != n {
		return nil, fmt.Errorf("the batch handler returned %d errors for %d messages: return one for each, or nil", len(errs), n)
	}
	return errs, nil
}

// links are to the spans of the members, which the span of the batch has
// instead of a parent.
func links[T any](members []*member[T]) []trace.Link {
	var ls []trace.Link
	for _, m := range members {
		if m.span.IsValid() {
			ls = append(ls, trace.Link{SpanContext: m.span})
		}
	}
	return ls
}

// whileAny returns a context with the values of ctx that ends when those of
// all members have.
func whileAny[T any](ctx context.Context, members []*member[T]) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var (
		mu   sync.Mutex
		left = len(members)
	)
	stops := make([]func() bool, len(members))
	for i, m := range members {
		stops[i] = m.after(func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel(m.over())
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}
