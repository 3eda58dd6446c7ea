package featurestore

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/mainstay-go/mainstay/featurestore"

// telemetry holds the instruments of one Store. Labels are names of
// definitions, statuses and outcomes: bounded by the program's text.
type telemetry struct {
	tracer  trace.Tracer
	log     *slog.Logger
	rows    metric.Int64Counter
	writes  metric.Int64Counter
	latency metric.Float64Histogram
	age     metric.Float64Histogram
	lag     metric.Float64Histogram
}

func newTelemetry(o *Options) *telemetry {
	tp, mp := o.TracerProvider, o.MeterProvider
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	if mp == nil {
		mp = otel.GetMeterProvider()
	}
	t, err := instruments(mp.Meter(scope))
	if err != nil { // names and units are constants: only a broken provider gets here
		otel.Handle(err)
		t, _ = instruments(noop.NewMeterProvider().Meter(scope))
	}
	t.tracer, t.log = tp.Tracer(scope), o.Logger
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

func instruments(m metric.Meter) (*telemetry, error) {
	var t telemetry
	var errs [5]error
	t.rows, errs[0] = m.Int64Counter("mainstay.featurestore.rows",
		metric.WithUnit("{row}"), metric.WithDescription("Rows read online, by definition and status."))
	t.writes, errs[1] = m.Int64Counter("mainstay.featurestore.writes",
		metric.WithUnit("{write}"), metric.WithDescription("Rows and events written, by definition and outcome."))
	t.latency, errs[2] = m.Float64Histogram("mainstay.featurestore.read.duration",
		metric.WithUnit("s"), metric.WithDescription("Time of one batch read of the online store."),
		metric.WithExplicitBucketBoundaries(1e-6, 1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1))
	t.age, errs[3] = m.Float64Histogram("mainstay.featurestore.age",
		metric.WithUnit("s"), metric.WithDescription("Age of the oldest valid row of a batch read, by definition."),
		metric.WithExplicitBucketBoundaries(0.1, 1, 10, 60, 600, 3600, 6*3600, 86400, 7*86400, 30*86400))
	t.lag, errs[4] = m.Float64Histogram("mainstay.featurestore.ingest.lag",
		metric.WithUnit("s"), metric.WithDescription("Created time minus event time of what is written, by definition."),
		metric.WithExplicitBucketBoundaries(0.01, 0.1, 1, 10, 60, 600, 3600, 86400))
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return &t, nil
}

func (t *telemetry) read(ctx context.Context, start time.Time, err error) {
	set := metric.WithAttributes()
	if err != nil {
		set = metric.WithAttributes(attribute.Bool("error", true))
	}
	t.latency.Record(ctx, time.Since(start).Seconds(), set)
}

// tally counts the rows of one batch and one definition, to record them once.
type tally struct {
	byStatus [NotYetKnown + 1]int64
	oldest   time.Time // event time of the oldest hit
}

func (n *tally) add(s Status, event time.Time) {
	n.byStatus[s]++
	if s == Hit && (n.oldest.IsZero() || event.Before(n.oldest)) {
		n.oldest = event
	}
}

func (t *telemetry) served(ctx context.Context, view string, n *tally, now time.Time) {
	for s, count := range n.byStatus {
		if count > 0 {
			t.rows.Add(ctx, count, metric.WithAttributes(
				attribute.String("view", view), attribute.String("status", Status(s).String())))
		}
	}
	if n.byStatus[Hit] > 0 {
		t.age.Record(ctx, now.Sub(n.oldest).Seconds(), metric.WithAttributes(attribute.String("view", view)))
	}
}

func (t *telemetry) wrote(ctx context.Context, view string, rec *Record, o Outcome) {
	t.writes.Add(ctx, 1, metric.WithAttributes(attribute.String("view", view), attribute.String("outcome", o.String())))
	switch o {
	case Applied:
		t.lag.Record(ctx, rec.Created.Sub(rec.Event).Seconds(), metric.WithAttributes(attribute.String("view", view)))
	case Future:
		t.log.WarnContext(ctx, "featurestore: event too far in the future refused",
			"view", view, "key", rec.Key, "event", rec.Event, "now", rec.Created)
	case Stale, Duplicate:
		t.log.DebugContext(ctx, "featurestore: write changed nothing",
			"view", view, "key", rec.Key, "event", rec.Event, "outcome", o.String())
	}
}

// tooLateAgain counts an event that is too late for an earlier delivery of it to
// be remembered online. If that got no further than the offline store, only a
// rebuild brings the event online.
func (t *telemetry) tooLateAgain(ctx context.Context, view string, rec *Record) {
	t.writes.Add(ctx, 1, metric.WithAttributes(attribute.String("view", view),
		attribute.String("outcome", Stale.String()), attribute.Bool("redelivered", true)))
	t.log.WarnContext(ctx, "featurestore: an event came again after the lateness, and may be offline alone: Rebuild makes sure",
		"view", view, "key", rec.Key, "event", rec.Event)
}

func (t *telemetry) span(ctx context.Context, op, definition string, rows int) (context.Context, trace.Span) {
	//nolint:spancheck // the caller ends it, with endSpan
	return t.tracer.Start(ctx, "featurestore "+op, trace.WithAttributes(
		attribute.String("featurestore.definition", definition), attribute.Int("featurestore.rows", rows)))
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
