package otelconc_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/otelconc"
)

func made() (*sdkmetric.ManualReader, metric.MeterProvider) {
	reader := sdkmetric.NewManualReader()
	return reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
}

// collect returns the values of all series by "kind name unit{attributes}".
func collect(t testing.TB, r *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	add := func(kind string, m metricdata.Metrics, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			out[kind+" "+m.Name+" "+m.Unit+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = p.Value
		}
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				add("gauge", m, data.DataPoints)
			case metricdata.Sum[int64]:
				add(map[bool]string{true: "counter", false: "up-down"}[data.IsMonotonic], m, data.DataPoints)
			default:
				t.Errorf("%s is %T", m.Name, data)
			}
			if m.Description == "" {
				t.Errorf("%s is not described", m.Name)
			}
		}
	}
	return out
}

func series(name string, limit, inFlight, waiting, admitted, rejected, failed, open int64) map[string]int64 {
	at := "concurrency.limiter=" + name
	return map[string]int64{
		"up-down concurrency.limit {unit}{" + at + "}":                                    limit,
		"up-down concurrency.in_flight {unit}{" + at + "}":                                inFlight,
		"up-down concurrency.waiting {request}{" + at + "}":                               waiting,
		"counter concurrency.requests {request}{" + at + ",concurrency.outcome=admitted}": admitted,
		"counter concurrency.requests {request}{" + at + ",concurrency.outcome=rejected}": rejected,
		"counter concurrency.failures {request}{" + at + "}":                              failed,
		"gauge concurrency.open 1{" + at + "}":                                            open,
	}
}

func expect(t *testing.T, when string, r *sdkmetric.ManualReader, want map[string]int64) {
	t.Helper()
	if got := collect(t, r); !maps.Equal(got, want) {
		t.Errorf("%s:\ngot  %v\nwant %v", when, got, want)
	}
}

func TestObserve(t *testing.T) {
	reader, p := made()
	now := concurrency.Stats{Limit: 1, InFlight: 2, Waiting: 3, Admitted: 4, Rejected: 5, Failed: 6, Open: true}
	stop, err := otelconc.Observe(p, "x", func() concurrency.Stats { return now })
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "at first", reader, series("x", 1, 2, 3, 4, 5, 6, 1))
	now = concurrency.Stats{Admitted: math.MaxUint64}
	expect(t, "at each collection anew", reader, series("x", 0, 0, 0, math.MaxInt64, 0, 0, 0))
	stop()
	stop()
	expect(t, "after stop", reader, map[string]int64{})
}

// What has statistics can be observed, several side by side.
func TestObserveAll(t *testing.T) {
	reader, p := made()
	semaphore := concurrency.NewSemaphore(3, concurrency.NoWait)
	rate, rates := concurrency.NewRate(0.001, 2), concurrency.NewRates[string](0.001, 2, 10)
	breaker := &concurrency.Breaker{MinCalls: 1}
	var hedger concurrency.Hedger
	var budget concurrency.Budget
	for name, stats := range map[string]func() concurrency.Stats{
		"semaphore": semaphore.Stats, "rate": rate.Stats, "rates": rates.Stats,
		"breaker": breaker.Stats, "hedger": hedger.Stats, "budget": budget.Stats,
	} {
		stop, err := otelconc.Observe(p, name, stats)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	failing := func(context.Context) (int, error) { return 0, errors.New("boom") }
	permit, err := semaphore.Acquire(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer permit.Done(nil)
	for _, l := range []concurrency.Limiter{semaphore, semaphore, rate, rate, rate, rates.For("a"), rates.For("b"), rates.For("b"), breaker, breaker} {
		_, _ = concurrency.Do(ctx, l, failing)
	}
	_, _ = semaphore.Acquire(ctx, 2)
	_, _ = concurrency.Retry(concurrency.WithBudget(t.Context(), &budget),
		&concurrency.RetryPolicy{Attempts: 3, Backoff: concurrency.Backoff{Min: 1, Max: 1}}, concurrency.Idempotent(failing))
	want := map[string]int64{}
	for _, s := range []map[string]int64{
		series("semaphore", 3, 2, 0, 3, 1, 2, 0),
		series("rate", 2, 0, 0, 2, 1, 0, 0),
		series("rates", 2, 0, 0, 3, 0, 0, 0),
		series("breaker", 0, 0, 0, 1, 1, 1, 1),
		series("hedger", 0, 0, 0, 0, 0, 0, 0),
		series("budget", 8, 0, 0, 2, 0, 0, 0),
	} {
		maps.Copy(want, s)
	}
	expect(t, "all", reader, want)
}

// What is limited adds no series.
func TestSeriesAreBounded(t *testing.T) {
	reader, p := made()
	rates := concurrency.NewRates[string](1, 1, 10)
	stop, err := otelconc.Observe(p, "tenants", rates.Stats)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for i := range 1000 {
		_, _ = rates.For("tenant "+string(rune('a'+i%26))).Acquire(t.Context(), 1)
	}
	got := collect(t, reader)
	if len(got) != 7 {
		t.Errorf("%d series: %v", len(got), got)
	}
	for name := range got {
		if strings.Contains(name, "tenant ") {
			t.Errorf("a key became a label: %s", name)
		}
	}
}

func TestObserveRefuses(t *testing.T) {
	stats := new(concurrency.Breaker).Stats
	for name, f := range map[string]func() (func(), error){
		"no statistics": func() (func(), error) { return otelconc.Observe(noop.NewMeterProvider(), "x", nil) },
		"no name":       func() (func(), error) { return otelconc.Observe(noop.NewMeterProvider(), "", stats) },
		"bad meter":     func() (func(), error) { return otelconc.Observe(broken{}, "x", stats) },
		"bad counter":   func() (func(), error) { return otelconc.Observe(broken{counters: true}, "x", stats) },
	} {
		stop, err := f()
		if err == nil || !strings.HasPrefix(err.Error(), "otelconc: ") {
			t.Errorf("%s: %v", name, err)
		}
		stop()
	}
	stop, err := otelconc.Observe(nil, "global", stats)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

type broken struct {
	noop.MeterProvider

	counters bool
}

func (b broken) Meter(string, ...metric.MeterOption) metric.Meter {
	return brokenMeter{counters: b.counters}
}

type brokenMeter struct {
	noop.Meter

	counters bool
}

func (b brokenMeter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	if b.counters {
		return nil, errors.New("no counters here")
	}
	return b.Meter.Int64ObservableCounter(name, o...)
}

func (brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, errors.New("no callbacks here")
}
