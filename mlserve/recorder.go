package mlserve

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder hands routed requests and their answers to sinks, off the request
// path: it never blocks a request, and drops when its queue is full. The zero
// value with Sinks is ready; set the fields before use and do not copy it. One
// server runs it.
type Recorder struct {
	// Sinks get the events, in order, one call at a time.
	Sinks []Sink
	// Queue is how many events may wait; 0 means 4096.
	Queue int
	// Sample is the share of requests recorded, drawn by chance; 0 means all.
	Sample float64

	once    sync.Once
	queue   chan Event
	dropped atomic.Uint64
}

// Sink takes events, the oldest first. It may keep them, but must not modify
// their tensors, which sinks share. ctx ends when the server has waited
// Options.Drain for the last events. An error is logged; the events are not
// offered again.
type Sink func(ctx context.Context, events []Event) error

// Event is one routed request and what was answered. Its tensors are copies.
type Event struct {
	Time     time.Time // when the request came
	Model    string
	Request  Request  // with the input as the version saw it
	Response Response // of an error, what is known
	Err      error    // nil if there was an answer, degraded or not

	sig *Signature // of the assigned version
}

const recordBatch = 256

func (r *Recorder) init() {
	r.once.Do(func() { r.queue = make(chan Event, positive(r.Queue, 4096)) })
}

// Dropped is how many events were not recorded because the queue was full,
// or because the server ended.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

func (r *Recorder) record(ev Event) {
	r.init()
	if r.Sample > 0 && r.Sample < 1 && rand.Float64() >= r.Sample {
		return
	}
	if len(r.queue) == cap(r.queue) { // spare the copy; the select below decides
		r.dropped.Add(1)
		return
	}
	ev.Request.Input, ev.Response.Output = ev.Request.Input.clone(), ev.Response.Output.clone()
	select {
	case r.queue <- ev:
	default:
		r.dropped.Add(1)
	}
}

// run hands events to the sinks until ctx ends, then the rest within drain.
func (r *Recorder) run(ctx context.Context, drain time.Duration, tel *telemetry) {
	r.init()
	hand, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })()
	batch := make([]Event, 0, recordBatch)
	for {
		select {
		case ev := <-r.queue:
			batch = append(batch, ev)
		case <-ctx.Done():
			select {
			case ev := <-r.queue:
				batch = append(batch, ev)
			default:
				return
			}
		}
		batch = r.fill(batch)
		if hand.Err() != nil {
			r.dropped.Add(uint64(len(batch)))
		} else {
			r.hand(hand, batch, tel)
		}
		batch = make([]Event, 0, recordBatch) // a sink may have kept the last one
	}
}

// fill takes what else is waiting.
func (r *Recorder) fill(batch []Event) []Event {
	for len(batch) < recordBatch {
		select {
		case ev := <-r.queue:
			batch = append(batch, ev)
		default:
			return batch
		}
	}
	return batch
}

func (r *Recorder) hand(ctx context.Context, batch []Event, tel *telemetry) {
	for n, sink := range r.Sinks {
		if err := guard(func() error { return sink(ctx, batch) }); err != nil {
			tel.log.ErrorContext(ctx, "mlserve: a recorder's sink failed", "sink", n, "events", len(batch), "error", err)
		}
	}
}
