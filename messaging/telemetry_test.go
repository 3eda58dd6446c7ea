package messaging_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans, metrics := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
		var log bytes.Buffer
		b := memory.New(&memory.Options{Messaging: messaging.Options{
			TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
			MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(metrics)),
			Logger:         slog.New(slog.NewTextHandler(&log, nil)),
		}})
		inHandler := make(chan trace.SpanContext, 1)
		stop := start(t, consumer(t, b, nil, messaging.On("t", func(ctx context.Context, d *messaging.Delivery) error {
			inHandler <- trace.SpanContextFromContext(ctx)
			require.NotEmpty(t, d.Headers.Get("traceparent"))
			return messaging.Permanent(errBroken)
		})))
		handled := make(chan trace.SpanContext, 1)
		clerk, err := b.Consumer("clerk", nil, messaging.On("t.dead", func(ctx context.Context, _ *messaging.Delivery) error {
			handled <- trace.SpanContextFromContext(ctx)
			return nil
		}))
		require.NoError(t, err)
		publish(t, b, &messaging.Message{ID: "m", Topic: "t", Key: "k", Time: time.Now().Add(-90 * time.Second)})
		stopClerk := start(t, clerk)
		in, dead := <-inHandler, <-handled
		require.NoError(t, stop())
		require.NoError(t, stopClerk())

		byName := map[string]sdktrace.ReadOnlySpan{}
		for _, s := range spans.Ended() {
			byName[s.Name()] = s
		}
		pub, proc, clerks := byName["publish t"], byName["process t"], byName["process t.dead"]
		require.Len(t, byName, 3)
		require.Equal(t, trace.SpanKindProducer, pub.SpanKind())
		require.Equal(t, trace.SpanKindConsumer, proc.SpanKind())
		require.Equal(t, pub.SpanContext().SpanID(), proc.Parent().SpanID(), "one trace, over the broker")
		require.Equal(t, proc.SpanContext().SpanID(), in.SpanID(), "the handler is inside")
		require.Equal(t, codes.Error, proc.Status().Code)
		require.Contains(t, proc.Attributes(), attribute.String("messaging.message.id", "m"))
		require.Contains(t, proc.Attributes(), attribute.String("messaging.consumer.group.name", "group"))
		require.NotEqual(t, pub.SpanContext().TraceID(), dead.TraceID(), "a dead letter is linked, not continued")
		require.Len(t, clerks.Links(), 1)
		require.Equal(t, pub.SpanContext().SpanID(), clerks.Links()[0].SpanContext.SpanID())

		var data metricdata.ResourceMetrics
		require.NoError(t, metrics.Collect(t.Context(), &data))
		sums, counts := map[string]int64{}, map[string]uint64{}
		for _, m := range data.ScopeMetrics[0].Metrics {
			switch x := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range x.DataPoints {
					name := m.Name
					if o, ok := p.Attributes.Value("mainstay.outcome"); ok {
						name += " " + o.AsString()
					}
					sums[name] += p.Value
					_, id := p.Attributes.Value("messaging.message.id")
					require.False(t, id, "no IDs in metrics")
				}
			case metricdata.Histogram[float64]:
				for _, p := range x.DataPoints {
					counts[m.Name] += p.Count
					if topic, _ := p.Attributes.Value("messaging.destination.name"); m.Name == "mainstay.messaging.delivery.age" && topic.AsString() == "t" {
						require.InDelta(t, 90, p.Sum, 1e-6)
					}
				}
			}
		}
		require.Equal(t, map[string]int64{
			"messaging.client.sent.messages": 1, "messaging.client.consumed.messages": 2,
			"mainstay.messaging.deliveries dead": 1, "mainstay.messaging.deliveries acked": 1,
		}, sums)
		require.Equal(t, map[string]uint64{
			"messaging.client.operation.duration": 1, "messaging.process.duration": 2, "mainstay.messaging.delivery.age": 2,
		}, counts)
		require.Contains(t, log.String(), `level=ERROR msg="messaging: dead letter" topic=t group=group id=m`)
	})
}

