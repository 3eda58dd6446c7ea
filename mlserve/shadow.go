package mlserve

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Shadows take what the server can spare and never hold up an answer: a queue
// that drops when full, and two workers.
const (
	shadowQueue   = 256
	shadowWorkers = 2
)

type shadowJob struct {
	entry   *entry
	state   *state
	inst    *instance
	id, key string
	in      Batch
}

// shadow hands a copy of the input to the shadow versions, or drops it.
func (e *entry) shadow(ctx context.Context, st *state, r *Request) {
	for _, i := range st.shadows {
		if len(e.server.shadows) == cap(e.server.shadows) { // spare the copy; the select below decides
			e.server.tel.dropShadow(ctx, e.name)
			continue
		}
		select {
		case e.server.shadows <- shadowJob{entry: e, state: st, inst: i, id: r.ID, key: r.Key, in: r.Input.clone()}:
		default:
			e.server.tel.dropShadow(ctx, e.name)
		}
	}
}

// runShadows works until ctx ends; what is queued then is dropped.
func (s *Server) runShadows(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-s.shadows:
			job.run(ctx)
		}
	}
}

// run asks the shadow version and keeps nothing but what the judge is told.
func (j *shadowJob) run(ctx context.Context) {
	if !j.inst.acquire() {
		return // swapped away while queued
	}
	defer j.inst.release()
	in, err := j.inst.sig.Conform(j.in)
	if err != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, j.entry.opts.Timeout)
	defer cancel()
	start := time.Now()
	_, err = j.inst.predict(limited, in)
	took := time.Since(start)
	if ctx.Err() != nil {
		return
	}
	o := Outcome{ID: j.id, Arm: shadowArm, Key: j.key, Shadow: true, Metric: MetricErrors}
	outcome := "ok"
	if err != nil {
		o.Value, outcome = 1, "error"
	}
	j.entry.server.tel.duration.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("model", j.entry.name), attribute.String("version", j.inst.version.Version),
		attribute.String("arm", shadowArm), attribute.String("outcome", outcome)))
	if judge := j.state.traffic.Judge; judge != nil {
		judge.Observe(o)
		o.Metric, o.Value = MetricLatency, took.Seconds()
		judge.Observe(o)
	}
}
