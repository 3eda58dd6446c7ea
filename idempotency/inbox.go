package idempotency

import (
	"context"

	"github.com/mainstay-go/mainstay/messaging"
)

// DeliveryKey is the key of a message for one consumer group: its scope is the
// group and the topic the message was first published to, its ID the message's.
// It stays the same across redelivery, retries, dead letter and redrive. A
// message without an ID has no usable key ([ErrKey]).
func DeliveryKey(d *messaging.Delivery) Key {
	origin := d.Origin
	if origin == "" {
		origin = d.Topic
	}
	return Key{Scope: escape(d.Group, false) + "/" + escape(origin, false), ID: d.ID}
}

// Once returns a handler that runs h once per message and group: the inbox. It
// is what messaging.ConsumerOptions.Inbox calls; for a single route it is a
// messaging.Middleware.
//
// A message whose handler has succeeded is settled without running h again. One
// that h is handling elsewhere is put off until the lease there ends
// (messaging.RetryAfter), which counts as a delivery. An error of h is returned
// as it is, and gives the key back; so does messaging.Discard. If the store
// cannot be asked, the error goes to the retry policy and h does not run, unless
// Options.FailOpen is set. A message without an ID is messaging.Permanent.
//
// When h has succeeded and the store does not record it, the message is settled
// nevertheless, and the failure logged: to return an error would surely run h
// again, while a duplicate may never come.
//
// The key is DeliveryKey(d).Child("inbox"), so that h is free to use
// DeliveryKey for an effect of its own.
func (g *Guard) Once(h messaging.Handler) messaging.Handler {
	return func(ctx context.Context, d *messaging.Delivery) error {
		key := DeliveryKey(d).Child("inbox")
		ctx, call := g.telemetry.start(ctx, entryOnce, key)
		defer call.end()

		out, err := g.begin(ctx, key)
		switch {
		case err != nil:
			call.refused(err)
			return err // marked permanent, or with the time to come back, by begin
		case out.State == Done:
			call.is(replayed)
			return nil
		case out.State != Acquired:
			call.is(unguarded)
			return h(ctx, d)
		}

		var failed error
		err = g.hold(ctx, out.Token, func(ctx context.Context) ([]byte, bool) {
			failed = h(ctx, d)
			return nil, failed == nil
		})
		switch {
		case failed != nil:
			call.is(failedRun)
			return failed
		case err != nil:
			call.is(unrecorded)
			g.telemetry.warn(ctx, "handled, but not recorded", key, err)
		default:
			call.is(ran)
		}
		return nil
	}
}
