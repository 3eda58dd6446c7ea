package messaging

import (
	"context"
	"errors"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Handler does the work of one message. Nil settles the message; an error goes
// to the RetryPolicy, unless it is marked with Permanent, RetryAfter or
// Discard; a panic is an error. The context ends after ConsumerOptions.Timeout,
// when the message is revoked (context.Cause is ErrRevoked) and when draining
// takes too long; a handler that ignores it blocks its key. Handlers of
// different keys run at the same time.
type Handler func(ctx context.Context, d *Delivery) error

// Middleware wraps a handler. It runs inside retry and inbox: it sees each run,
// and only those that take effect.
type Middleware func(Handler) Handler

// Permanent marks err: trying again cannot help, the message becomes a dead
// letter now. It is concurrency.Permanent; nil stays nil.
func Permanent(err error) error { return concurrency.Permanent(err) }

// RetryAfter marks err: the next delivery comes no sooner than d from now. It
// counts as an attempt. It is concurrency.RetryAfter; nil stays nil.
func RetryAfter(err error, d time.Duration) error { return concurrency.RetryAfter(err, d) }

// Discard returns an error that settles the message without effect, for a
// message that is valid and not wanted. Discarded messages are counted apart.
func Discard(reason string) error { return &discarded{reason} }

type discarded struct{ reason string }

func (d *discarded) Error() string { return "discarded: " + d.reason }

func isDiscard(err error) bool {
	_, ok := errors.AsType[*discarded](err)
	return ok
}

// Route ties a topic to its handler. It is made by On, Topic.On or
// Topic.OnBatch, and is
// a value: With returns another.
type Route struct {
	topic   string
	handler Handler
	batch   *batching // nil: one by one
}

// On routes the messages of topic to h as they are, undecoded.
func On(topic string, h Handler) Route { return Route{topic: topic, handler: h} }

// With returns r with mw around its handler, the first outermost, outside of
// what earlier calls of With put there.
func (r Route) With(mw ...Middleware) Route {
	for i := len(mw) - 1; i >= 0 && r.handler != nil; i-- {
		r.handler = mw[i](r.handler)
	}
	return r
}
