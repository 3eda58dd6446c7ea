package otelconc_test

import (
	"context"
	"errors"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/otelconc"
)

func ExampleObserve() {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	inventory := concurrency.NewSemaphore(1, concurrency.NoWait)
	stop, err := otelconc.Observe(provider, "inventory", inventory.Stats)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	// One asks, and while it is served another one is refused.
	_, _ = concurrency.Do(context.Background(), inventory, func(context.Context) (int, error) {
		_, err := concurrency.Do(context.Background(), inventory, func(context.Context) (int, error) { return 1, nil })
		fmt.Println(errors.Is(err, concurrency.ErrRejected))
		return 1, nil
	})

	var out metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &out); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range out.ScopeMetrics[0].Metrics {
		if m.Name != "concurrency.requests" {
			continue
		}
		for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
			outcome, _ := point.Attributes.Value("concurrency.outcome")
			fmt.Println(outcome.AsString(), point.Value)
		}
	}
	// Unordered output:
	// true
	// admitted 1
	// rejected 1
}
