package mlserve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// load takes a version through every check before it may serve: fetch,
// checksum, load, signature, warm-up, golden cases.
func (s *Server) load(ctx context.Context, e *entry, v Version) (_ *instance, err error) {
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other loads: %w", context.Cause(ctx))
	}
	ctx, span := s.tel.tracer.Start(ctx, "mlserve.load", trace.WithAttributes(
		attribute.String("model", e.name), attribute.String("version", v.Version)))
	defer func() {
		result := "ok"
		if err != nil {
			result = "error"
			span.RecordError(err)
			span.SetStatus(codes.Error, "the version does not serve")
		}
		s.tel.loads.Add(ctx, 1, metric.WithAttributes(attribute.String("model", e.name), attribute.String("outcome", result)))
		span.End()
	}()
	files, m, err := e.source.Open(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if m.Model != v.Model || m.Version != v.Version {
		return nil, fmt.Errorf("%w: the manifest is of %s@%s", ErrModelFile, m.Model, m.Version)
	}
	if want := e.opts.Features; want != "" && m.Features != want {
		return nil, fmt.Errorf("%w: trained on features %q, served are %q", ErrModelFile, m.Features, want)
	}
	verified, err := m.verify(ctx, files)
	if err != nil {
		return nil, err
	}
	var model Model
	err = guard(func() (err error) {
		model, err = e.loader.Load(ctx, verified, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	if model == nil {
		return nil, fmt.Errorf("%w: the loader gave no model", ErrModelFile)
	}
	inst, err := s.vet(ctx, e, v, model, m.Golden)
	if err != nil {
		return nil, errors.Join(err, guard(model.Close))
	}
	inst.files, inst.manifest = verified, m
	return inst, nil
}

// vet checks a model that is in memory. It does not close it.
func (s *Server) vet(ctx context.Context, e *entry, v Version, m Model, golden []Golden) (*instance, error) {
	var sig Signature
	if err := guard(func() error { sig = m.Signature(); return sig.check() }); err != nil {
		return nil, err
	}
	if p := e.state.Load().primary(); p != nil {
		if err := sig.replaces(p.sig); err != nil {
			return nil, fmt.Errorf("signature: %w", err)
		}
	}
	labels := attribute.NewSet(attribute.String("model", e.name), attribute.String("version", v.Version))
	inst := newInstance(v, m, func(err error) {
		s.tel.loaded.Add(context.Background(), -1, metric.WithAttributeSet(labels))
		if err != nil {
			s.tel.log.Error("mlserve: closing a version failed", "model", e.name, "version", v.Version, "error", err)
		}
	})
	inst.classes = newClasses(e.name, v.Version, sig.Outputs[0], e.opts.Classes)
	if err := inst.rehearse(ctx, golden, rehearsalFactor*e.opts.Timeout); err != nil {
		return nil, err
	}
	s.tel.loaded.Add(ctx, 1, metric.WithAttributeSet(labels))
	return inst, nil
}

// warmups is how often the first input is answered before a version serves:
// lazy tables, pools and pages are then there.
const warmups = 3

// rehearsalFactor is how many times longer than a request a rehearsal may
// take: the first one fills caches.
const rehearsalFactor = 10

// rehearse warms the version up and has it answer its golden cases. Without
// golden cases a row of zeros warms it up; a model may refuse that row or be
// late with it, but not panic or break its signature.
func (i *instance) rehearse(ctx context.Context, golden []Golden, limit time.Duration) error {
	in := i.sig.zeros()
	if len(golden) > 0 {
		in = golden[0].In
	}
	for range warmups {
		err := i.rehearseOne(ctx, in, limit, nil)
		if errors.Is(err, ErrOutput) {
			return fmt.Errorf("warm-up: %w", err)
		}
		if err != nil {
			break
		}
	}
	for n, g := range golden {
		if err := i.rehearseOne(ctx, g.In, limit, g.matches); err != nil {
			return fmt.Errorf("%w: golden case %d: %w", ErrModelFile, n, err)
		}
	}
	return context.Cause(ctx)
}

// rehearseOne predicts within limit and has check look at the answer.
func (i *instance) rehearseOne(ctx context.Context, in Batch, limit time.Duration, check func(Batch) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	in, err := i.sig.Conform(in)
	if err != nil {
		return err
	}
	out, err := i.predict(ctx, in)
	if err != nil || check == nil {
		return err
	}
	return check(out)
}

// zeros is one row of zeros; dimensions of any size are 1.
func (s Signature) zeros() Batch {
	in := make(Batch, len(s.Inputs))
	for i, spec := range s.Inputs {
		shape, n := make([]int, len(spec.Shape)), 1
		for j, d := range spec.Shape {
			shape[j] = max(d, 1)
			if d == 0 {
				shape[j] = 0
			}
			n *= shape[j]
		}
		in[i] = Tensor{Name: spec.Name, Shape: shape, Data: zeroData(spec.Type, n)}
	}
	return in
}

func zeroData(kind string, n int) any {
	switch kind {
	case Bool:
		return make([]bool, n)
	case Int32:
		return make([]int32, n)
	case Int64:
		return make([]int64, n)
	case Float32:
		return make([]float32, n)
	case Float64:
		return make([]float64, n)
	default:
		return make([]string, n)
	}
}
