package sagatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

const (
	sagaID = "explored"
	week   = 7 * 24 * time.Hour
	// lease is the runners'; virtual time makes its length cheap.
	lease = 15 * time.Second
)

var (
	errCrashed  = errors.New("sagatest: the process has crashed")
	errInjected = errors.New("sagatest: injected")
)

// world is one run of one saga, over as many processes as it takes.
type world[S any] struct {
	c     Case[S]
	store saga.Store
	end   End[S]

	operator *saga.Runner

	// turn is held during a step: one that a process was in when it crashed may
	// still be under way when its successor comes to it, and the user's world
	// need not be safe for concurrent use. A channel, because waiting for a mutex
	// stops virtual time.
	turn chan struct{}

	mu       sync.Mutex
	faults   schedule
	seen     map[point]int // how often each point's place was passed; n is 0
	points   []point
	log      []string
	overdue  bool
	over     bool // no fault happens any more
	violated error
	zombies  []*process[S]
}

// process is one runner and its view of the store. It ends at once when it
// crashes: nothing it does after that reaches the store or a step.
type process[S any] struct {
	w      *world[S]
	gone   chan struct{} // closed when it crashes or freezes
	thaw   chan struct{} // closed to let a frozen one go on
	cancel context.CancelFunc
	ended  chan error

	// Of one that is cut off.
	runner   *saga.Runner
	occupied chan struct{} // closed when the other saga has the only slot
	free     chan struct{} // closed to let it go

	mu        sync.Mutex
	dead      bool
	frozen    bool
	occupying string // the ID of the other saga
	back      bool   // it was cut off, and is no more
}

// live runs the saga to its end, with a new process after each crash.
func (w *world[S]) live(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, week, fmt.Errorf("the saga has not ended within %v", week))
	defer cancel()
	var err error
	// An operator looks and resumes from a process of their own, without faults.
	if w.operator, err = saga.NewRunner(w.store, nil, w.c.Definition); err != nil {
		return err
	}
	resumed := false
	for {
		p, runner, err := w.boot(ctx)
		if err != nil {
			return err
		}
		over, err := w.until(ctx, p, runner, &resumed)
		if over || err != nil {
			w.calm()
		}
		if !over {
			if err != nil {
				p.shutDown()
				return errors.Join(err, w.bury())
			}
			continue // it crashed or froze
		}
		p.shutDown()
		if err := errors.Join(err, w.bury()); err != nil {
			return err
		}
		return w.check()
	}
}

// until waits for the saga's end or the process's. A parked saga is checked and
// resumed once.
func (w *world[S]) until(ctx context.Context, p *process[S], runner *saga.Runner, resumed *bool) (over bool, err error) {
	for {
		done := make(chan error, 1)
		waiting, stop := context.WithCancel(ctx)
		go func() {
			err := w.c.Definition.Start(waiting, runner, sagaID, w.c.Input)
			if err == nil {
				w.end.State, err = w.c.Definition.Wait(waiting, runner, sagaID)
			}
			done <- err
		}()
		select {
		case <-p.gone:
			stop()
			<-done //nolint:errcheck // its process is gone
			if !p.isFrozen() {
				p.shutDown()
			}
			return false, nil
		case err = <-done:
			stop()
		}
		if p.isGone() {
			if !p.isFrozen() {
				p.shutDown()
			}
			return false, nil
		}
		if errors.Is(err, errInjected) {
			continue // whoever started it asks again
		}
		info, getErr := w.operator.Get(ctx, sagaID)
		if getErr != nil || info.Status.Active() {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			return false, errors.Join(err, getErr)
		}
		w.end.Status = info.Status
		w.overdue = w.overdue || strings.Contains(info.Err, "deadline")
		if info.Status != saga.Parked || *resumed {
			w.end.Parked = ""
			if info.Status == saga.Parked {
				w.end.Parked = info.Step
			}
			return true, nil
		}
		*resumed = true
		w.end.Parked = info.Step
		w.notef("parked at %s: %s", info.Step, info.Err)
		if err := w.check(); err != nil {
			return true, err
		}
		w.heal()
		if err := w.operator.Resume(ctx, sagaID); err != nil {
			return true, err
		}
	}
}

