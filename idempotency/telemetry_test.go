package idempotency

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mainstay-go/mainstay/messaging"
)

func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, reader, spans := t.Context(), metric.NewManualReader(), tracetest.NewSpanRecorder()
		var log bytes.Buffer
		store := newFakeStore()
		o := Options{
			TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(spans)),
			MeterProvider:  metric.NewMeterProvider(metric.WithReader(reader)),
			Logger:         slog.New(slog.NewTextHandler(&log, nil)),
		}
		g := New(store, &o)
		ok := func(context.Context) (string, error) { return "secret result", nil }
		do := func(id string, f func(context.Context) (string, error)) {
			_, _ = Do(ctx, g, Key{Scope: "s", ID: id, Fingerprint: Sum([]byte(id))}, f)
		}
		do("a", ok)
		do("a", ok)
		do("b", func(context.Context) (string, error) { return "", errors.New("failed") })
		do("c", func(context.Context) (string, error) { do("c", ok); return "", nil })
		_, _ = Do(ctx, g, Key{Scope: "s", ID: "a", Fingerprint: Sum([]byte("x"))}, ok)
		require.Empty(t, log.String(), "what the caller is told was logged")

		h := g.Once(func(context.Context, *messaging.Delivery) error { return nil })
		require.NoError(t, h(ctx, delivery("m-1")))
		store.onComplete = func([]byte) error { return errDown }
		require.NoError(t, h(ctx, delivery("m-2")))
		require.Contains(t, log.String(), `msg="idempotency: handled, but not recorded" key=billing/orders/inbox/m-2`)
		require.Contains(t, log.String(), errDown.Error())
		store.onBegin = down
		do("d", ok)
		o.FailOpen = true
		g = New(store, &o)
		do("d", ok)
		require.Contains(t, log.String(), "running unguarded, as the store failed")
		require.NotContains(t, log.String(), "secret result")

		var rm metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(ctx, &rm))
		got := map[string]int64{}
		for _, m := range rm.ScopeMetrics[0].Metrics {
			require.Equal(t, "mainstay.idempotency.calls", m.Name)
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				entry, _ := p.Attributes.Value("mainstay.idempotency.entry")
				outcome, _ := p.Attributes.Value("mainstay.idempotency.outcome")
				got[entry.AsString()+" "+outcome.AsString()] = p.Value
				require.Equal(t, 2, p.Attributes.Len())
			}
		}
		require.Equal(t, map[string]int64{
			"do ran": 2, "do replayed": 1, "do failed": 1, "do in_progress": 1, "do mismatch": 1,
			"once ran": 1, "once unrecorded": 1, "do refused": 1, "do unguarded": 1,
		}, got)

		ended := spans.Ended()
		require.Len(t, ended, 10)
		require.Equal(t, "idempotency do", ended[0].Name())
	})
}
