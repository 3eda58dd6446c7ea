package oteldrift_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	want := map[string]float64{"drift.rows{drift.monitor=inputs}": 500, "drift.window.age{drift.monitor=inputs}": 0}
	for _, f := range rep.Features {
		at := fmt.Sprintf("{drift.feature=%s,drift.monitor=inputs}", f.Name)
		want["drift.verdict"+at] = float64(f.Verdict)
		want["drift.alerted"+at] = 0
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

// An alert stands until the feature has recovered, and what is shown grows old while nothing is
// observed.
func TestAlertAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := make([]float64, 5000)
		for i := range values {
			values[i] = float64(i * 37 % 1000)
		}
		ref, err := drift.Fit(drift.Numbers("x", values))
		if err != nil {
			t.Fatal(err)
		}
		m, err := drift.NewMonitor(ref, &drift.MonitorOptions{Window: drift.Tumbling(500)})
		if err != nil {
			t.Fatal(err)
		}
		x, err := m.Numeric("x")
		if err != nil {
			t.Fatal(err)
		}
		reader := sdkmetric.NewManualReader()
		stop, err := oteldrift.Observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), "inputs", m)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		expect := func(when string, age time.Duration, alerted float64) {
			t.Helper()
			got := collect(t, reader)
			if v := got["drift.window.age{drift.monitor=inputs}"]; v != age.Seconds() {
				t.Errorf("%s: age %v, want %v", when, v, age)
			}
			if v := got["drift.alerted{drift.feature=x,drift.monitor=inputs}"]; v != alerted {
				t.Errorf("%s: alerted %v, want %v", when, v, alerted)
			}
		}
		window := func(shift float64) {
			for i := range 500 {
				time.Sleep(time.Second)
				x.Observe(float64(i*37%1000) + shift)
			}
		}
		time.Sleep(time.Minute)
		expect("nothing observed", time.Minute, 0)
		window(0)
		expect("a window closed", 0, 0)
		time.Sleep(time.Hour)
		expect("nothing observed since", time.Hour, 0)
		window(400)
		expect("one window with drift", 0, 0)
		window(400)
		expect("an alert", 0, 1)
		window(0)
		window(0)
		expect("not recovered", 0, 1)
		window(0)
		expect("recovered", 0, 0)
	})
}

// What the features hold adds no series.
func TestSeriesAreBounded(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	m := shifted(t)
	stop, err := oteldrift.Observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), "inputs", m)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	plan, err := m.Categorical("plan")
	if err != nil {
		t.Fatal(err)
	}
	age, err := m.Numeric("age")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4000 {
		plan.Observe(fmt.Sprint("new ", i))
		age.Observe(float64(i) * 1e6)
		age.Missing()
	}
	got := collect(t, reader)
	// 6 per feature and 2 per test: psi, ks, chi-square and missing of a number, psi, chi-square,
	// missing and unseen of a category; and 2 of the monitor.
	if len(got) != 2*6+2*4+2*4+2 {
		t.Errorf("%d series: %v", len(got), got)
	}
	for name := range got {
		if strings.Contains(name, "new") {
			t.Errorf("a value became a label: %s", name)
		}
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
