package mlserve

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Request is one call of a model.
type Request struct {
	// ID of the request; "": one is made.
	ID string
	// Key is the unit of assignment, as a rule a customer: the same key gets
	// the same arm. "": each request is assigned by chance.
	Key string
	// Input that fits the signature; see [Signature.Conform].
	Input Batch
}

// Response is one answer.
type Response struct {
	ID         string        // as in the request, or made
	Key        string        // as in the request
	Output     Batch         // the caller's own
	Version    string        // the one version that gave Output; "" if degraded
	Features   string        // Manifest.Features of that version; "" if degraded, or for AddModel
	Arm        string        // that the request was assigned to; "primary" without a split
	Propensity float64       // probability of this arm for a key drawn at random
	Degraded   string        // "" if the version answered; else "rung: reason", reason late, failed, rejected or unready
	Took       time.Duration // in the server, ladder included
}

// Rung is one answer of a ladder.
type Rung struct {
	// Name shows in Response.Degraded and in metrics.
	Name string
	// Answer gets the request with the conformed input, if there was one to
	// conform to. It must obey ctx; an answer that comes late is still used.
	Answer func(ctx context.Context, r Request) (Batch, error)
	// Needs is the time kept for this rung: what comes before it is cut off
	// that much earlier. 0 means a twentieth of the request's time. A rung
	// whose time is up is passed over, but for the last, which is always asked.
	Needs time.Duration
}

// Why a version did not answer.
const (
	reasonLate     = "late"
	reasonFailed   = "failed"
	reasonRejected = "rejected"
	reasonUnready  = "unready"
)

// Predict answers a request with exactly one version of a model: the arm that
// the key is assigned to, or a rung of the ladder.
//
// Errors: [ErrNotFound], [ErrInput] and the end of ctx by its caller pass by the
// ladder. What else goes wrong is answered by the ladder, and is an error only
// where no rung answers: [ErrNotReady], [concurrency.ErrRejected],
// [context.DeadlineExceeded], [ErrOutput], the model's own.
func (s *Server) Predict(ctx context.Context, model string, r Request) (Response, error) {
	e, err := s.find("predict", model)
	if err != nil {
		return Response{ID: r.ID, Key: r.Key}, err
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		ctx, span = s.tel.tracer.Start(ctx, "mlserve.predict", trace.WithAttributes(attribute.String("model", model)))
		resp, err := e.predict(ctx, r)
		span.SetAttributes(attribute.String("version", resp.Version), attribute.String("arm", resp.Arm), attribute.String("degraded", resp.Degraded))
		if err != nil {
			span.RecordError(err)
		}
		span.End()
		return resp, err
	}
	return e.predict(ctx, r)
}

func newID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// take picks a route and a reference to its version, all from one state.
func (e *entry) take(key string) (*state, *route) {
	for {
		st := e.state.Load()
		if len(st.routes) == 0 {
			return st, nil
		}
		if rt := st.pick(key); rt.inst.acquire() {
			return st, rt
		}
		// A swap came between the two steps; its state is already there.
	}
}

func (e *entry) predict(ctx context.Context, r Request) (resp Response, err error) {
	start := time.Now()
	if r.ID == "" {
		r.ID = newID()
	}
	resp = Response{ID: r.ID, Key: r.Key}
	st, rt := e.take(r.Key)
	if rt == nil {
		err = e.descend(ctx, e.deadline(ctx, start), r, &resp, ErrNotReady, reasonUnready)
		resp.Took = time.Since(start)
		return resp, fail("predict", e.name, "", err)
	}
	defer rt.inst.release()
	resp.Version, resp.Features = rt.inst.version.Version, rt.inst.manifest.Features
	resp.Arm, resp.Propensity = rt.arm, rt.propensity
	in, err := rt.inst.sig.Conform(r.Input)
	if err != nil {
		e.server.tel.duration.Record(ctx, time.Since(start).Seconds(), rt.attrs.invalid...)
		return resp, fail("predict", e.name, resp.Version, err)
	}
	r.Input = in
	end := e.deadline(ctx, start)
	var reason string
	resp.Output, reason, err = e.attempt(ctx, end.Add(-e.reserve(0)), rt.inst, in)
	took := time.Since(start)
	if reason != "" {
		err = e.descend(ctx, end, r, &resp, err, reason)
	}
	resp.Took = time.Since(start)
	e.measure(ctx, rt, &resp, err)
	if e.caller(ctx, err) {
		return resp, fail("predict", e.name, resp.Version, err)
	}
	judge(st, rt, &resp, reason, took)
	e.shadow(ctx, st, &r)
	if rec := e.server.opts.Recorder; rec != nil {
		rec.record(Event{Time: start, Model: e.name, Request: r, Response: resp, Err: err, sig: &rt.inst.sig})
	}
	return resp, fail("predict", e.name, resp.Version, err)
}

