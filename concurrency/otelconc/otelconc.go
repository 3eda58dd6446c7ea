// Package otelconc exports what limiters, hedges and budgets of package
// concurrency say about themselves as OpenTelemetry metrics.
//
// [Observe] takes the Stats method of a [concurrency.Semaphore], Admission,
// Rate, Rates, Breaker, Hedger or Budget, and a name for it:
//
//	stop, err := otelconc.Observe(nil, "inventory", inventory.Stats)
//
// It is called once for each collection, so observing costs the calls that are
// limited nothing.
//
// # What is exported
//
// Every series has the attribute concurrency.limiter, which is the name.
//
//   - concurrency.limit, {unit}: the units there are, as an up-down counter. Of a Rate
//     its burst, of a Budget the extra runs that are left; 0 where there is no such number
//   - concurrency.in_flight, {unit}: the units that are out now, as an up-down
//     counter; compared with concurrency.limit it tells how full it is
//   - concurrency.waiting, {request}: who waits now, as an up-down counter
//   - concurrency.requests, {request}: who has asked, as a counter, with the attribute
//     concurrency.outcome: admitted or rejected. Of a Hedger and a Budget these are the extra runs
//   - concurrency.failures, {request}: the admitted that reported a failure, as a counter. Of a
//     Hedger these are the second runs that were in vain
//   - concurrency.open, 1: 1 while a Breaker refuses, else 0, as a gauge
//
// What the numbers mean for each of them stands at its Stats method. To page
// on: requests with outcome rejected, as a share of all, and concurrency.open.
//
// # How many series
//
// Seven for each name. Names are given in code; keys, such as those of
// a [concurrency.Rates], hosts and errors are never attributes, so traffic adds no series.
package otelconc

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mainstay-go/mainstay/concurrency"
)

const scope = "github.com/mainstay-go/mainstay/concurrency/otelconc"

// Observe registers the metrics of what stats tells with p, nil meaning the
// global provider. name tells limiters apart, as "inventory"; it must not be
// empty, and two that are observed at one time should not have the same, or
// their series are mixed. stats must be safe for concurrent use, as all Stats
// methods of package concurrency are.
//
// stop ends the reporting; it may be called more than once. Call it when the
// limiter is given up, which is otherwise kept alive by p. On an error nothing
// is registered and stop is a function that does nothing.
func Observe(p metric.MeterProvider, name string, stats func() concurrency.Stats) (stop func(), err error) {
	if stats == nil || name == "" {
		return func() {}, errors.New("otelconc: statistics and a name for them are needed")
	}
	if p == nil {
		p = otel.GetMeterProvider()
	}
	i := instruments{meter: p.Meter(scope)}
	limit := i.upDown("concurrency.limit", "{unit}", "Units that the limiter has.")
	inFlight := i.upDown("concurrency.in_flight", "{unit}", "Units that are out.")
	waiting := i.upDown("concurrency.waiting", "{request}", "Requests that wait.")
	requests := i.counter("concurrency.requests", "{request}", "Requests, by whether they were admitted.")
	failures := i.counter("concurrency.failures", "{request}", "Admitted requests that reported a failure.")
	open := i.gauge("concurrency.open", "1", "1 while a breaker refuses, else 0.")
	if i.err != nil {
		return func() {}, fmt.Errorf("otelconc: %w", i.err)
	}
	limiter := attribute.String("concurrency.limiter", name)
	with := metric.WithAttributeSet(attribute.NewSet(limiter))
	admitted := metric.WithAttributeSet(attribute.NewSet(limiter, attribute.String("concurrency.outcome", "admitted")))
	rejected := metric.WithAttributeSet(attribute.NewSet(limiter, attribute.String("concurrency.outcome", "rejected")))
	collect := func(_ context.Context, o metric.Observer) error {
		s := stats()
		o.ObserveInt64(limit, s.Limit, with)
		o.ObserveInt64(inFlight, s.InFlight, with)
		o.ObserveInt64(waiting, s.Waiting, with)
		o.ObserveInt64(requests, count(s.Admitted), admitted)
		o.ObserveInt64(requests, count(s.Rejected), rejected)
		o.ObserveInt64(failures, count(s.Failed), with)
		o.ObserveInt64(open, one(s.Open), with)
		return nil
	}
	reg, err := i.meter.RegisterCallback(collect, i.all...)
	if err != nil {
		return func() {}, fmt.Errorf("otelconc: %w", err)
	}
	return func() { _ = reg.Unregister() }, nil
}

func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// instruments makes them and keeps the first errors.
type instruments struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (i *instruments) upDown(name, unit, text string) metric.Int64Observable {
	made, err := i.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return i.add(made, err)
}

func (i *instruments) counter(name, unit, text string) metric.Int64Observable {
	made, err := i.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return i.add(made, err)
}

func (i *instruments) gauge(name, unit, text string) metric.Int64Observable {
	made, err := i.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	return i.add(made, err)
}

func (i *instruments) add(made metric.Int64Observable, err error) metric.Int64Observable {
	i.err = errors.Join(i.err, err)
	i.all = append(i.all, made)
	return made
}
