package saga

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options are a runner's settings. Zero fields are defaults.
type Options struct {
	// TracerProvider makes a span of every call; nil is OpenTelemetry's global one.
	TracerProvider trace.TracerProvider
	// MeterProvider counts and times calls; nil is OpenTelemetry's global one.
	MeterProvider metric.MeterProvider
	// Logger gets what an operator should know: parked sagas, overdue ones,
	// store failures. Nil is silent.
	Logger *slog.Logger

	// Concurrency is how many calls of actions and compensations run at a time;
	// 64. Sagas that wait or poll do not count; up to 16 times as many are held.
	Concurrency int
	// Lease is how long the runner's heartbeat keeps its sagas from others; 15 s.
	// It beats three times in that time.
	Lease time.Duration
	// Drain is how long calls in flight may go on when Run's context ends,
	// before their contexts end too; 20 s.
	Drain time.Duration
	// Intercept, if not nil, runs around every call of an action or a
	// compensation, to limit, trace or disturb it. Next makes the call; what
	// Intercept returns counts as the call's error, so nil without a successful
	// next is an error. It must not keep next after it returns, except in tests.
	Intercept func(ctx context.Context, c Call, next func(context.Context) error) error
}

// Runner executes sagas. Its methods are safe for concurrent use, and all but
// Health work whether or not Run is running, also in a process that never runs
// it and only starts sagas for others to execute.
type Runner struct {
	store  Store
	opts   Options
	defs   map[Shape]AnyDefinition
	shapes []Shape
	tel    *telemetry
	commit committer
	slots  chan struct{} // one token per call in flight
	nudge  chan struct{} // look for sagas to claim now

	mu      sync.Mutex
	session *session // of the Run in progress that takes sagas; nil if none
	running bool
	held    map[string]*execution // also those ending
	watch   map[string]*watcher
}

// session is one Run: its owner name and its goroutines.
type session struct {
	owner    string
	launch   func(*execution) // on a goroutine that Run waits for
	stopping chan struct{}

	// Under Runner.mu.
	beat time.Time // when the last successful heartbeat was sent
	term int       // counts the leases: one that ended is followed by another
	// Of the last Create or Claim whose answer was lost, zero if all is known,
	// and of the last search for what it brought.
	doubted, searched time.Time
}

// NewRunner returns a runner of these definitions over a store. It does no I/O.
// It refuses a definition whose Err is not nil, and two of the same name and
// version; the error matches [ErrDefinition].
func NewRunner(s Store, o *Options, defs ...AnyDefinition) (*Runner, error) {
	r := &Runner{
		store: s,
		defs:  map[Shape]AnyDefinition{},
		nudge: make(chan struct{}, 1),
		held:  map[string]*execution{},
		watch: map[string]*watcher{},
	}
	if o != nil {
		r.opts = *o
	}
	o = &r.opts
	if s == nil {
		return nil, &Error{Err: errors.New("NewRunner needs a store")}
	}
	if o.Concurrency < 0 || o.Lease < 0 || o.Drain < 0 {
		return nil, &Error{Err: errors.New("options: Concurrency, Lease and Drain must not be negative")}
	}
	o.Concurrency = orDefault(o.Concurrency, 64)
	o.Lease = orDefault(o.Lease, 15*time.Second)
	o.Drain = orDefault(o.Drain, 20*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	versions := map[string]bool{}
	for _, d := range defs {
		if d == nil {
			return nil, &Error{Err: fmt.Errorf("%w: nil", ErrDefinition)}
		}
		if err := d.Err(); err != nil {
			return nil, err
		}
		version := fmt.Sprintf("%s version %d", d.Name(), d.Version())
		if versions[version] {
			return nil, &Error{Definition: d.Name(), Err: fmt.Errorf("%w: %s is given twice", ErrDefinition, version)}
		}
		versions[version] = true
		r.defs[d.Shape()] = d
		r.shapes = append(r.shapes, d.Shape())
	}
	r.slots = make(chan struct{}, o.Concurrency)
	r.commit = committer{store: s, lead: make(chan struct{}, 1)}
	var err error
	if r.tel, err = newTelemetry(o); err != nil {
		return nil, &Error{Err: fmt.Errorf("make instruments: %w", err)}
	}
	return r, nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Run claims the sagas of its definitions that nobody executes, those of a
// crashed process among them, and executes them and all that are started
// meanwhile. When ctx ends, it starts no more calls, gives those in flight
// Options.Drain, then ends their contexts, waits for them to return, hands its
// sagas back and returns nil. Other errors are fatal: the store refused the
// first heartbeat, or Run is running already.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.running {
		r.mu.Unlock()
		return &Error{Err: errors.New("Run is running already")}
	}
	r.running = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running = false
		r.mu.Unlock()
	}()

	calls, endCalls := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endCalls(nil)
	var wg sync.WaitGroup
	s := &session{owner: rand.Text(), stopping: make(chan struct{})}
	s.launch = func(x *execution) { wg.Go(func() { x.run(calls) }) }
	if err := r.heartbeat(ctx, s); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return &Error{Err: fmt.Errorf("first heartbeat: %w", err)}
	}
	r.mu.Lock()
	r.session = s
	r.mu.Unlock()

	// The heartbeat outlasts ctx: while sagas drain, they are still ours.
	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	var beats sync.WaitGroup
	beats.Go(func() { r.keepBeating(beating, s) })

	r.keepClaiming(ctx, calls, s)

	r.mu.Lock()
	r.session = nil
	r.mu.Unlock()
	close(s.stopping)
	drain := time.AfterFunc(r.opts.Drain, func() { endCalls(errDrained) })
	wg.Wait()
	drain.Stop()
	stopBeating()
	beats.Wait()
	// Give up what could not be handed back. Nothing depends on it.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := r.store.Beat(end, s.owner, 0); err != nil {
		r.opts.Logger.WarnContext(end, "saga: last heartbeat failed; others wait for the lease to end", "error", err)
	}
	return nil
}

var errDrained = errors.New("saga: the runner is stopping")

// Health returns nil if Run is executing sagas and its heartbeat is held, for a
// readiness probe.
func (r *Runner) Health(context.Context) error {
	r.mu.Lock()
	s := r.session
	r.mu.Unlock()
	if s == nil {
		return &Error{Err: errors.New("the runner is not running")}
	}
	if _, held := r.lease(s); !held {
		return &Error{Err: fmt.Errorf("no heartbeat has reached the store for %v", r.opts.Lease)}
	}
	return nil
}
