package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

// grace is what is added to Drain for handlers to see that their context has
// ended.
const grace = time.Second

// Run takes messages and handles them until ctx ends; then it drains, within
// ConsumerOptions.Drain, and returns nil. It owns its goroutines: none is left
// when it returns, except handlers that ignore the end of their context, and
// then the error says how many. Lost connections are made anew for as long as it
// takes, and Health says so. Any other return is fatal: ErrConfig if it is
// running already, a missing topic, a broker that cannot be reached at start or
// was closed.
func (c *Consumer) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return c.fail("consume", configf("this consumer is running already: make another one for another member"))
	}
	c.running = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running = false
		clear(c.trouble)
		c.mu.Unlock()
	}()
	if err := c.prepare(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	defer c.broker.tel.watch(c)()
	var pause concurrency.Backoff
	for failures := 0; ; {
		r, err := c.broker.driver.Subscribe(ctx, c.sub)
		if err != nil && (failures == 0 || errors.Is(err, driver.ErrClosed)) {
			return unlessEnded(ctx, c.fail("consume", err))
		}
		if err == nil {
			c.setTrouble("receive", nil)
			var progress bool
			progress, err = c.session(ctx, r)
			if progress {
				failures = 0
			}
		}
		if ctx.Err() != nil && !errors.Is(err, errStuck) {
			return nil
		}
		if errors.Is(err, driver.ErrClosed) || errors.Is(err, errStuck) {
			return c.fail("consume", err)
		}
		failures++
		c.setTrouble("receive", err)
		c.broker.tel.log.LogAttrs(ctx, slog.LevelWarn, "messaging: subscribing anew",
			slog.String("group", c.group), slog.Any("error", err), slog.Int("failures", failures))
		select {
		case <-time.After(pause.Delay(failures)):
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Consumer) prepare(ctx context.Context) error {
	switch c.broker.opts.Topology {
	case Declare:
		return c.Declare(ctx)
	case Trust:
		return nil
	}
	d, ok := c.broker.driver.(driver.Declarer)
	if !ok {
		return nil
	}
	if err := d.Verify(ctx, c.sub); err != nil {
		return c.fail("verify", fmt.Errorf("%w (set Options.Topology to Declare, or call Consumer.Declare, to make what is missing)", err))
	}
	return nil
}

// unlessEnded returns nil if ctx has ended, which is how Run is told to stop.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

var errStuck = errors.New("handlers ignore the end of their context and still run")

// session is the life of one receiver. Its goroutines are the caller's, which
// receives; Concurrency workers, which run handlers; the settler; the noter,
// where the broker remembers what waits here; one for each
// assignment that may be revoked; and one for each message that waits here for
// its retry. All end with it.
type session struct {
	c     *Consumer
	recv  driver.Receiver
	lanes *lanes
	lost  revocations

	settles chan settlement
	notes   chan driver.Noted // nil: the broker remembers nothing
	stop    chan struct{}     // closed: wait no longer; nothing begins any more
	done    chan struct{}     // closed: nothing is left to do
	wg      sync.WaitGroup
}

// session returns why receiving ended, and whether anything was received.
func (c *Consumer) session(ctx context.Context, r driver.Receiver) (progress bool, err error) {
	room := (1 + heldFactor) * c.opts.Prefetch
	s := &session{
		c: c, recv: r, lanes: newLanes(&c.opts, room),
		settles: make(chan settlement, room), stop: make(chan struct{}), done: make(chan struct{}),
	}
	c.setLanes(s.lanes)
	defer c.setLanes(nil)
	values := context.WithoutCancel(ctx)
	working, kill := context.WithCancelCause(values)
	defer kill(nil)
	settling, giveUp := context.WithCancel(values)
	defer giveUp()
	receiving, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	for range c.opts.Concurrency {
		s.wg.Go(func() { s.work(working) })
	}
	s.wg.Go(func() { s.settler(settling, working.Done(), interrupt) })
	if n, ok := r.(driver.Noter); ok && c.broker.driver.Capabilities().Notes {
		s.notes = make(chan driver.Noted, room)
		s.wg.Go(func() { s.noter(values, n) })
	}

	progress, err = s.receive(receiving)
	empty := s.lanes.finish()
	close(s.stop) // after finish: who waits for a retry must find, on waking up, that it is to be given back
	left := waitFor(empty, c.opts.Drain)
	if left {
		kill(errDrained)
		left = waitFor(empty, grace)
	}
	giveUp()
	close(s.done)
	if left {
		err = fmt.Errorf("%w: %d of them, %v after they were told to stop", errStuck, s.lanes.running(), grace)
	} else {
		s.wg.Wait()
	}
	closing, cancel := context.WithTimeout(values, max(c.opts.Drain, grace))
	defer cancel()
	if cerr := r.Close(closing); cerr != nil {
		c.broker.tel.log.WarnContext(values, "messaging: leaving the group", slog.String("group", c.group), slog.Any("error", cerr))
	}
	return progress, err
}

// waitFor reports whether c is still open after d.
func waitFor(c <-chan struct{}, d time.Duration) (open bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return false
	case <-t.C:
		return true
	}
}

func (s *session) receive(ctx context.Context) (progress bool, err error) {
	for {
		n := s.lanes.room(ctx)
		if n == 0 {
			return progress, context.Cause(ctx)
		}
		seq := s.lanes.ask()
		ds, err := s.recv.Receive(ctx, n)
		if err != nil {
			return progress, err
		}
		if len(ds) > n {
			return progress, fmt.Errorf("the driver was asked for %d messages and handed out %d", n, len(ds))
		}
		progress = true
		items, now := make([]*item, len(ds)), time.Now()
		for i := range ds {
			items[i] = s.c.open(&ds[i], now)
		}
		s.lanes.dispatch(items, seq)
	}
}

// settlement is a decision on its way to the broker.
type settlement struct {
	item   *item
	action driver.Action
	retry  *retry // Retry only
}

// retry is what there is more to know of one.
type retry struct {
	lane    *lane // stands still until the broker knows
	delay   time.Duration
	headers driver.Headers // of the next delivery
	err     error          // of the handler
}

func (x *settlement) raw() driver.Settlement {
	s := driver.Settlement{Delivery: x.item.raw, Action: x.action}
	if x.retry != nil {
		s.Delay, s.Delivery.Headers = x.retry.delay, x.retry.headers
	}
	return s
}

// settler tells the broker, everything there is at a time. While it cannot, its
// messages count as held, so that no more are taken: nothing is given up
// silently.
func (s *session) settler(ctx context.Context, killed <-chan struct{}, interrupt context.CancelCauseFunc) {
	const most = 256
	var (
		batch []settlement
		raw   []driver.Settlement
		items []*item
	)
	for {
		select {
		case x := <-s.settles:
			batch, raw = append(batch[:0], x), append(raw[:0], x.raw())
		case <-s.done:
			return
		}
	more:
		for len(batch) < most {
			select {
			case x := <-s.settles:
				batch, raw = append(batch, x), append(raw, x.raw())
			default:
				break more
			}
		}
		err := s.tell(ctx, raw, killed)
		if errors.Is(err, driver.ErrTooLarge) {
			batch, err = s.holdBack(ctx, batch, killed)
		}
		if err != nil {
			interrupt(err) // the receiver's end delivers again what it does not know
		}
		items = items[:0]
		for i := range batch {
			if r := batch[i].retry; r != nil {
				s.lanes.back(r.lane)
			}
			items = append(items, batch[i].item)
		}
		s.lanes.settled(items...)
		clear(items)
		clear(batch)
		clear(raw)
	}
}

// holdBack finds the retries of batch whose copies are larger than the broker
// takes, lets them wait here, and returns the others. What took effect before
// is settled again, and ignored.
func (s *session) holdBack(ctx context.Context, batch []settlement, killed <-chan struct{}) (others []settlement, err error) {
	others = batch[:0]
	for _, x := range batch {
		one := s.tell(ctx, []driver.Settlement{x.raw()}, killed)
		if r := x.retry; r != nil && errors.Is(one, driver.ErrTooLarge) {
			s.c.broker.tel.log.LogAttrs(ctx, slog.LevelWarn, "messaging: the broker cannot hold the retry, it waits here",
				append(x.item.attrs(r.err), slog.Any("refusal", one))...)
			s.hold(r.lane, x.item, r.delay, r.err)
			continue
		}
		if err == nil {
			err = one
		}
		others = append(others, x)
	}
	clear(batch[len(others):])
	return others, err
}

// tell tries for some 20 seconds, and ErrTooLarge once.
func (s *session) tell(ctx context.Context, raw []driver.Settlement, killed <-chan struct{}) error {
	var pause concurrency.Backoff
	for n := 1; ; n++ {
		err := s.recv.Settle(ctx, raw)
		if errors.Is(err, driver.ErrRevoked) {
			err = nil
		}
		if err == nil || errors.Is(err, driver.ErrTooLarge) {
			if n > 1 {
				s.c.setTrouble("settle", nil)
			}
			return err
		}
		s.c.setTrouble("settle", err)
		if n >= 10 || errors.Is(err, driver.ErrClosed) || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause.Delay(n)):
		case <-killed:
			return err
		}
	}
}

// revocations are the contexts of what may be lost, one for each assignment,
// however many messages it has.
type revocations struct {
	mu sync.Mutex
	by map[<-chan struct{}]context.Context
}

// under returns a context of base that ends with ErrRevoked when lost is closed.
func (r *revocations) under(base context.Context, lost <-chan struct{}, s *session) context.Context {
	if lost == nil {
		return base
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx, ok := r.by[lost]; ok {
		return ctx
	}
	if r.by == nil {
		r.by = make(map[<-chan struct{}]context.Context)
	}
	ctx, cancel := context.WithCancelCause(base)
	r.by[lost] = ctx //nolint:fatcontext // a map, and it is emptied
	s.wg.Go(func() {
		select {
		case <-lost:
			cancel(ErrRevoked)
		case <-s.done:
			cancel(nil)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.by, lost)
	})
	return ctx
}
