package gateway

import (
	"context"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
)

var nan = math.NaN()

// record counts the answer by what gave it: a handful of names.
func (g *Gateway) record(ctx context.Context, r wire.Recommendation, took time.Duration) {
	by := "model"
	if r.Degraded != "" {
		by, _, _ = strings.Cut(r.Degraded, ":")
	}
	g.served.Record(context.WithoutCancel(ctx), took.Seconds(), metric.WithAttributes(attribute.String("answered_by", by)))
}
