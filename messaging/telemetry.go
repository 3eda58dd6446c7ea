package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

const scope = "github.com/mainstay-go/mainstay/messaging"

// telemetry makes spans and metrics by the messaging conventions 1.43.0 of
// OpenTelemetry. Metrics carry topics, groups and error classes, never IDs.
type telemetry struct {
	system     attribute.KeyValue
	tracer     trace.Tracer
	log        *slog.Logger
	sent       metric.Int64Counter
	sendTime   metric.Float64Histogram
	consumed   metric.Int64Counter
	process    metric.Float64Histogram
	age        metric.Float64Histogram
	deliveries metric.Int64Counter
	meter      metric.Meter
	lag        metric.Int64ObservableGauge
	lagAge     metric.Float64ObservableGauge
	heldAge    metric.Float64ObservableGauge
	made       sync.Map // *labels by operation, topic and group
}

func newTelemetry(o *Options, system string) *telemetry {
	tracers, meters, log := o.TracerProvider, o.MeterProvider, o.Logger
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if system == "" {
		system = "_OTHER"
	}
	m := meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	t := &telemetry{
		system: semconv.MessagingSystemKey.String(system),
		tracer: tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		log:    log,
		meter:  m,
	}
	// An instrument that cannot be made is a no-op one, and the API says so
	// through its own error handler.
	count := func(name, unit, help string) metric.Int64Counter {
		c, _ := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
		return c
	}
	seconds := func(name, help string, buckets ...float64) metric.Float64Histogram {
		h, _ := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help),
			metric.WithExplicitBucketBoundaries(buckets...))
		return h
	}
	short := []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	long := []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600}
	t.sent = count("messaging.client.sent.messages", "{message}", "Messages published, with error.type those not known to be held.")
	t.sendTime = seconds("messaging.client.operation.duration", "Duration of publishing.", short...)
	t.consumed = count("messaging.client.consumed.messages", "{message}", "Messages delivered to a consumer.")
	t.process = seconds("messaging.process.duration", "Duration of handling a delivery, its inline runs included.", short...)
	t.age = seconds("mainstay.messaging.delivery.age", "Time from the event to the start of its handling.", long...)
	t.deliveries = count("mainstay.messaging.deliveries", "{delivery}",
		"Deliveries by what became of them: acked, discarded, retried, dead, requeued, revoked.")
	age := func(name, help string) metric.Float64ObservableGauge {
		g, _ := m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(help))
		return g
	}
	t.lag, _ = m.Int64ObservableGauge("mainstay.messaging.lag", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that a group has not settled. Every member reports all of the group's."))
	t.lagAge = age("mainstay.messaging.lag.age", "Age of the oldest message that a group has not settled. Every member reports the group's.")
	t.heldAge = age("mainstay.messaging.held.age",
		"Time since a member got the oldest message that it has not settled: one that is stuck, or that waits for a retry.")
	return t
}

// watch lets the gauges of c be read until the returned function is called. The
// broker is asked whenever they are.
func (t *telemetry) watch(c *Consumer) (stop func()) {
	held := metric.WithAttributes(t.system, semconv.MessagingConsumerGroupName(c.group))
	of, lags := c.broker.driver.(driver.Lagger)
	r, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		o.ObserveFloat64(t.heldAge, c.held().Seconds(), held)
		if !lags {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		var errs []error
		for _, topic := range c.topics {
			n, oldest, err := of.Lag(ctx, topic, c.group)
			if err != nil {
				errs = append(errs, c.fail("lag", err))
				continue
			}
			labels := metric.WithAttributes(t.system, semconv.MessagingDestinationName(topic), semconv.MessagingConsumerGroupName(c.group))
			o.ObserveInt64(t.lag, n, labels)
			o.ObserveFloat64(t.lagAge, oldest.Seconds(), labels)
		}
		return errors.Join(errs...)
	}, t.lag, t.lagAge, t.heldAge)
	if err != nil || r == nil {
		return func() {}
	}
	return func() { _ = r.Unregister() }
}

// labels are the attributes of one topic and, when consuming, group. They are
// made once: building a set costs more than recording a value.
type labels struct {
	span     []attribute.KeyValue
	good     metric.MeasurementOption
	outcomes map[string]metric.MeasurementOption
}

func (t *telemetry) publishLabels(topic string) *labels {
	return t.labels("publish", topic, "", semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend)
}

func (t *telemetry) processLabels(topic, group string) *labels {
	return t.labels("process", topic, group, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess)
}

func (t *telemetry) labels(op, topic, group string, more ...attribute.KeyValue) *labels {
	key := [3]string{op, topic, group}
	if l, ok := t.made.Load(key); ok {
		return l.(*labels)
	}
	base := []attribute.KeyValue{t.system}
	if topic != "" {
		base = append(base, semconv.MessagingDestinationName(topic))
	}
	l := &labels{outcomes: make(map[string]metric.MeasurementOption)}
	if group != "" {
		base = append(base, semconv.MessagingConsumerGroupName(group))
		for _, o := range []string{outcomeAcked, outcomeDiscarded, outcomeRetried, outcomeDead, outcomeRequeued, outcomeRevoked} {
			l.outcomes[o] = metric.WithAttributeSet(attribute.NewSet(append(slices.Clip(base), attribute.String("mainstay.outcome", o))...))
		}
	}
	l.span = append(slices.Clip(base), more...)
	l.good = metric.WithAttributeSet(attribute.NewSet(l.span...))
	made, _ := t.made.LoadOrStore(key, l)
	return made.(*labels)
}

