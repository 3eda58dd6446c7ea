package featurestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// maxEventID bounds the id of an event, in bytes.
const maxEventID = 512

// Windows is a view whose features are aggregates of the events of each key
// over time, evaluated when they are read. It is read like a View and written
// by Ingest, Backfill and Rebuild; it cannot be put. It may be used concurrently.
type Windows[K, E, F any] struct {
	*View[K, F]

	events Events[K, E]
	aggs   []Aggregate[E]
}

// NewWindows defines windows. F has one field for each aggregate, found by its
// name: float64 or *float64, for a count also int or int64. Folds that are null
// without values, all but Count and Sum, need a pointer or a default. What is
// wrong is in Err.
func NewWindows[F, K, E any](name string, e Events[K, E], o *WindowOptions, aggs ...Aggregate[E]) *Windows[K, E, F] {
	d := newDefinition(name, reflect.TypeFor[K](), reflect.TypeFor[F]())
	w := &Windows[K, E, F]{View: &View[K, F]{def: d}, events: e, aggs: aggs}
	if d.err != nil {
		return w
	}
	if o == nil {
		o = &WindowOptions{}
	}
	specs := make([]aggregateSpec, len(aggs))
	var err error
	for i, a := range aggs {
		specs[i] = aggregateSpec{a.name, a.fold, a.window}
		if a.fold != foldCount && a.value == nil {
			err = fmt.Errorf("aggregate %q has no function for its value", a.name)
		}
	}
	if e.key == nil || e.at == nil || e.id == nil {
		err = errors.New("By needs functions for key, time and id")
	}
	if err == nil {
		d.windows, err = newWindowPlan(*o, d.features, specs)
	}
	if err != nil {
		d.err = d.fail("", fmt.Errorf("%w: %w", ErrDefinition, err))
		return w
	}
	layout := d.windows.describe(specs)
	d.layout = digest(d.describe((*field).describe), layout)
	d.spec = fmt.Sprintf("%s lateness=%d %s", layout, d.windows.lateness, d.describe((*field).spec))
	return w
}

// EventTime returns the time of an event, as By was told.
func (w *Windows[K, E, F]) EventTime(event E) time.Time { return w.events.at(event) }

// Ingest returns a handler that adds each event to the windows of its key:
// offline first, then online, where the ids of recent events make a redelivery
// count once, in the same atomic step. It returns nil when both hold the event,
// and also for one that is a duplicate or too late, which the telemetry counts.
// An event that can never be added, or lies too far in the future, is marked
// messaging.Permanent, for the dead letter. Handlers may run concurrently; those
// of one key wait for each other least if they are delivered in order by key.
// The delivery may be nil; without it a redelivery is not counted as one.
func (w *Windows[K, E, F]) Ingest(s *Store) func(ctx context.Context, event E, d *messaging.Delivery) error {
	return func(ctx context.Context, event E, d *messaging.Delivery) error {
		if w.def.err != nil {
			return w.def.err
		}
		now := s.clock()
		a, err := w.arrival(event, now, s)
		if err != nil {
			return messaging.Permanent(err)
		}
		if s.tooFarAhead(a.rec.Event, now) {
			s.tel.wrote(ctx, w.def.name, &a.rec, Future)
			return messaging.Permanent(w.def.fail(a.rec.Key, errFuture))
		}
		a.again = d != nil && d.Attempt > 1
		return w.def.fail("", w.def.admit(ctx, s, []arrival{a}))
	}
}

const backfillBatch = 1024

