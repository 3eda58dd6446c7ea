package mlserve

import (
	"context"
	"io/fs"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options of a [Server]; nil and the zero value are good defaults.
type Options struct {
	// TracerProvider, MeterProvider: nil means the global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// Logger: nil is silent.
	Logger *slog.Logger
	// Loads is how many versions may be loading at once, so that loading does
	// not starve serving; 0 means 1.
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
	// Timeout bounds one request, its ladder included; 0 means 1 s.
	Timeout time.Duration
	// Ladder says what to answer, in this order, when the version is late or
	// failing; empty: the error.
	Ladder []Rung
	// Serving is told when another version has become the primary; nil: none.
	Serving Serving
	// Classes is how many classes are kept apart in metrics; 0 means 10.
	Classes int
}

// Serving is called after another version has become the primary, with its
// files and manifest. No lock is held: it may block, predict and split, while
// only the next swap of this model waits (so it must not load or refresh the
// same model). Server.Add returns its error; Run logs it and calls it again at
// the next poll.
type Serving func(ctx context.Context, files fs.FS, m Manifest) error

// Rung is one answer of a ladder.
type Rung struct {
	// Name shows in Response.Degraded and in metrics.
	Name string
	// Answer must obey ctx.
	Answer func(ctx context.Context, r Request) (Batch, error)
	// Needs is the time kept free for this rung: what comes before it is cut
	// off that much earlier. 0 means a twentieth of the request's time.
	Needs time.Duration
}

// Request is one call of a model.
type Request struct {
	// ID of the request; "": one is made.
	ID string
	// Key is the unit of assignment, as a rule a customer: the same key gets
	// the same arm. "": each request is assigned by chance.
	Key string
	// Input that fits the signature; see [Signature.Conform].
	Input Batch
}

// Response is one answer.
type Response struct {
	ID, Key    string        // as in the request, or made
	Output     Batch         // the caller's own
	Version    string        // the one version that answered; of a degraded answer, the one that did not
	Arm        string        // of the traffic; "primary" without a split
	Propensity float64       // probability of this arm for a key drawn at random
	Degraded   string        // "": the version answered; else "rung: reason", reason late, failed, rejected or unready
	Took       time.Duration // in the server, ladder included
}

// Server holds models, swaps their versions and answers requests. It is safe
// for concurrent use.
type Server struct{}

// New makes a server without models.
func New(o *Options) *Server { return &Server{} }

// Add puts a model to use and returns when a version serves.
func (s *Server) Add(ctx context.Context, model string, src Source, l Loader, o *ModelOptions) error {
	return ErrNotReady
}

// AddModel puts a model to use that needs no loading.
func (s *Server) AddModel(model, version string, m Model, o *ModelOptions) error { return ErrNotReady }

// Run polls.
func (s *Server) Run(ctx context.Context) error { return nil }

// Refresh looks for new versions now instead of at the next poll.
func (s *Server) Refresh(ctx context.Context, model string) error { return ErrNotReady }

// Predict answers.
func (s *Server) Predict(ctx context.Context, model string, r Request) (Response, error) {
	return Response{}, ErrNotReady
}

// Observe tells what came of a request.
func (s *Server) Observe(model string, o Outcome) error { return ErrNotReady }

// Acquire pins a version.
func (s *Server) Acquire(model, version string) (*Pin, error) { return nil, ErrNotReady }

// Load loads a version.
func (s *Server) Load(ctx context.Context, model, version string) error { return ErrNotReady }

// Loaded lists versions, the primary first.
func (s *Server) Loaded(model string) []Version { return nil }

// Health is nil if every model serves.
func (s *Server) Health(ctx context.Context) error { return ErrNotReady }

// Split sets the traffic.
func (s *Server) Split(model string, t Traffic) error { return ErrNotReady }

// Traffic returns the traffic.
func (s *Server) Traffic(model string) Traffic { return Traffic{} }

// Pin keeps a version loaded.
type Pin struct{}

// Recorder records.
type Recorder struct{}
