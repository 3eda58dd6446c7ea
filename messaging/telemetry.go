package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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

	mu   sync.RWMutex
	made map[labelKey]*labels
	mute atomic.Int64 // no spans are asked for until then, in nanoseconds since 1970
}

// muteFor is how long a tracer that made no span is not asked for another: the
// global one of a program without an SDK allocates for each.
const muteFor = time.Second

var noSpan = trace.SpanFromContext(context.Background())

type labelKey struct{ op, topic, group string }

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
		made:   make(map[labelKey]*labels),
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

// labels are what telemetry says of one topic and, when consuming, group. All
// of it is made once, also the lists of options: building them costs more than
// recording a value.
type labels struct {
	name     string // of spans
	span     []attribute.KeyValue
	start    []trace.SpanStartOption
	add      []metric.AddOption
	record   []metric.RecordOption
	outcomes map[string][]metric.AddOption
}

func (t *telemetry) labels(kind trace.SpanKind, topic, group string) *labels {
	key := labelKey{"publish", topic, group}
	if kind == trace.SpanKindConsumer {
		key.op = "process"
	}
	t.mu.RLock()
	l := t.made[key]
	t.mu.RUnlock()
	if l != nil {
		return l
	}
	l = t.label(kind, key)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made[key] = l
	return l
}

func (t *telemetry) label(kind trace.SpanKind, key labelKey) *labels {
	base := []attribute.KeyValue{t.system}
	l := &labels{name: key.op, outcomes: make(map[string][]metric.AddOption)}
	if key.topic != "" {
		l.name += " " + key.topic
		base = append(base, semconv.MessagingDestinationName(key.topic))
	}
	if key.group != "" {
		base = append(base, semconv.MessagingConsumerGroupName(key.group))
		for _, o := range []string{outcomeAcked, outcomeDiscarded, outcomeRetried, outcomeDead, outcomeRequeued, outcomeRevoked} {
			l.outcomes[o] = []metric.AddOption{
				metric.WithAttributeSet(attribute.NewSet(append(slices.Clip(base), attribute.String("mainstay.outcome", o))...)),
			}
		}
	}
	of := semconv.MessagingOperationTypeSend
	if kind == trace.SpanKindConsumer {
		of = semconv.MessagingOperationTypeProcess
	}
	l.span = append(slices.Clip(base), semconv.MessagingOperationName(key.op), of)
	l.start = []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(l.span...)}
	good := metric.WithAttributeSet(attribute.NewSet(l.span...))
	l.add, l.record = []metric.AddOption{good}, []metric.RecordOption{good}
	return l
}

// failed returns the labels of something that ended with err.
func (l *labels) failed(err error) metric.MeasurementOption {
	return metric.WithAttributes(append(slices.Clip(l.span), semconv.ErrorTypeKey.String(classOf(err)))...)
}

func (l *labels) linked(links []trace.Link) []trace.SpanStartOption {
	if len(links) == 0 {
		return l.start
	}
	return append(slices.Clip(l.start), trace.WithLinks(links...))
}

// timed is a span and when it began.
type timed struct {
	t     *telemetry
	l     *labels
	ctx   context.Context //nolint:containedctx // of one call, for what is recorded at its end
	span  trace.Span
	start time.Time
}

func (x *timed) begin(ctx context.Context, links []trace.Link) {
	now := x.start.UnixNano()
	if now < x.t.mute.Load() {
		x.ctx, x.span = ctx, noSpan
		return
	}
	x.ctx, x.span = x.t.tracer.Start(ctx, x.l.name, x.l.linked(links)...) //nolint:spancheck // published and processed end it
	if !x.span.IsRecording() && x.span.SpanContext().SpanID() == trace.SpanContextFromContext(ctx).SpanID() {
		x.t.mute.Store(now + int64(muteFor)) // none was made, not even one that is not sampled
	}
}

func (x *timed) took(h metric.Float64Histogram, err error) {
	d := time.Since(x.start).Seconds()
	if err == nil {
		h.Record(x.ctx, d, x.l.record...)
	} else {
		h.Record(x.ctx, d, x.l.failed(err))
	}
}

// publishing starts the span of one Publish, which published ends, and writes
// its context into the messages that have none yet. topic is empty for several.
func (t *telemetry) publishing(ctx context.Context, topic string, msgs []driver.Message) timed {
	x := timed{t: t, l: t.labels(trace.SpanKindProducer, topic, ""), start: time.Now()}
	var links []trace.Link
	for i := range msgs {
		if made := extract(msgs[i].Headers); made.IsValid() {
			links = append(links, trace.Link{SpanContext: made})
		}
	}
	x.begin(ctx, links)
	if x.span.IsRecording() {
		if len(msgs) == 1 {
			x.span.SetAttributes(semconv.MessagingMessageID(msgs[0].ID))
		} else {
			x.span.SetAttributes(semconv.MessagingBatchMessageCount(len(msgs)))
		}
	}
	if trace.SpanContextFromContext(x.ctx).IsValid() { // also where only the caller makes spans
		for i := range msgs {
			if msgs[i].Headers.Get(wire.TraceParent) == "" {
				inject(x.ctx, &msgs[i].Headers)
			}
		}
	}
	return x
}

// published says how many are held, and how many are not known to be.
func (x *timed) published(held, open int, err error) {
	x.took(x.t.sendTime, err)
	if held > 0 {
		x.t.sent.Add(x.ctx, int64(held), x.l.add...)
	}
	if open > 0 {
		x.t.sent.Add(x.ctx, int64(open), x.l.failed(err))
	}
	end(x.span, err)
}

// processing starts the span of one delivery, which processed ends. It belongs
// to the trace of the message; that of a dead letter, which may be days old, is
// only linked.
func (t *telemetry) processing(ctx context.Context, d *Delivery, lane string) timed {
	x := timed{t: t, l: t.labels(trace.SpanKindConsumer, d.Topic, d.Group), start: time.Now()}
	t.consumed.Add(ctx, 1, x.l.add...)
	if age := x.start.Sub(d.Time); age >= 0 && !d.Time.IsZero() {
		t.age.Record(ctx, age.Seconds(), x.l.record...)
	}
	var links []trace.Link
	if made := extract(d.Headers); made.IsValid() {
		if d.Origin == d.Topic {
			ctx = trace.ContextWithRemoteSpanContext(ctx, made)
		} else {
			links = []trace.Link{{SpanContext: made}}
		}
	}
	x.begin(ctx, links)
	if x.span.IsRecording() {
		x.span.SetAttributes(semconv.MessagingMessageID(d.ID), semconv.MessagingDestinationPartitionID(lane))
	}
	return x
}

func (x *timed) processed(outcome string, err error) {
	x.took(x.t.process, err)
	x.t.deliveries.Add(x.ctx, 1, x.l.outcomes[outcome]...)
	end(x.span, err)
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
	return parse(h)
}

// parse is apart from extract so that a message without a trace costs nothing:
// its list escapes.
func parse(h Headers) trace.SpanContext {
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier{&h}))
}
