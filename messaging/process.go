package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// What became of a delivery, in telemetry.
const (
	outcomeAcked     = "acked"
	outcomeDiscarded = "discarded"
	outcomeRetried   = "retried"
	outcomeDead      = "dead"
	outcomeRequeued  = "requeued"
	outcomeRevoked   = "revoked"
)

// open reads the reserved headers of a delivery and takes them off.
func (c *Consumer) open(raw *driver.Delivery, now time.Time) *item {
	h := raw.Headers
	it := &item{raw: *raw, since: now}
	it.d = &it.own
	d := it.d
	*d = Delivery{
		Message: Message(raw.Message), Group: c.group, FirstSeen: raw.FirstSeen,
		Origin: h.Get(wire.Origin), LastError: h.Get(wire.Error), Position: raw.Lane + "@" + raw.Position, native: raw.Native,
	}
	used := 0
	// A dead letter, and what another group has tried, begin anew.
	if h.Get(wire.Group) == c.group && h.Get(wire.Dead) == "" {
		if n, err := strconv.Atoi(h.Get(wire.Attempts)); err == nil && n > 0 && n < 1e9 {
			used = n
		}
		if t, err := time.Parse(time.RFC3339Nano, h.Get(wire.FirstSeen)); err == nil {
			d.FirstSeen = t
		}
	}
	if n := raw.Note; n != nil {
		used, d.FirstSeen, d.LastError, it.until = n.Attempts, n.FirstSeen, n.LastError, n.NotBefore
	}
	d.Attempt = used + max(raw.Attempt, 1)
	if d.FirstSeen.IsZero() {
		d.FirstSeen = now
	}
	if d.Origin == "" {
		d.Origin = d.Topic
	}
	d.Headers = nil
	for _, x := range h {
		if !wire.Reserved(x.Key) {
			d.Headers = append(d.Headers, x)
		}
	}
	return it
}

// stamp returns the message's headers with what the group knows about its
// failure. The list it was read from stays as it is.
func (it *item) stamp(err error) driver.Headers {
	h := it.raw.Headers
	h.Set(wire.Attempts, strconv.Itoa(it.d.Attempt))
	h.Set(wire.FirstSeen, it.d.FirstSeen.UTC().Format(time.RFC3339Nano))
	h.Set(wire.Origin, it.d.Origin)
	h.Set(wire.Group, it.d.Group)
	h.Set(wire.Error, cut(err.Error(), wire.MaxError))
	h.Set(wire.ErrorClass, classOf(err))
	return h
}

// work runs handlers until the session is done.
func (s *session) work(ctx context.Context) {
	for {
		select {
		case x := <-s.lanes.ready:
			s.step(ctx, x)
		case <-s.done:
			return
		}
	}
}

// step does what is to be done with the first of x.
func (s *session) step(ctx context.Context, x *lane) {
	it, back := s.lanes.head(x)
	v, lost := verdict{action: driver.Requeue, outcome: outcomeRequeued}, it.isLost()
	switch {
	case !back && !lost:
		if left := it.left(); left > 0 { // it waited elsewhere
			s.lanes.away()
			s.wait(x, it, time.After(left), nil)
			return
		}
		if again := it.doubt(); again != nil {
			s.lanes.away()
			s.wait(x, it, nil, again)
			return
		}
		if it.dead == nil {
			v = s.process(ctx, it)
		} else {
			v = s.publishDead(it)
		}
	case it.dead != nil:
		if lost {
			v.outcome = outcomeRevoked
		}
		v = s.buried(it, v)
	}
	switch {
	case v.bury:
		s.lanes.away()
		s.wait(x, it, time.After(v.delay), nil)
	case v.hold:
		s.lanes.away()
		s.hold(x, it, v.delay, v.err)
	case v.action == driver.Retry:
		r := &retry{lane: x, delay: v.delay, headers: it.stamp(v.err), err: v.err}
		s.lanes.away()
		s.settles <- settlement{item: it, action: driver.Retry, retry: r}
	default:
		s.settles <- settlement{item: it, action: v.action}
		s.lanes.next(x)
	}
}

// hold lets x, on which nobody works, wait here for the next attempt of its
// first, because the broker cannot.
func (s *session) hold(x *lane, it *item, delay time.Duration, err error) {
	again := *it.d // the handler may have kept the other one
	again.Attempt++
	again.LastError = cut(err.Error(), wire.MaxError)
	it.d = &again
	if s.notes != nil {
		s.notes <- driver.Noted{Delivery: it.raw, Note: driver.Note{
			Attempts: it.d.Attempt - 1, FirstSeen: it.d.FirstSeen, NotBefore: time.Now().Add(delay), LastError: it.d.LastError,
		}}
	}
	s.wait(x, it, time.After(delay), nil)
}

