package idempotency

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const instrumentation = "github.com/mainstay-go/mainstay/idempotency"

// entry is the way by which a call came to the guard.
type entry string

const (
	entryDo   entry = "do"
	entryOnce entry = "once"
	entryHTTP entry = "http"
)

// outcome is what became of a call.
type outcome string

const (
	ran        outcome = "ran"
	failedRun  outcome = "failed"
	replayed   outcome = "replayed"
	waiting    outcome = "in_progress"
	mismatched outcome = "mismatch"
	refusedRun outcome = "refused"
	unguarded  outcome = "unguarded"
	unrecorded outcome = "unrecorded"
)

type telemetry struct {
	tracer trace.Tracer
	calls  metric.Int64Counter
	logger *slog.Logger
}

func newTelemetry(o *Options) telemetry {
	tracers, meters, logger := o.TracerProvider, o.MeterProvider, o.Logger
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	calls, err := meters.Meter(instrumentation).Int64Counter("mainstay.idempotency.calls",
		metric.WithUnit("{call}"),
		metric.WithDescription("Calls of guarded work, by way of entry and outcome."))
	if err != nil {
		otel.Handle(err)
	}
	return telemetry{tracer: tracers.Tracer(instrumentation), calls: calls, logger: logger}
}

// call is one call of guarded work under observation. A call that ends without
// an outcome, by a panic, has failed.
type call struct {
	ctx     context.Context //nolint:containedctx // lives no longer than the call it belongs to
	calls   metric.Int64Counter
	span    trace.Span
	entry   entry
	outcome outcome
}

//nolint:spancheck // call.end ends the span
func (t *telemetry) start(ctx context.Context, e entry, k Key) (context.Context, *call) {
	ctx, span := t.tracer.Start(ctx, "idempotency "+string(e),
		trace.WithAttributes(attribute.String("mainstay.idempotency.scope", k.Scope)))
	return ctx, &call{ctx: ctx, calls: t.calls, span: span, entry: e, outcome: failedRun}
}

func (c *call) is(o outcome) { c.outcome = o }

// refused sets the outcome of a call that begin refused.
func (c *call) refused(err error) {
	switch {
	case errors.Is(err, ErrInProgress):
		c.is(waiting)
	case errors.Is(err, ErrMismatch):
		c.is(mismatched)
	default:
		c.is(refusedRun)
		c.span.RecordError(err)
	}
}

func (c *call) end() {
	o := attribute.String("mainstay.idempotency.outcome", string(c.outcome))
	c.span.SetAttributes(o)
	c.span.End()
	c.calls.Add(context.WithoutCancel(c.ctx), 1, metric.WithAttributes(o,
		attribute.String("mainstay.idempotency.entry", string(c.entry))))
}

func (t *telemetry) warn(ctx context.Context, msg string, k Key, err error) {
	t.logger.WarnContext(ctx, "idempotency: "+msg, "key", k.String(), "err", err)
}