// of returns the labels of something that ended with err.
func (l *labels) of(err error) metric.MeasurementOption {
	if err == nil {
		return l.good
	}
	return metric.WithAttributes(append(slices.Clip(l.span), semconv.ErrorTypeKey.String(classOf(err)))...)
}

// publishing starts the span of one Publish, which done ends, and writes its
// context into the messages that have none yet. topic is empty for several.
func (t *telemetry) publishing(ctx context.Context, topic string, msgs []driver.Message) (_ context.Context, done func(held int, err error)) {
	start, l := time.Now(), t.publishLabels(topic)
	name := "publish"
	if topic != "" {
		name += " " + topic
	}
	var links []trace.Link
	for i := range msgs {
		if made := extract(msgs[i].Headers); made.IsValid() {
			links = append(links, trace.Link{SpanContext: made})
		}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(l.span...), trace.WithLinks(links...))
	if len(msgs) == 1 {
		span.SetAttributes(semconv.MessagingMessageID(msgs[0].ID))
	} else {
		span.SetAttributes(semconv.MessagingBatchMessageCount(len(msgs)))
	}
	if span.SpanContext().IsValid() {
		for i := range msgs {
			if msgs[i].Headers.Get(wire.TraceParent) == "" {
				inject(ctx, &msgs[i].Headers)
			}
		}
	}
	return ctx, func(held int, err error) {
		t.sendTime.Record(ctx, time.Since(start).Seconds(), l.of(err))
		if held > 0 {
			t.sent.Add(ctx, int64(held), l.good)
		}
		if n := len(msgs) - held; n > 0 {
			t.sent.Add(ctx, int64(n), l.of(err))
		}
		end(span, err)
	}
}

// processing starts the span of one delivery, which done ends. It belongs to
// the trace of the message; that of a dead letter, which may be days old, is
// only linked.
func (t *telemetry) processing(ctx context.Context, d *Delivery, lane string) (_ context.Context, done func(outcome string, err error)) {
	start, l := time.Now(), t.processLabels(d.Topic, d.Group)
	t.consumed.Add(ctx, 1, l.good)
	if age := start.Sub(d.Time); age >= 0 && !d.Time.IsZero() {
		t.age.Record(ctx, age.Seconds(), l.good)
	}
	var links []trace.Link
	if made := extract(d.Headers); made.IsValid() {
		if d.Origin == d.Topic {
			ctx = trace.ContextWithRemoteSpanContext(ctx, made)
		} else {
			links = []trace.Link{{SpanContext: made}}
		}
	}
	ctx, span := t.tracer.Start(ctx, "process "+d.Topic, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(l.span...), trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingMessageID(d.ID), semconv.MessagingDestinationPartitionID(lane))
	}
	return ctx, func(outcome string, err error) {
		t.process.Record(ctx, time.Since(start).Seconds(), l.of(err))
		t.deliveries.Add(ctx, 1, l.outcomes[outcome])
		end(span, err)
	}
}

func end(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(classOf(err)))
		span.SetStatus(codes.Error, cut(err.Error(), wire.MaxError))
	}
	span.End()
}

// classOf names the kind of err in few words: the class of a dead letter, and
// the bounded error.type of telemetry.
func classOf(err error) string {
	if _, ok := errors.AsType[*undecodable](err); ok {
		return "undecodable"
	}
	if _, ok := errors.AsType[*concurrency.PanicError](err); ok {
		return "panic"
	}
	for _, known := range []struct {
		err  error
		name string
	}{
		{errAttempts, "attempts"}, {errTimeout, "timeout"}, {context.DeadlineExceeded, "timeout"},
		{ErrUnknown, "unknown"}, {ErrRevoked, "revoked"}, {ErrUnroutable, "unroutable"},
		{ErrTooLarge, "too_large"}, {context.Canceled, "canceled"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	for range 64 { // the cause says more than its wrappings
		next := errors.Unwrap(err)
		if next == nil {
			if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) > 0 {
				next = many.Unwrap()[0]
			}
		}
		if next == nil {
			break
		}
		err = next
	}
	return cut(fmt.Sprintf("%T", err), wire.MaxClass)
}

// cut returns at most n bytes of s, whole runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// carrier lets the propagator write to Headers.
type carrier struct{ h *Headers }

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string { return c.h.Get(key) }

// Set implements propagation.TextMapCarrier.
func (c carrier) Set(key, value string) { c.h.Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (c carrier) Keys() []string {
	keys := make([]string, len(*c.h))
	for i, h := range *c.h {
		keys[i] = h.Key
	}
	return keys
}

// The wire contract fixes W3C Trace Context, whatever propagator is global.
func inject(ctx context.Context, h *Headers) { propagation.TraceContext{}.Inject(ctx, carrier{h}) }

func extract(h Headers) trace.SpanContext {
	if h.Get(wire.TraceParent) == "" {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier{&h}))
}
