package mlserve

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/mainstay-go/mainstay/mlserve"

// telemetry is what the server measures. Every label comes from a bounded set:
// models, versions, arms and rungs are the operator's, outcomes and reasons
// are constants, classes are counted up to a limit.
type telemetry struct {
	log         *slog.Logger
	tracer      trace.Tracer
	duration    metric.Float64Histogram // model, version, arm, outcome
	predictions metric.Int64Counter     // model, version, class
	degraded    metric.Int64Counter     // model, rung, reason
	loads       metric.Int64Counter     // model, outcome
	loaded      metric.Int64UpDownCounter
	shadowDrops metric.Int64Counter // model
}

func newTelemetry(tp trace.TracerProvider, mp metric.MeterProvider, log *slog.Logger) *telemetry {
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	if mp == nil {
		mp = otel.GetMeterProvider()
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := mp.Meter(scope)
	t := &telemetry{log: log, tracer: tp.Tracer(scope)}
	var errs [6]error
	t.duration, errs[0] = m.Float64Histogram("mainstay.mlserve.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time of a prediction in the server, by version, arm and outcome (ok, degraded, error, invalid)."),
		metric.WithExplicitBucketBoundaries(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5))
	t.predictions, errs[1] = m.Int64Counter("mainstay.mlserve.predictions", metric.WithUnit("{row}"),
		metric.WithDescription("Predicted rows by class; of a score, by tenth."))
	t.degraded, errs[2] = m.Int64Counter("mainstay.mlserve.degraded", metric.WithUnit("{request}"),
		metric.WithDescription("Requests answered by a rung of the ladder, by rung and reason."))
	t.loads, errs[3] = m.Int64Counter("mainstay.mlserve.loads", metric.WithUnit("{load}"),
		metric.WithDescription("Versions loaded, by outcome (ok, error)."))
	t.loaded, errs[4] = m.Int64UpDownCounter("mainstay.mlserve.model.loaded", metric.WithUnit("{version}"),
		metric.WithDescription("1 while a version is in memory."))
	t.shadowDrops, errs[5] = m.Int64Counter("mainstay.mlserve.shadow.dropped", metric.WithUnit("{request}"),
		metric.WithDescription("Requests that shadow versions did not get because their queue was full."))
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return t
}

// outcomeAttrs are made once per route, not once per request.
type outcomeAttrs struct{ ok, degraded, failed, invalid []metric.RecordOption }

func newOutcomeAttrs(model, version, arm string) outcomeAttrs {
	with := func(outcome string) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(
			attribute.String("model", model), attribute.String("version", version),
			attribute.String("arm", arm), attribute.String("outcome", outcome)))}
	}
	return outcomeAttrs{ok: with("ok"), degraded: with("degraded"), failed: with("error"), invalid: with("invalid")}
}

// measure records one finished request.
func (e *entry) measure(ctx context.Context, rt *route, resp *Response, err error) {
	t := e.server.tel
	attrs := rt.attrs.ok
	switch {
	case err != nil:
		attrs = rt.attrs.failed
	case resp.Degraded != "":
		attrs = rt.attrs.degraded
	}
	t.duration.Record(ctx, resp.Took.Seconds(), attrs...)
	if err == nil && resp.Degraded == "" && t.predictions.Enabled(ctx) {
		rt.inst.classes.count(ctx, t.predictions, resp.Output)
	}
}

func (t *telemetry) degrade(ctx context.Context, model, rung, reason string) {
	t.degraded.Add(ctx, 1, metric.WithAttributes(
		attribute.String("model", model), attribute.String("rung", rung), attribute.String("reason", reason)))
}

func (t *telemetry) dropShadow(ctx context.Context, model string) {
	t.shadowDrops.Add(ctx, 1, metric.WithAttributes(attribute.String("model", model)))
}

// classes counts the predictions of one version by class: the value of a
// string, integer or bool output; the column with the largest of several
// scores, by name if the signature names columns; of a single score, its tenth
// of [0, 1]. The first classes seen have labels, the rest are "other".
type classes struct {
	columns []string
	mu      sync.RWMutex
	index   map[string]int
	attrs   [][]metric.AddOption // the last is "other"
	make    func(class string) []metric.AddOption
	limit   int
}

const otherClass = "other"

func newClasses(model, version string, out TensorSpec, limit int) *classes {
	c := &classes{columns: out.Columns, index: map[string]int{}, limit: min(limit, 1000)}
	c.make = func(class string) []metric.AddOption {
		return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
			attribute.String("model", model), attribute.String("version", version), attribute.String("class", class)))}
	}
	c.attrs = [][]metric.AddOption{c.make(otherClass)}
	return c
}

// count adds the rows of the first output. Rows of a kind are added together.
func (c *classes) count(ctx context.Context, counter metric.Int64Counter, out Batch) {
	rows := out.rows()
	if rows == 0 {
		return
	}
	last, run := -1, int64(0)
	for row := range rows {
		n := c.slot(c.class(&out[0], row))
		if n != last && run > 0 {
			counter.Add(ctx, run, c.attr(last)...)
			run = 0
		}
		last = n
		run++
	}
	counter.Add(ctx, run, c.attr(last)...)
}

func (c *classes) attr(n int) []metric.AddOption {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.attrs[n]
}

// slot is the index of a class, 0 for "other".
func (c *classes) slot(class string) int {
	c.mu.RLock()
	n, ok := c.index[class]
	full := len(c.index) >= c.limit
	c.mu.RUnlock()
	if ok || full || class == otherClass {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.index[class]; ok || len(c.index) >= c.limit {
		return n
	}
	n = len(c.attrs)
	class = strings.Clone(class) // not the whole request
	c.index[class] = n
	c.attrs = append(c.attrs, c.make(class))
	return n
}

const maxClassName = 64

func (c *classes) class(t *Tensor, row int) string {
	width := t.Len() / t.Shape[0]
	if width == 0 {
		return otherClass
	}
	switch d := t.Data.(type) {
	case []string:
		if s := d[row*width]; len(s) <= maxClassName {
			return s
		}
	case []int32:
		return strconv.Itoa(int(d[row*width]))
	case []int64:
		return strconv.FormatInt(d[row*width], 10)
	case []bool:
		return strconv.FormatBool(d[row*width])
	case []float32:
		return scoreClass(c.columns, d[row*width:(row+1)*width])
	case []float64:
		return scoreClass(c.columns, d[row*width:(row+1)*width])
	}
	return otherClass
}

func scoreClass[F float32 | float64](columns []string, scores []F) string {
	if len(scores) == 1 {
		s := float64(scores[0])
		if !(s >= 0 && s <= 1) {
			return otherClass
		}
		const tenths = "0.00.10.20.30.40.50.60.70.80.9"
		n := min(int(s*10), 9)
		return tenths[3*n : 3*n+3]
	}
	best := 0
	for n, s := range scores {
		if s > scores[best] {
			best = n
		}
	}
	if best < len(columns) {
		return columns[best]
	}
	return strconv.Itoa(best)
}