// A message that has a trace keeps it, and the publishing is linked to it.
func TestForwardedMessagesKeepTheirTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	o := &messaging.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))}
	d := newFaulty()
	require.NoError(t, d.Declare(t.Context(), subscription("t")))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	m := &messaging.Message{Topic: "t"}
	m.Headers.Add("traceparent", parent)
	require.NoError(t, messaging.NewBroker(d, o).Publisher().Publish(t.Context(), m))
	require.Equal(t, parent, m.Headers.Get("traceparent"))
	require.Len(t, spans.Ended(), 1)
	require.Equal(t, "b7ad6b7169203331", spans.Ended()[0].Links()[0].SpanContext.SpanID().String())
}

// What a group has before it, and what is stuck in a member, can be seen while
// it runs, and are gone when it ends.
func TestLagIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := sdkmetric.NewManualReader()
		b := memory.New(&memory.Options{Messaging: messaging.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(metrics))}})
		end := make(chan struct{})
		c := consumer(t, b, &messaging.ConsumerOptions{Concurrency: 1, Timeout: -1}, messaging.On("t", func(context.Context, *messaging.Delivery) error {
			<-end
			return nil
		}))
		require.NoError(t, c.Declare(t.Context()))
		publish(t, b, msg("1", "a"), msg("2", "a"), msg("3", "b"))
		time.Sleep(time.Minute)
		stop := start(t, c)
		time.Sleep(30 * time.Second)
		gauges := func() map[string]float64 {
			var data metricdata.ResourceMetrics
			require.NoError(t, metrics.Collect(t.Context(), &data))
			got := make(map[string]float64)
			for _, m := range data.ScopeMetrics[0].Metrics {
				switch x := m.Data.(type) {
				case metricdata.Gauge[int64]:
					for _, p := range x.DataPoints {
						got[m.Name] = float64(p.Value)
					}
				case metricdata.Gauge[float64]:
					for _, p := range x.DataPoints {
						got[m.Name] = p.Value
					}
				}
			}
			return got
		}
		require.Equal(t, map[string]float64{"mainstay.messaging.lag": 3, "mainstay.messaging.lag.age": 90, "mainstay.messaging.held.age": 30}, gauges())
		close(end)
		synctest.Wait()
		require.Equal(t, map[string]float64{"mainstay.messaging.lag": 0, "mainstay.messaging.lag.age": 0, "mainstay.messaging.held.age": 0}, gauges())
		require.NoError(t, stop())
		require.Empty(t, gauges())
	})
}

// late makes no spans until it has a provider, as the global one does.
type late struct {
	embedded.TracerProvider
	provider trace.TracerProvider
	asked    int
}

func (l *late) Tracer(string, ...trace.TracerOption) trace.Tracer { return lateTracer{late: l} }

type lateTracer struct {
	embedded.Tracer
	*late
}

func (l lateTracer) Start(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	l.asked++
	return l.provider.Tracer("").Start(ctx, name, o...) //nolint:spancheck // the caller ends it
}

// Without an SDK spans cost nothing; with one that is installed later there are
// spans within a second, sampled or not. The caller's context travels meanwhile.
func TestTracersThatMakeNoSpansAreAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &late{provider: noop.NewTracerProvider()}
		var sent []string
		d := newFaulty()
		d.publish = func(m []driver.Message) []error {
			sent = append(sent, m[0].Headers.Get("traceparent"))
			return nil
		}
		require.NoError(t, d.Declare(t.Context(), subscription("t")))
		p := messaging.NewBroker(d, &messaging.Options{TracerProvider: l}).Publisher()
		const traceID = "0af7651916cd43dd8448eb211c80319c"
		caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: must(trace.TraceIDFromHex(traceID)), SpanID: trace.SpanID{1}})
		publish := func(n int) {
			sent, l.asked = nil, 0
			for range n {
				require.NoError(t, p.Publish(trace.ContextWithRemoteSpanContext(t.Context(), caller), &messaging.Message{Topic: "t"}))
			}
		}
		publish(10)
		require.Equal(t, 1, l.asked)
		for _, s := range sent {
			require.Equal(t, "00-"+traceID+"-0100000000000000-00", s)
		}
		for _, sampler := range []sdktrace.Sampler{sdktrace.AlwaysSample(), sdktrace.NeverSample()} {
			l.provider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
			time.Sleep(time.Second)
			publish(10)
			require.Equal(t, 10, l.asked)
			for _, s := range sent {
				require.Contains(t, s, traceID)
				require.NotContains(t, s, "0100000000000000")
			}
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
