// Package oteldrift exports a drift monitor's reports as OpenTelemetry gauges.
//
// The gauges are read at each collection, from [drift.Monitor.Report], which
// looks at the last closed window and spends nothing of the monitor's budget:
//
//   - drift.statistic and drift.p, with attributes drift.monitor, drift.feature
//     and drift.test (psi, ks, chi-square, missing, unseen; of the performance accuracy, precision,
//     recall, auc and calibration, as differences from the reference); p only where it is defined
//   - drift.effect, drift.missing, drift.unseen and drift.out_of_range per feature
//   - drift.verdict per feature, of that window alone: 0 insufficient, 1 weak reference,
//     2 stable, 3 warning, 4 drift
//   - drift.alerted per feature: 1 from the alert that names it until it has recovered. This is what
//     to page on: it keeps the monitor's budget of false alarms, which a threshold on the others does not
//   - drift.rows per monitor: rows in the window
//   - drift.window.age per monitor, in seconds: how long ago the window closed, or, while none
//     has, how long ago it began. What grows beyond a few windows says that nothing
//     is observed, and that the other gauges are old. It is told by the real clock
//
// # How many series
//
// Attributes are names of features, tests and monitors, all known beforehand; no value of a
// feature becomes one, so traffic adds no series. A feature has 6 series of its own and up to 5
// tests with 2 each. The SDK's limit of 2,000 series per instrument is reached at 400
// features; beyond, set sdkmetric.WithCardinalityLimit to 5 times the features, or
// what is over it becomes one series without a name.
package oteldrift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mainstay-go/mainstay/drift"
)

const scope = "github.com/mainstay-go/mainstay/drift/oteldrift"

// Observe registers the gauges of m with p, nil meaning the global provider.
// name tells monitors apart, as "ranker inputs", and must not be empty. stop
// ends the reporting; it may be called more than once. On an error nothing is
// registered and stop is a function that does nothing.
func Observe(p metric.MeterProvider, name string, m *drift.Monitor) (stop func(), err error) {
	if m == nil || name == "" {
		return func() {}, errors.New("oteldrift: a monitor and a name for it are needed")
	}
	if p == nil {
		p = otel.GetMeterProvider()
	}
	g := gauges{meter: p.Meter(scope)}
	statistic := g.float("drift.statistic", "1", "Statistic of a drift test.")
	pValue := g.float("drift.p", "1", "Probability of such a statistic without drift.")
	effect := g.float("drift.effect", "1", "The larger of the debiased PSI and the KS distance.")
	missing := g.float("drift.missing", "1", "Share of rows without a value.")
	unseen := g.float("drift.unseen", "1", "Share of values in categories that the reference lacks.")
	outOfRange := g.float("drift.out_of_range", "1", "Share of numbers beyond the range of the reference.")
	verdict := g.int("drift.verdict", "1", "0 insufficient, 1 weak reference, 2 stable, 3 warning, 4 drift.")
	alerted := g.int("drift.alerted", "1", "1 while an alert about the feature stands, else 0.")
	age := g.float("drift.window.age", "s", "Time since the end of the window reported on.")
	rows := g.int("drift.rows", "{row}", "Rows in the window reported on.")
	if g.err != nil {
		return func() {}, fmt.Errorf("oteldrift: %w", g.err)
	}
	monitor := attribute.String("drift.monitor", name)
	collect := func(_ context.Context, o metric.Observer) error {
		rep := m.Report()
		o.ObserveInt64(rows, int64(rep.Rows), metric.WithAttributes(monitor))
		o.ObserveFloat64(age, since(rep).Seconds(), metric.WithAttributes(monitor))
		for _, f := range rep.Features {
			feature := attribute.String("drift.feature", f.Name)
			with := metric.WithAttributeSet(attribute.NewSet(monitor, feature))
			o.ObserveFloat64(effect, f.Effect, with)
			o.ObserveFloat64(missing, f.Missing, with)
			o.ObserveFloat64(unseen, f.Unseen, with)
			o.ObserveFloat64(outOfRange, f.OutOfRange, with)
			o.ObserveInt64(verdict, int64(f.Verdict), with)
			o.ObserveInt64(alerted, one(f.Alerted), with)
			for _, s := range f.Scores {
				test, _, _ := strings.Cut(s.Method, " ")
				with := metric.WithAttributeSet(attribute.NewSet(monitor, feature, attribute.String("drift.test", test)))
				o.ObserveFloat64(statistic, s.Stat, with)
				if s.HasP {
					o.ObserveFloat64(pValue, s.P, with)
				}
			}
		}
		return nil
	}
	reg, err := g.meter.RegisterCallback(collect, g.all...)
	if err != nil {
		return func() {}, fmt.Errorf("oteldrift: %w", err)
	}
	return func() { _ = reg.Unregister() }, nil
}

// since is how long ago the window closed, or began if none has closed.
func since(r *drift.Report) time.Duration {
	at := r.To
	if len(r.Features[0].History) == 0 {
		at = r.From
	}
	return max(0, time.Since(at))
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// gauges makes instruments and keeps the first error.
type gauges struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (g *gauges) float(name, unit, text string) metric.Float64ObservableGauge {
	i, err := g.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	g.err = errors.Join(g.err, err)
	g.all = append(g.all, i)
	return i
}

func (g *gauges) int(name, unit, text string) metric.Int64ObservableGauge {
	i, err := g.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	g.err = errors.Join(g.err, err)
	g.all = append(g.all, i)
	return i
}