// caller says whether an error is the caller's: a bad input, or it left.
func (e *entry) caller(ctx context.Context, err error) bool {
	return err != nil && (errors.Is(err, ErrInput) || errors.Is(ctx.Err(), context.Canceled))
}

func (e *entry) deadline(ctx context.Context, start time.Time) time.Time {
	end := start.Add(e.opts.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		return d
	}
	return end
}

// reserve is the time kept for the ladder from rung n on.
func (e *entry) reserve(n int) time.Duration {
	if n >= len(e.opts.Ladder) {
		return 0
	}
	return positive(e.opts.Ladder[n].Needs, e.opts.Timeout/20)
}

// attempt asks the version. A reason other than "" is for the ladder.
func (e *entry) attempt(ctx context.Context, end time.Time, i *instance, in Batch) (out Batch, reason string, err error) {
	limited, cancel := within(ctx, end)
	defer cancel()
	if e.opts.Limiter == nil {
		out, err = i.predict(limited, in)
	} else {
		out, err = e.admit(limited, i, in)
	}
	switch {
	case err == nil:
		return out, "", nil
	case e.caller(ctx, err):
		return nil, "", err
	case errors.Is(err, concurrency.ErrRejected):
		return nil, reasonRejected, err
	case limited.Err() == nil:
		return nil, reasonFailed, err
	case !errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return nil, reasonLate, err
}

func (e *entry) admit(ctx context.Context, i *instance, in Batch) (out Batch, err error) {
	p, err := e.opts.Limiter.Acquire(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer p.Done(&err)
	return i.predict(ctx, in)
}

// descend asks the rungs in turn. cause is what sent the request here, and the
// error if no rung answers.
func (e *entry) descend(ctx context.Context, end time.Time, r Request, resp *Response, cause error, reason string) error {
	ladder := e.opts.Ladder
	for n := range ladder {
		if errors.Is(ctx.Err(), context.Canceled) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), cause)
		}
		cut := end.Add(-e.reserve(n + 1))
		if n+1 < len(ladder) && !time.Now().Before(cut) {
			continue
		}
		out, err := ask(ctx, cut, &ladder[n], r)
		if err != nil {
			cause = fmt.Errorf("%w; rung %q: %w", cause, ladder[n].Name, err)
			continue
		}
		resp.Output, resp.Version, resp.Features = out, "", ""
		resp.Degraded = ladder[n].Name + ": " + reason
		e.server.tel.degrade(ctx, e.name, ladder[n].Name, reason)
		return nil
	}
	return cause
}

func ask(ctx context.Context, end time.Time, rung *Rung, r Request) (out Batch, err error) {
	ctx, cancel := within(ctx, end)
	defer cancel()
	err = guard(func() (err error) {
		out, err = rung.Answer(ctx, r)
		if err == nil {
			err = out.check()
		}
		return err
	})
	return out, err
}

// judge observes what the version itself did, whatever the ladder made of it.
func judge(st *state, rt *route, resp *Response, reason string, took time.Duration) {
	j := st.traffic.Judge
	if j == nil || reason == reasonRejected { // not admitted says nothing about the version
		return
	}
	o := Outcome{ID: resp.ID, Arm: rt.arm, Control: rt.control, Key: resp.Key, Metric: MetricErrors}
	if reason != "" {
		o.Value = 1
	}
	j.Observe(o)
	o.Metric, o.Value = MetricLatency, took.Seconds()
	j.Observe(o)
}
