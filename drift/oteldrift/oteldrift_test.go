package oteldrift_test

import (
	"context"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/drift/oteldrift"
)

// collect returns the values of all series by "name{attributes}".
func collect(t testing.TB, r *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := r.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	add := func(name string, set attribute.Set, v float64) {
		out[name+"{"+set.Encoded(attribute.DefaultEncoder())+"}"] = v
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, float64(p.Value))
				}
			default:
				t.Errorf("%s is no gauge: %T", m.Name, data)
			}
		}
	}
	return out
}

func shifted(t testing.TB) *drift.Monitor {
	t.Helper()
	ages, plans := make([]float64, 5000), make([]string, 5000)
	for i := range ages {
		ages[i], plans[i] = float64(18+i*37%60), []string{"free", "pro"}[i%2]
	}
	ref, err := drift.Fit(drift.Numbers("age", ages), drift.Categories("plan", plans))
	if err != nil {
		t.Fatal(err)
	}
	m, err := drift.NewMonitor(ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	age, err := m.Numeric("age")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := m.Categorical("plan")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		age.Observe(float64(38 + i*37%60))
		plan.Observe([]string{"free", "pro", "free", "pro", ""}[i%5])
	}
	return m
}

func TestObserve(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	p := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	m := shifted(t)
	stop, err := oteldrift.Observe(p, "inputs", m)
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	rep := m.Report()
	want := map[string]float64{"drift.rows{drift.monitor=inputs}": 500}
	for _, f := range rep.Features {
		at := fmt.Sprintf("{drift.feature=%s,drift.monitor=inputs}", f.Name)
		want["drift.verdict"+at] = float64(f.Verdict)
		want["drift.effect"+at] = f.Effect
		want["drift.missing"+at] = f.Missing
		want["drift.unseen"+at] = f.Unseen
		want["drift.out_of_range"+at] = f.OutOfRange
	}
	for _, test := range []string{"psi", "ks", "chi-square"} {
		want["drift.statistic{drift.feature=age,drift.monitor=inputs,drift.test="+test+"}"] = 0
		want["drift.p{drift.feature=age,drift.monitor=inputs,drift.test="+test+"}"] = 0
	}
	for _, test := range []string{"psi", "chi-square", "missing"} {
		want["drift.statistic{drift.feature=plan,drift.monitor=inputs,drift.test="+test+"}"] = 0
		want["drift.p{drift.feature=plan,drift.monitor=inputs,drift.test="+test+"}"] = 0
	}
	for name, v := range want {
		g, ok := got[name]
		if !ok || (v != 0 && g != v) {
			t.Errorf("%s = %v (there: %v), want %v", name, g, ok, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d series, want %d: %v", len(got), len(want), got)
	}
	if v := got["drift.verdict{drift.feature=age,drift.monitor=inputs}"]; v != float64(drift.Drift) {
		t.Errorf("the shifted feature has verdict %v", v)
	}
	if v := got["drift.missing{drift.feature=plan,drift.monitor=inputs}"]; v != 0.2 {
		t.Errorf("missing share %v", v)
	}
	stop()
	stop()
	if got := collect(t, reader); len(got) != 0 {
		t.Errorf("after stop: %v", got)
	}
}

func TestObserveRefuses(t *testing.T) {
	m := shifted(t)
	for name, f := range map[string]func() (func(), error){
		"no monitor": func() (func(), error) { return oteldrift.Observe(noop.NewMeterProvider(), "x", nil) },
		"no name":    func() (func(), error) { return oteldrift.Observe(noop.NewMeterProvider(), "", m) },
		"bad meter":  func() (func(), error) { return oteldrift.Observe(broken{}, "x", m) },
	} {
		stop, err := f()
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		stop()
	}
	stop, err := oteldrift.Observe(nil, "global", m)
	if err != nil {
		t.Fatal(err)
	}
	stop()
}

type broken struct{ noop.MeterProvider }

func (broken) Meter(string, ...metric.MeterOption) metric.Meter { return brokenMeter{} }

type brokenMeter struct{ noop.Meter }

func (brokenMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return nil, fmt.Errorf("no callbacks here")
}
