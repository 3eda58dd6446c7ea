package messaging

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// burial is a delivery whose dead letter is not held yet.
type burial struct {
	letter driver.Message
	err    error // of the handler
	span   timed
	tries  int
	pause  concurrency.Backoff
}

// bury begins the burial of it, whose handler failed for good.
func (s *session) bury(it *item, err error, span timed) verdict {
	m := it.raw.Message
	m.Topic = s.c.deadLetter(it.d.Topic)
	m.Headers = it.stamp(err)
	m.Headers.Set(wire.Dead, time.Now().UTC().Format(time.RFC3339Nano))
	it.dead = &burial{letter: m, err: err, span: span}
	return s.publishDead(it)
}

// publishDead has the original acked only when its dead letter is held. Until
// then, however long that takes, the lane waits, and no worker for it.
func (s *session) publishDead(it *item) verdict {
	b, tel := it.dead, s.c.broker.tel
	ctx, m := b.span.ctx, &b.letter
	b.tries++
	var failure error
	if errs := s.c.broker.driver.Publish(ctx, []driver.Message{*m}); len(errs) == 1 {
		failure = errs[0]
	} else {
		failure = fmt.Errorf("%w: the driver answered for %d of 1 messages", ErrUnknown, len(errs))
	}
	if failure == nil {
		tel.log.LogAttrs(ctx, slog.LevelError, "messaging: dead letter", append(it.attrs(b.err), slog.String("to", m.Topic))...)
		return s.buried(it, verdict{action: driver.Ack, outcome: outcomeDead})
	}
	failure = fmt.Errorf("message %q at %s cannot be published to %q, its key waits: %w", it.d.ID, it.d.Position, m.Topic, failure)
	s.c.setTrouble(it.deadTrouble(), failure)
	tel.log.LogAttrs(ctx, slog.LevelError, "messaging: dead letter not held", append(it.attrs(b.err), slog.Any("failure", failure))...)
	if ctx.Err() != nil {
		return s.buried(it, verdict{action: driver.Requeue, outcome: outcomeRequeued})
	}
	if errors.Is(failure, ErrTooLarge) { // the room that Publish leaves was used up by another producer
		m.Headers.Set(wire.Error, "")
	}
	return verdict{bury: true, delay: b.pause.Delay(b.tries)}
}

// buried ends the burial of it, one way or the other.
func (s *session) buried(it *item, v verdict) verdict {
	s.c.setTrouble(it.deadTrouble(), nil)
	it.dead.span.processed(v.outcome, it.dead.err)
	it.dead = nil
	return v
}

func (it *item) deadTrouble() string { return "dead letter " + it.d.Position }