// heal ends the faults that last.
func (w *world[S]) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left schedule
	for _, f := range w.faults {
		if f.kind != unknownDone && f.kind != unknownNotDone {
			left = append(left, f)
		}
	}
	w.faults = left
}

func (w *world[S]) check() error {
	w.mu.Lock()
	err := w.violated
	w.mu.Unlock()
	if err == nil && w.c.Check != nil {
		if err = w.c.Check(w.end); err != nil {
			err = fmt.Errorf("ended %v: %w", w.end.Status, err)
		}
	}
	return err
}

// boot starts a process.
func (w *world[S]) boot(ctx context.Context) (*process[S], *saga.Runner, error) {
	p := &process[S]{
		w: w, gone: make(chan struct{}), thaw: make(chan struct{}), ended: make(chan error, 1),
		occupied: make(chan struct{}), free: make(chan struct{}),
	}
	var err error
	p.runner, err = saga.NewRunner(&link[S]{p}, &saga.Options{
		Concurrency: 1, Lease: lease, Drain: time.Nanosecond, Intercept: p.intercept,
	}, w.c.Definition, p.occupier())
	if err != nil {
		return nil, nil, err
	}
	ctx, p.cancel = context.WithCancel(ctx)
	go func() { p.ended <- p.runner.Run(ctx) }()
	synctest.Wait() // it takes what is started, or has claimed what was
	return p, p.runner, nil
}

func (p *process[S]) shutDown() {
	p.cancel()
	<-p.ended //nolint:errcheck // what Run says of a process that crashed does not matter
}

// bury lets the frozen processes go on, and waits for them to end.
func (w *world[S]) bury() error {
	for _, p := range w.zombies {
		close(p.thaw)
		p.comeBack()
		p.shutDown()
	}
	return nil
}

func (p *process[S]) leave(frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead && !p.frozen {
		p.dead, p.frozen = !frozen, frozen
		close(p.gone)
	}
}

func (p *process[S]) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead || p.frozen
}

func (p *process[S]) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

func (w *world[S]) notef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, "  "+fmt.Sprintf(format, args...))
}

// calm ends all faults: what the processes do while they are shut down is not
// explored.
func (w *world[S]) calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// violate notes what must not happen.
func (w *world[S]) violate(format string, args ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violated = fmt.Errorf(format, args...)
	return w.violated
}

// pass numbers a point and returns the fault that is scheduled there, if any.
func (w *world[S]) pass(at point) (point, kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[at]++
	p := at
	p.n = w.seen[at]
	if w.over {
		return p, ""
	}
	w.points = append(w.points, p)
	var hit kind
	for _, f := range w.faults {
		lasting := f.kind == unknownDone || f.kind == unknownNotDone || f.kind == reject
		if f.at == p || lasting && f.at.step == p.step && f.at.op == p.op && f.at.n <= p.n {
			hit = f.kind
		}
	}
	line := "  " + p.String()
	if hit != "" {
		line += "  ← " + string(hit)
	}
	w.log = append(w.log, line)
	return p, hit
}

// intercept disturbs calls.
func (p *process[S]) intercept(ctx context.Context, c saga.Call, next func(context.Context) error) error {
	if p.isGone() {
		return errCrashed
	}
	if c.Saga != sagaID {
		return next(ctx)
	}
	if p.isBack() {
		return p.w.violate("call %d of the %s of %q was begun by a runner whose sagas another had finished while it waited for its turn", c.Attempt, c.Op, c.Step)
	}
	at, hit := p.w.pass(point{step: c.Step, op: c.Op})
	step := next
	next = func(ctx context.Context) error {
		select {
		case p.w.turn <- struct{}{}:
			defer func() { <-p.w.turn }()
			return step(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	switch hit {
	case reject:
		return saga.Reject(fmt.Errorf("%w rejection at %s", errInjected, at))
	case failsBefore, unknownNotDone:
		return fmt.Errorf("%w failure at %s", errInjected, at)
	case failsAfter, unknownDone:
		if err := next(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: the answer of %s is lost", errInjected, at)
	case duplicate:
		if err := next(ctx); err != nil {
			return err
		}
		return next(ctx)
	default:
		return next(ctx)
	}
}
