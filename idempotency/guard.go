package idempotency

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options are the settings of a [Guard]. The zero value is a good default.
type Options struct {
	// TracerProvider makes the guard's spans; nil is the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the guard's metrics; nil is the global one. The
	// counter mainstay.idempotency.calls has the attributes
	// mainstay.idempotency.entry (do, once, http) and
	// mainstay.idempotency.outcome: ran, failed, replayed, in_progress,
	// mismatch, refused (the store failed), unguarded (it failed, and FailOpen),
	// unrecorded (the work was done, its result could not be stored).
	MeterProvider metric.MeterProvider
	// Logger gets what the caller is not told: a lease that could not be
	// renewed, a key that could not be given back, a call that ran unguarded.
	// nil is silent. Keys are logged, results are not.
	Logger *slog.Logger

	// Lease is how long a key stays held by a process that died, and at most
	// how long a call can be in progress elsewhere without a sign of life. The
	// guard renews it every third of it while the work runs, so it need not be
	// as long as the work. Zero or below: 30 s; above 100 years: 100 years.
	Lease time.Duration
	// TTL is how long a key is remembered after its last change; see
	// [Guard.Retention]. Zero or below: DefaultTTL, seven days; above 100 years,
	// as math.MaxInt64 is: 100 years.
	TTL time.Duration
	// MaxResult is the largest result that is kept, in bytes as encoded. Work
	// with a larger one counts as done, without its result: see ErrTooLarge.
	// Zero or below: 1 MiB.
	MaxResult int
	// FailOpen says what to do while the store cannot be asked, or is full:
	// false refuses the call with the store's error, true runs the work
	// unguarded, possibly twice.
	FailOpen bool
	// HTTP are the settings of [Guard.Handler].
	HTTP HTTPOptions
}

// Guard makes work happen once per key. It is safe for concurrent use, starts
// nothing that outlives a call, and needs no closing.
type Guard struct {
	store     Store
	lease     time.Duration
	ttl       time.Duration
	maxResult int
	failOpen  bool
	http      HTTPOptions
	telemetry telemetry
}

// New returns a guard that keeps its keys in s. It does no I/O. nil options are
// the defaults.
func New(s Store, o *Options) *Guard {
	if o == nil {
		o = &Options{}
	}
	g := &Guard{
		store:     s,
		lease:     o.Lease,
		ttl:       o.TTL,
		maxResult: o.MaxResult,
		failOpen:  o.FailOpen,
		http:      o.HTTP.normalize(),
		telemetry: newTelemetry(o),
	}
	if g.lease <= 0 {
		g.lease = 30 * time.Second
	}
	if g.ttl <= 0 {
		g.ttl = DefaultTTL
	}
	g.lease, g.ttl = min(g.lease, forever), min(g.ttl, forever)
	if g.maxResult <= 0 {
		g.maxResult = 1 << 20
	}
	return g
}

// Store returns the store that the guard was made with.
func (g *Guard) Store() Store { return g.store }

// Retention returns how long the guard remembers a key that is done, Options.TTL.
// What comes again later is taken for new. With Retention, a Guard is a
// messaging.Inbox.
func (g *Guard) Retention() time.Duration { return g.ttl }
