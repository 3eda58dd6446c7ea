package messaging

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// noter writes down what waits here, everything there is at a time, so that
// whoever gets it after a crash knows how often it was tried and how long it
// waits. The waiting does not wait for it.
func (s *session) noter(ctx context.Context, to driver.Noter) {
	const most = 256
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ended := make(chan struct{})
	defer close(ended)
	s.wg.Go(func() { // a broker that is away must not hold up the end
		select {
		case <-s.done:
			if waitFor(ended, grace) {
				giveUp()
			}
		case <-ended:
		}
	})
	var batch []driver.Noted
	for over := false; !over; {
		batch = batch[:0]
		select {
		case n := <-s.notes:
			batch = append(batch, n)
		case <-s.done:
			over = true
		}
	more:
		for over || len(batch) < most {
			select {
			case n := <-s.notes:
				batch = append(batch, n)
			default:
				break more
			}
		}
		if len(batch) > 0 {
			s.note(ctx, to, batch)
		}
		clear(batch)
	}
}

// note tries for some seconds, once when the session is done.
func (s *session) note(ctx context.Context, to driver.Noter, batch []driver.Noted) {
	var pause concurrency.Backoff
	for n := 1; ; n++ {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := to.Note(once, batch)
		cancel()
		if err == nil || errors.Is(err, driver.ErrRevoked) || errors.Is(err, driver.ErrClosed) {
			s.c.setTrouble("note", nil)
			return
		}
		ended := n >= 5
		select {
		case <-s.done:
			ended = true
		default:
		}
		if ended {
			s.c.setTrouble("note", err)
			s.c.broker.tel.log.LogAttrs(ctx, slog.LevelWarn, "messaging: retries that wait here are not noted, a restart counts their attempts anew",
				slog.String("group", s.c.group), slog.Int("messages", len(batch)), slog.Any("error", err))
			return
		}
		select {
		case <-time.After(pause.Delay(n)):
		case <-s.done:
		}
	}
}
