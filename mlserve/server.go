package mlserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Options of a [Server]; nil and the zero value are good defaults.
type Options struct {
	// TracerProvider, MeterProvider: nil means the global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// Logger: nil is silent.
	Logger *slog.Logger
	// Loads is how many versions may be loading at once, over all models, so
	// that loading does not starve serving; 0 means 1.
	Loads int
	// Poll is how often Run looks for new versions; 0 means 5 s.
	Poll time.Duration
	// Drain is how long a swap waits for the last request of the old version.
	// After that the version is left to its users and closed when the last of
	// them is done, never underneath one; 0 means 10 s.
	Drain time.Duration
	// MaxBody bounds the body of an HTTP request, in bytes; 0 means 8 MiB.
	MaxBody int64
	// Recorder gets every routed request; nil: none.
	Recorder *Recorder
}

// ModelOptions of one model; nil and the zero value are good defaults.
type ModelOptions struct {
	// Policy picks the versions to load; nil means Latest(1).
	Policy Policy
	// Features is the fingerprint of the feature definitions that a version's
	// manifest must carry; "": not checked.
	Features string
	// Limiter admits requests to the versions of this model, one unit each,
	// and learns from the result: a semaphore, or a breaker that spares the
	// caller the wait for a model known to fail. What it refuses goes to the
	// ladder; nil: no limit.
	Limiter concurrency.Limiter
	// Timeout bounds one request, its ladder included; 0 means 1 s.
	Timeout time.Duration
	// Ladder says what to answer, in this order, when the version is late,
	// failing or not admitted, or none serves; empty: the error.
	Ladder []Rung
	// Serving is told when another version has become the primary; nil: none.
	// It is not called for AddModel.
	Serving Serving
	// Classes is how many classes are kept apart in metrics, the first seen;
	// the rest are "other"; 0 means 10.
	Classes int
}

// Server holds models, swaps their versions and answers requests. It is safe
// for concurrent use. Its life ends with Run, which closes all models.
type Server struct {
	opts    Options
	tel     *telemetry
	entries sync.Map // string → *entry
	adding  sync.Mutex
	loading chan struct{}
	shadows chan shadowJob
	closed  atomic.Bool
}

// New makes a server without models; it starts nothing. o may be nil and is
// copied.
func New(o *Options) *Server {
	s := &Server{}
	if o != nil {
		s.opts = *o
	}
	s.opts.Loads = max(s.opts.Loads, 1)
	s.opts.Poll = positive(s.opts.Poll, 5*time.Second)
	s.opts.Drain = positive(s.opts.Drain, 10*time.Second)
	s.opts.MaxBody = positive(s.opts.MaxBody, 8<<20)
	s.tel = newTelemetry(s.opts.TracerProvider, s.opts.MeterProvider, s.opts.Logger)
	s.loading = make(chan struct{}, s.opts.Loads)
	s.shadows = make(chan shadowJob, shadowQueue)
	return s
}

func positive[T ~int | ~int64](v, standard T) T {
	if v > 0 {
		return v
	}
	return standard
}

// Add puts a model to use whose versions come from src, and returns when a
// version serves and ModelOptions.Serving has accepted it. After an error the
// model is not there, and Add may be called again. A model is added once:
// [ErrConflict]. o may be nil and is copied.
func (s *Server) Add(ctx context.Context, model string, src Source, l Loader, o *ModelOptions) error {
	if src == nil || l == nil {
		return fail("add", model, "", fmt.Errorf("%w: a source and a loader are needed", ErrInput))
	}
	e, err := s.register(model, o)
	if err != nil {
		return fail("add", model, "", err)
	}
	e.source, e.loader = src, l
	if err := e.lock(ctx); err != nil {
		s.entries.Delete(model)
		return fail("add", model, "", err)
	}
	err = e.refresh(ctx, true)
	e.unlock()
	if err != nil {
		s.remove(e)
		return fail("add", model, "", err)
	}
	e.ready.Store(true)
	return nil
}

// AddModel puts a model to use that needs no loading. Called again for the
// same model it swaps: the new version passes the same checks, becomes the
// primary, and the others are drained and closed, but for those that the
// Policy of the first call picks or a split names. o counts in the first call
// only and may be nil.
//
// The server owns m once AddModel has returned nil; after an error m still
// belongs to the caller. A version is added once: [ErrConflict].
func (s *Server) AddModel(model, version string, m Model, o *ModelOptions) error {
	if err := s.addModel(model, version, m, o); err != nil {
		return fail("add", model, version, err)
	}
	return nil
}

func (s *Server) addModel(model, version string, m Model, o *ModelOptions) error {
	if m == nil {
		return fmt.Errorf("%w: no model", ErrInput)
	}
	if err := checkName("version", version); err != nil {
		return err
	}
	e, found := s.entry(model)
	if !found {
		var err error
		if e, err = s.register(model, o); err != nil {
			return err
		}
	}
	if err := e.addFixed(version, m); err != nil {
		if !found {
			s.remove(e)
		}
		return err
	}
	e.ready.Store(true)
	return nil
}