// wait lets x stand still until due or again, one of them nil, and looks at it
// then as if for the first time.
func (s *session) wait(x *lane, it *item, due <-chan time.Time, again <-chan struct{}) {
	s.lanes.park(x)
	s.wg.Go(func() {
		select {
		case <-due:
		case <-again:
		case <-it.raw.Lost:
		case <-s.stop:
		}
		s.lanes.unpark(x)
	})
}

// verdict is what to do with a delivery.
type verdict struct {
	action  driver.Action
	hold    bool // wait for delay here
	bury    bool // a dead letter, or after delay again
	delay   time.Duration
	err     error
	outcome string
}

func (s *session) process(base context.Context, it *item) verdict {
	span := s.c.broker.tel.processing(s.lost.under(base, it.raw.Lost, s), it.d, it.raw.Lane)
	ctx := span.ctx
	var err error
	if most := s.c.opts.Retry.MaxAttempts; most > 0 && it.d.Attempt > most {
		err = Permanent(errAttempts)
		if it.d.LastError != "" {
			err = fmt.Errorf("%w; the last error was: %s", err, it.d.LastError)
		}
	} else {
		err = s.runs(ctx, it.d, span.start)
	}
	v := s.judge(ctx, base, it, err)
	if v.bury {
		return s.bury(it, err, span)
	}
	if isDiscard(err) {
		err = nil
	}
	span.processed(v.outcome, err)
	return v
}

// judge turns the result of the handler into what to do.
func (s *session) judge(ctx, base context.Context, it *item, err error) verdict {
	permanent, after := concurrency.Advice(err)
	p := &s.c.opts.Retry
	switch {
	case it.isLost(): // whatever the result: somebody else has the message
		return verdict{action: driver.Requeue, outcome: outcomeRevoked}
	case err == nil:
		return verdict{action: driver.Ack, outcome: outcomeAcked}
	case isDiscard(err):
		return verdict{action: driver.Ack, outcome: outcomeDiscarded}
	case base.Err() != nil: // cut off by the end of Drain, not by a fault of its own
		return verdict{action: driver.Requeue, outcome: outcomeRequeued}
	case permanent, p.MaxAttempts > 0 && it.d.Attempt >= p.MaxAttempts:
		return verdict{bury: true}
	}
	v := verdict{action: driver.Retry, err: err, delay: p.delay(it.d.Attempt), outcome: outcomeRetried}
	if after > 0 {
		v.delay = after
	}
	if tier, ok := s.c.tier(v.delay); ok {
		v.delay = tier
	} else {
		v.hold = true
	}
	s.c.broker.tel.log.LogAttrs(ctx, slog.LevelWarn, "messaging: will try again", append(it.attrs(err), slog.Duration("delay", v.delay))...)
	return v
}

// tier returns the shortest delay of the broker that is no sooner than d; ok is
// false if it has none.
func (c *Consumer) tier(d time.Duration) (tier time.Duration, ok bool) {
	for _, t := range c.sub.Delays {
		if t >= d && (!ok || t < tier) {
			tier, ok = t, true
		}
	}
	return tier, ok
}

func (it *item) attrs(err error) []slog.Attr {
	return []slog.Attr{
		slog.String("topic", it.d.Topic), slog.String("group", it.d.Group), slog.String("id", it.d.ID),
		slog.String("position", it.d.Position), slog.Int("attempt", it.d.Attempt), slog.Any("error", err),
	}
}

// runs calls the handler, and again up to Inline times. It is begin: reading the
// clock costs as much as much else.
func (s *session) runs(ctx context.Context, d *Delivery, begin time.Time) error {
	p := &s.c.opts.Retry
	for n := 1; ; n++ {
		err := s.call(ctx, d, begin)
		permanent, after := concurrency.Advice(err)
		if err == nil || n > p.Inline || permanent || after > 0 || isDiscard(err) {
			return err
		}
		t := time.NewTimer(p.Backoff.Delay(n))
		select {
		case <-t.C:
			begin = time.Now()
			continue
		case <-ctx.Done():
		case <-s.stop:
		}
		t.Stop()
		return err
	}
}

// call is one run of the handler, which begins at now. Its context ends with it.
func (s *session) call(ctx context.Context, d *Delivery, now time.Time) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &concurrency.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	h := s.c.routes[d.Topic]
	if h == nil {
		return fmt.Errorf("the driver handed out a message of topic %q, which was not asked for", d.Topic)
	}
	limit := s.c.opts.Timeout
	if limit <= 0 {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return h(ctx, d)
	}
	r := &running{Context: ctx, until: now.Add(limit)}
	defer r.end()
	if err = h(r, d); err != nil && errors.Is(context.Cause(r), errTimeout) {
		err = fmt.Errorf("%w (%s): %w", errTimeout, short(limit), err)
	}
	return err
}
