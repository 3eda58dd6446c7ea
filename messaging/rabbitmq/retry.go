package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// patience is how long Settle waits until the server has the copies of what is
// to be tried again. While it is short of memory or disk it takes nothing, and
// that ends only if acks go on.
const patience = time.Second

type retrying struct {
	t *ticket
	s *driver.Settlement
}

// retry publishes copies to the queues of their delays. The original is acked
// only when its copy is confirmed. When that takes longer than patience, or
// others have waited in vain, retry returns nil and leaves it to a goroutine,
// which ends with the receiver: what has no copy by then comes again at once,
// as if it had not been tried. Until then it counts against the prefetch of its
// queue. What fails when nobody waits for it ends the receiver.
func (r *receiver) retry(ctx context.Context, all []retrying) error {
	parcels, unfit := r.copies(all)
	if len(parcels) == 0 {
		return unfit
	}
	switch err := r.copy(ctx, parcels, all); {
	case unfit == nil:
		return err
	case errors.Is(err, driver.ErrRevoked):
		return unfit // what is revoked is so the next time, too
	default:
		return errors.Join(unfit, err)
	}
}

func (r *receiver) copy(ctx context.Context, parcels []parcel, all []retrying) error {
	done, left := make(chan error), make(chan struct{})
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return driver.ErrClosed
	}
	for i := range parcels {
		all[parcels[i].i].t.away = true
	}
	wait := patience
	if r.late > 0 {
		wait = 0
	}
	r.wg.Go(func() {
		err := r.send(parcels, all)
		select {
		case done <- err:
			return
		case <-left:
		}
		r.mu.Lock()
		r.late--
		r.mu.Unlock()
		if err != nil {
			r.fail(err)
		}
	})
	r.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	var err error
	select {
	case err := <-done:
		return err
	case <-t.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	r.late++
	r.mu.Unlock()
	close(left)
	return err
}

// copies makes the messages to publish, each with its place in all, and says
// what is wrong with the others.
func (r *receiver) copies(all []retrying) ([]parcel, error) {
	parcels := make([]parcel, 0, len(all))
	var errs []error
	for i, x := range all {
		m := &x.s.Delivery.Message
		p := parcel{i: i}
		delay := tier(r.sub.Delays, x.s.Delay)
		err := fmt.Errorf("no queue holds it for %v", x.s.Delay)
		if delay >= 0 {
			p.key = retryName(m.Topic, r.sub.Group, delay)
			p.Publishing, err = encode(m)
		}
		if err == nil {
			err = inFrame(&p.Publishing)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("message %q: %w", m.ID, err))
			continue
		}
		parcels = append(parcels, p)
	}
	return parcels, errors.Join(errs...)
}

// send publishes copies, until the receiver ends, and acks their originals. The
// others may be sent again.
func (r *receiver) send(parcels []parcel, all []retrying) error {
	ctx, cancel := r.lasting(0)
	defer cancel()
	r.broker.pub.send(ctx, parcels)
	acks := make(map[*lane][]*ticket)
	var failed []error
	for i := range parcels {
		p := &parcels[i]
		t := all[p.i].t
		if p.err == nil {
			acks[t.lane] = append(acks[t.lane], t)
		} else {
			failed = append(failed, fmt.Errorf("message %q to queue %q: %w", p.MessageId, p.key, p.err))
		}
	}
	refused := r.ack(acks)
	r.mu.Lock()
	for i := range parcels {
		all[parcels[i].i].t.away = false
	}
	r.mu.Unlock()
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return refused
}

// tier returns the shortest of delays that is no sooner than d, or -1.
func tier(delays []time.Duration, d time.Duration) time.Duration {
	best := time.Duration(-1)
	for _, t := range delays {
		if t >= d && (best < 0 || t < best) {
			best = t
		}
	}
	return best
}
