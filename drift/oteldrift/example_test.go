package oteldrift_test

import (
	"context"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/drift/oteldrift"
)

func ExampleObserve() {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	ref, err := drift.Fit(drift.Categories("plan", []string{"free", "free", "pro"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	monitor, err := drift.NewMonitor(ref, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	stop, err := oteldrift.Observe(provider, "ranker inputs", monitor)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	var out metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &out); err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range out.ScopeMetrics[0].Metrics {
		if m.Name == "drift.verdict" {
			point := m.Data.(metricdata.Gauge[int64]).DataPoints[0]
			feature, _ := point.Attributes.Value("drift.feature")
			fmt.Println(feature.AsString(), drift.Verdict(point.Value))
		}
	}
	// Output: plan insufficient
}