// Backfill adds history: events that are dated as if they had been known when
// they happened. They should come in order of time, per key at least up to the
// allowed lateness; what is later than that changes nothing online, but is kept
// offline. Running it again adds nothing twice within the lateness; run it into
// an empty online store to begin anew. It stops at the first error, of the
// sequence or its own, or an event too far in the future; what came before is
// added.
func (w *Windows[K, E, F]) Backfill(ctx context.Context, s *Store, events iter.Seq2[E, error]) error {
	if w.def.err != nil {
		return w.def.err
	}
	now := s.clock()
	batch := make([]arrival, 0, backfillBatch)
	flush := func() error {
		err := w.def.admit(ctx, s, batch)
		batch = batch[:0]
		return w.def.fail("", err)
	}
	for event, err := range events {
		if err != nil {
			return errors.Join(w.def.fail("", err), flush())
		}
		a, err := w.arrival(event, w.events.at(event), s)
		if err == nil && s.tooFarAhead(a.rec.Event, now) {
			err = w.def.fail(a.rec.Key, errFuture)
		}
		if err != nil {
			return errors.Join(err, flush())
		}
		if batch = append(batch, a); len(batch) == cap(batch) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// arrival is one event on its way into the store: the record that goes offline
// and, as its payload, the bytes that go into the window state.
type arrival struct {
	rec     Record
	again   bool // it was delivered before, and may have come to either store
	outcome Outcome
}

func (w *Windows[K, E, F]) arrival(e E, created time.Time, s *Store) (arrival, error) {
	d := w.def
	k := w.events.key(e)
	key, err := d.key(reflect.ValueOf(&k).Elem())
	if err != nil {
		return arrival{}, err
	}
	at := plain(w.events.at(e))
	ns, err := nanos(at)
	if err != nil {
		return arrival{}, d.fail(key, fmt.Errorf("event %w", err))
	}
	id := w.events.id(e)
	if id == "" || len(id) > maxEventID {
		return arrival{}, d.fail(key, fmt.Errorf("event id must have 1 to %d bytes, not %d", maxEventID, len(id)))
	}
	values := make([]float64, 0, d.windows.values)
	for i := range w.aggs {
		if w.aggs[i].value != nil {
			values = append(values, w.aggs[i].value(e))
		}
	}
	return arrival{rec: Record{
		Ref: Ref{View: d.name, Key: key}, Found: true, Event: at, Created: plain(created),
		Fingerprint: d.layout, TTL: d.windows.retention(s), Payload: appendEvent(nil, ns, id, values),
	}}, nil
}

// maxSwaps bounds how often a write meets another writer of the same key. Each
// time one of them gets on, so this is far beyond contention.
const maxSwaps = 1000

// admit adds arrivals, in order: offline, then online.
func (d *definition) admit(ctx context.Context, s *Store, arrivals []arrival) error {
	sw, err := s.swapper()
	if err != nil || len(arrivals) == 0 {
		return err
	}
	recs := make([]Record, len(arrivals))
	for i := range arrivals {
		recs[i] = arrivals[i].rec
	}
	if err := s.keep(ctx, recs); err != nil {
		return err
	}
	var refs []Ref
	byKey := map[string][]int{}
	for i := range recs {
		if byKey[recs[i].Key] == nil {
			refs = append(refs, recs[i].Ref)
		}
		byKey[recs[i].Key] = append(byKey[recs[i].Key], i)
	}
	for range maxSwaps {
		stored, err := s.read(ctx, refs)
		if err != nil {
			return err
		}
		changed := stored[:0]
		for i := range stored {
			applied, err := d.addTo(&stored[i], s, arrivals, byKey[refs[i].Key])
			if err != nil {
				return d.fail(refs[i].Key, err)
			}
			if applied {
				changed = append(changed, stored[i])
			}
		}
		if refs, err = swap(ctx, sw, changed); err != nil {
			return err
		}
		if len(refs) == 0 {
			for i := range arrivals {
				a := &arrivals[i]
				if a.again && a.outcome == Stale {
					s.tel.tooLateAgain(ctx, d.name, &a.rec)
				} else {
					s.tel.wrote(ctx, d.name, &a.rec, a.outcome)
				}
			}
			return nil
		}
	}
	return d.fail(refs[0].Key, fmt.Errorf("%d attempts met other writers; deliver by key", maxSwaps))
}

// swap returns the refs that another writer has changed meanwhile.
func swap(ctx context.Context, sw Swapper, recs []Record) ([]Ref, error) {
	if len(recs) == 0 {
		return nil, nil
	}
	stored, err := sw.Swap(ctx, recs)
	if err == nil && len(stored) != len(recs) {
		err = fmt.Errorf("online store answered %d records with %d results", len(recs), len(stored))
	}
	if err != nil {
		return nil, fmt.Errorf("online swap, outcome unknown, safe to repeat: %w", err)
	}
	var again []Ref
	for i := range recs {
		if !stored[i] {
			again = append(again, recs[i].Ref)
		}
	}
	return again, nil
}

// addTo applies the arrivals of one key to its record, and says whether that
// changed it.
func (d *definition) addTo(rec *Record, s *Store, arrivals []arrival, which []int) (bool, error) {
	p := d.windows
	st := windowState{mark: noMark}
	if rec.Found {
		if rec.Fingerprint != d.layout {
			return false, ErrFingerprint
		}
		var err error
		if st, err = p.parse(rec.Payload); err != nil {
			return false, err
		}
	}
	changed := false
	for _, i := range which {
		a := &arrivals[i]
		var err error
		if a.outcome, err = p.apply(&st, a.rec.Payload, p.horizon(s)); err != nil {
			return false, err
		}
		if a.outcome == Applied {
			changed = true
			if a.rec.Created.After(rec.Created) {
				rec.Created = a.rec.Created
			}
		}
	}
	if changed {
		rec.Event, rec.Fingerprint, rec.TTL = time.Unix(0, st.mark).UTC(), d.layout, p.retention(s)
		rec.Payload = p.encode(&st)
	}
	return changed, nil
}

// loadWindows is load for windows.
func (d *definition) loadWindows(rec *Record, q time.Time, s *Store, out []cell) (loaded, error) {
	p := d.windows
	st := windowState{mark: noMark}
	at, err := nanos(q)
	if err == nil && rec.Found {
		if rec.Fingerprint != d.layout {
			err = ErrFingerprint
		} else {
			st, err = p.parse(rec.Payload)
		}
	}
	if err != nil {
		for i := range out {
			out[i] = d.features[i].orZero(math.NaN())
		}
		return loaded{}, err
	}
	if st.mark != noMark {
		// The clock may be behind the events, but not behind what is closed.
		at = max(at, st.mark-p.horizon(s))
	}
	l, err := d.evaluate(&st, at, false, out)
	if l.status == Hit {
		l.created = rec.Created
	}
	return l, err
}

// evaluate fills out with the features of a state at time q. A row is a hit if
// there is an event in any window.
func (d *definition) evaluate(st *windowState, q int64, strict bool, out []cell) (loaded, error) {
	p := d.windows
	l, newest := loaded{}, int64(noMark)
	for i := range p.aggs {
		a := &p.aggs[i]
		w, err := p.evaluate(st, a, q, strict)
		if err != nil {
			return loaded{}, err
		}
		newest = max(newest, w.newest)
		out[a.feature] = d.features[a.feature].orZero(w.value)
	}
	if newest != noMark {
		l.status, l.event = Hit, time.Unix(0, newest).UTC()
	}
	return l, nil
}

// orZero is the value of an aggregate: null where the field can be null, else
// the default, else zero.
func (f *field) orZero(v float64) cell {
	switch {
	case v == v && f.kind == kindInt:
		return cell{bits: uint64(int64(v))}
	case v == v:
		return floatCell(v)
	case f.nullable:
		return null
	case f.fallback != nil:
		return *f.fallback
	}
	return cell{}
}