func (s *Server) register(model string, o *ModelOptions) (*entry, error) {
	if err := checkName("model", model); err != nil {
		return nil, err
	}
	e := newEntry(s, model, o)
	s.adding.Lock()
	defer s.adding.Unlock()
	if s.closed.Load() {
		return nil, fmt.Errorf("%w: the server has ended", ErrNotReady)
	}
	if _, loaded := s.entries.LoadOrStore(model, e); loaded {
		return nil, fmt.Errorf("%w: the model is already there", ErrConflict)
	}
	return e, nil
}

func (s *Server) remove(e *entry) {
	s.entries.CompareAndDelete(e.name, e)
	e.end(0)
}

func (s *Server) entry(model string) (*entry, bool) {
	v, ok := s.entries.Load(model)
	if !ok {
		return nil, false
	}
	return v.(*entry), true
}

func (s *Server) find(op, model string) (*entry, error) {
	e, ok := s.entry(model)
	if !ok {
		return nil, &Error{Op: op, Model: model, Err: ErrNotFound}
	}
	return e, nil
}

// each lists the models by name.
func (s *Server) each() []*entry {
	var out []*entry
	s.entries.Range(func(_, v any) bool {
		out = append(out, v.(*entry))
		return true
	})
	slices.SortFunc(out, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	return out
}

// Run polls the sources, swaps, runs shadows and the recorder until ctx ends.
// Then it closes all models, each after its last request or after
// Options.Drain, writes out what the recorder holds, and returns nil. Predict
// gives [ErrNotReady] from then on, so Run is to be stopped after what calls
// it: in [concurrency.Run] it stands before the HTTP server. Run is called
// once.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range shadowWorkers {
		wg.Go(func() { s.runShadows(ctx) })
	}
	var recording sync.WaitGroup
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if s.opts.Recorder != nil {
		recording.Go(func() { s.opts.Recorder.run(stop, s.opts.Drain, s.tel) })
	}
	ticker := time.NewTicker(s.opts.Poll)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			s.poll(ctx, &wg)
		}
	}
	wg.Wait()
	s.adding.Lock()
	s.closed.Store(true)
	s.adding.Unlock()
	for _, e := range s.each() {
		wg.Go(func() { e.end(s.opts.Drain) })
	}
	wg.Wait()
	cancel()
	recording.Wait()
	return nil
}

// poll refreshes each model on a goroutine of its own, so that one slow source
// or drain holds up nobody else; what is still busy is passed over.
func (s *Server) poll(ctx context.Context, wg *sync.WaitGroup) {
	for _, e := range s.each() {
		if e.source == nil || !e.ready.Load() || !e.tryLock() {
			continue
		}
		wg.Go(func() {
			defer e.unlock()
			if err := e.refresh(ctx, false); err != nil && ctx.Err() == nil {
				s.tel.log.WarnContext(ctx, "mlserve: the serving versions stay", "model", e.name, "error", err)
			}
		})
	}
}

// Refresh does now what Run does at its next poll: looks at the source, loads,
// swaps, drains. The error says what could not be done; what served still
// serves. A version that failed before is tried again.
func (s *Server) Refresh(ctx context.Context, model string) error {
	e, err := s.find("refresh", model)
	if err != nil {
		return err
	}
	if e.source == nil {
		return nil
	}
	if err := e.lock(ctx); err != nil {
		return fail("refresh", model, "", err)
	}
	defer e.unlock()
	return fail("refresh", model, "", e.refresh(ctx, true))
}

// Load makes a version ready without giving it traffic: fetched, verified,
// loaded, found compatible, warmed up and right about its golden cases. It
// stays loaded until a Split that does not name it, or for good if the Policy
// picks it. Loading what is loaded does nothing.
func (s *Server) Load(ctx context.Context, model, version string) error {
	e, err := s.find("load", model)
	if err != nil {
		return err
	}
	if err := e.lock(ctx); err != nil {
		return fail("load", model, version, err)
	}
	defer e.unlock()
	return fail("load", model, version, e.load(ctx, version))
}

// Loaded lists the loaded versions, the primary first; nil if the model is
// not known or none serves.
func (s *Server) Loaded(model string) []Version {
	e, ok := s.entry(model)
	if !ok {
		return nil
	}
	return e.versions()
}

// Health is nil if there is a model and each has a version that serves. A
// failed load of a new version is no matter of health: the old one serves.
func (s *Server) Health(context.Context) error {
	entries := s.each()
	if len(entries) == 0 {
		return &Error{Op: "health", Err: fmt.Errorf("%w: no models", ErrNotReady)}
	}
	var errs []error
	for _, e := range entries {
		if !e.serves() {
			errs = append(errs, &Error{Op: "health", Model: e.name, Err: ErrNotReady})
		}
	}
	return errors.Join(errs...)
}

// Acquire pins a loaded version, "" meaning the primary, until the pin is
// released. [ErrNotFound] if it is not loaded.
func (s *Server) Acquire(model, version string) (*Pin, error) {
	e, err := s.find("acquire", model)
	if err != nil {
		return nil, err
	}
	for {
		st := e.state.Load()
		inst := st.primary()
		if version != "" {
			inst = st.find(version)
		}
		switch {
		case inst == nil && version == "":
			return nil, &Error{Op: "acquire", Model: model, Err: ErrNotReady}
		case inst == nil:
			return nil, &Error{Op: "acquire", Model: model, Version: version, Err: fmt.Errorf("%w: the version is not loaded", ErrNotFound)}
		case inst.acquire():
			return &Pin{model: model, inst: inst}, nil
		}
	}
}
