package saga

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/mainstay-go/mainstay/saga"

// telemetry holds the instruments. Labels are names from definitions, statuses
// and outcomes; IDs are in spans only.
type telemetry struct {
	tracer  trace.Tracer
	calls   metric.Float64Histogram
	changed metric.Int64Counter
	overdue metric.Int64Counter
}

func newTelemetry(o *Options) (*telemetry, error) {
	tp, mp := o.TracerProvider, o.MeterProvider
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	if mp == nil {
		mp = otel.GetMeterProvider()
	}
	m := mp.Meter(scope)
	calls, err := m.Float64Histogram("saga.call.duration", metric.WithUnit("s"),
		metric.WithDescription("Calls of actions and compensations"))
	if err != nil {
		return nil, err
	}
	changed, err := m.Int64Counter("saga.status.changes", metric.WithUnit("{saga}"),
		metric.WithDescription("Sagas that turned back, were parked or ended"))
	if err != nil {
		return nil, err
	}
	overdue, err := m.Int64Counter("saga.overdue", metric.WithUnit("{saga}"),
		metric.WithDescription("Sagas that passed their deadline after the pivot"))
	if err != nil {
		return nil, err
	}
	return &telemetry{tracer: tp.Tracer(scope), calls: calls, changed: changed, overdue: overdue}, nil
}

func definitionLabel(name string) attribute.KeyValue {
	return attribute.String("saga.definition", name)
}

// call starts the span of one call; the returned function ends it.
func (t *telemetry) call(ctx context.Context, definition string, c Call) (context.Context, func(reply)) {
	labels := []attribute.KeyValue{
		definitionLabel(definition),
		attribute.String("saga.step", c.Step),
		attribute.String("saga.op", c.Op.String()),
	}
	ctx, span := t.tracer.Start(ctx, //nolint:spancheck // the returned function ends it
		"saga "+definition+" "+c.Step+" "+c.Op.String(),
		trace.WithAttributes(labels...),
		trace.WithAttributes(attribute.String("saga.id", c.Saga), attribute.Int("saga.attempt", c.Attempt)))
	began := time.Now()
	return ctx, func(p reply) { //nolint:spancheck // as above
		labels = append(labels, attribute.String("saga.outcome", p.kind.String()))
		span.SetAttributes(labels[len(labels)-1])
		if p.kind == replyRejected || p.kind == replyUnknown {
			span.RecordError(p.err)
			span.SetStatus(codes.Error, p.kind.String())
		}
		span.End()
		t.calls.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(labels...))
	}
}

func withDefinition(name string) metric.MeasurementOption {
	return metric.WithAttributes(definitionLabel(name))
}

func withStatus(name string, s Status) metric.MeasurementOption {
	return metric.WithAttributes(definitionLabel(name), attribute.String("saga.status", s.String()))
}
