package featurestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/messaging"
)

// Definition is a *View, *Windows or *Transform: what a Service is made of.
type Definition interface {
	// Name is the name the definition was given.
	Name() string
	// Err says what is wrong with the definition; nil: nothing.
	Err() error

	definition() *definition
}

// definition is the part of a definition that does not depend on type
// parameters.
type definition struct {
	name      string
	err       error
	keys      []field // of K; a transform has none
	features  []field // of F
	ttl       time.Duration
	layout    string // of the stored payload; kept with every row
	spec      string // all that decides a value; part of the service's fingerprint
	windows   *windowPlan
	transform *transformPlan
}

// fail says where err happened, once.
func (d *definition) fail(key string, err error) error {
	if _, placed := errors.AsType[*Error](err); placed || err == nil {
		return err
	}
	return &Error{Definition: d.name, Key: key, Err: err}
}

// digest shortens a description to 16 hexadecimal digits.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:8])
}

func newDefinition(name string, k, f reflect.Type) *definition {
	d := &definition{name: name}
	var err error
	if err = checkName(name); err != nil {
		d.err = d.fail("", fmt.Errorf("%w: %w", ErrDefinition, err))
		return d
	}
	if d.keys, err = fieldsOf(k); err == nil {
		err = checkKeys(d.keys)
	}
	if err == nil {
		d.features, err = fieldsOf(f)
	}
	if err == nil && len(d.features) == 0 {
		err = fmt.Errorf("%w: %v has no features", ErrDefinition, f)
	}
	d.err = d.fail("", err)
	return d
}

// describe joins what d's keys and features say of themselves.
func (d *definition) describe(part func(*field) string) string {
	var b strings.Builder
	b.WriteString(d.name)
	for i := range d.keys {
		b.WriteString("\nkey " + part(&d.keys[i]))
	}
	for i := range d.features {
		b.WriteString("\nfeature " + part(&d.features[i]))
	}
	return b.String()
}

// View is a set of features of one kind of entity, which are written and read
// together: K is the struct of its key fields, F that of its features. Fields
// are tagged `feature:"name"`, a default is `feature:"name,default=0"`. Types
// are integers, floats, bool and string; a pointer may be null. Define it once,
// in a package variable; it may be used concurrently.
type View[K, F any] struct{ def *definition }

// NewView defines a view. A row older than ttl is Expired; 0: never. The tags
// are resolved here, once; what is wrong with them is in Err.
func NewView[K, F any](name string, ttl time.Duration) *View[K, F] {
	d := newDefinition(name, reflect.TypeFor[K](), reflect.TypeFor[F]())
	d.ttl = ttl
	if d.err == nil && ttl < 0 {
		d.err = d.fail("", fmt.Errorf("%w: ttl %v is negative; 0 is no expiry", ErrDefinition, ttl))
	}
	if d.err == nil {
		d.layout = digest("view", d.describe((*field).describe))
		d.spec = fmt.Sprintf("view ttl=%d %s", ttl, d.describe((*field).spec))
	}
	return &View[K, F]{def: d}
}

// Name returns the view's name.
func (v *View[K, F]) Name() string { return v.def.name }

// Err says what is wrong with the definition; nil: nothing. Every use of the
// view returns it too.
func (v *View[K, F]) Err() error { return v.def.err }

func (v *View[K, F]) definition() *definition { return v.def }

// Row is what is known of one entity. Unless Status is Hit, Features holds the
// defaults.
type Row[F any] struct {
	// Features are the values; its pointers are the caller's own.
	Features F
	// Status says what stands behind Features.
	Status Status
	// Event is the event time of the row, for windows of the newest event in
	// them; zero if the row is Missing.
	Event time.Time
	// Created is when the store could know the row; zero if Missing. For
	// windows it is the time of the last change.
	Created time.Time
}

// Put is one row to write.
type Put[K, F any] struct {
	// Key identifies the entity.
	Key K
	// Features are the values; all are replaced, and a nil pointer is a null.
	Features F
	// Event is when the values became true; required.
	Event time.Time
	// Created is when they were known; zero, or later than now: now.
	Created time.Time
	// Seq decides between writes with equal times, say an offset. Where it is
	// equal too, a delete stays, or the larger of the two rows as encoded, which
	// is arbitrary but the same online and offline.
	Seq int64
	// Delete removes the row and ignores Features. Puts with a smaller version
	// do not bring it back.
	Delete bool
}

// Get reads the row of one key, as of now.
func (v *View[K, F]) Get(ctx context.Context, s *Store, key K) (Row[F], error) {
	rows, err := v.GetBatch(ctx, s, []K{key})
	if len(rows) == 0 {
		return Row[F]{}, err
	}
	return rows[0], err
}

// GetBatch reads the rows of many keys as of one now, in one round trip. The
// rows align with keys; a key that is asked for twice is read once. If only
// some rows cannot be decoded, the others are returned with the error.
func (v *View[K, F]) GetBatch(ctx context.Context, s *Store, keys []K) (_ []Row[F], err error) {
	d := v.def
	if d.err != nil || len(keys) == 0 {
		return nil, d.err
	}
	ctx, span := s.tel.span(ctx, "get", d.name, len(keys))
	defer func() { endSpan(span, err) }()

	b := newBatch(len(keys))
	in := reflect.ValueOf(keys)
	at := make([]int, len(keys))
	for i := range keys {
		key := in.Index(i)
		at[i], err = b.add(d, d.keys, func(f *field) cell { return f.get(key) })
		if err != nil {
			return nil, err
		}
	}
	recs, err := s.read(ctx, b.refs)
	if err != nil {
		return nil, d.fail("", err)
	}
	now := s.clock()
	n := len(d.features)
	cells := make([]cell, n*len(recs))
	loads := make([]loaded, len(recs))
	var count tally
	var errs []error
	for i := range recs {
		loads[i], err = d.load(&recs[i], now, s, cells[i*n:(i+1)*n])
		if err != nil {
			errs = append(errs, d.fail(recs[i].Key, err))
		}
		count.add(loads[i].status, loads[i].event)
	}
	s.tel.served(ctx, d.name, &count, now)
	rows := make([]Row[F], len(keys))
	out := reflect.ValueOf(rows)
	for i := range rows {
		l, features := loads[at[i]], out.Index(i).Field(0)
		for j := range d.features {
			d.features[j].set(features, cells[at[i]*n+j])
		}
		rows[i].Status, rows[i].Event, rows[i].Created = l.status, l.event, l.created
	}
	return rows, errors.Join(errs...)
}

// Put writes one row.
func (v *View[K, F]) Put(ctx context.Context, s *Store, key K, features F, event time.Time) (Outcome, error) {
	outcomes, err := v.PutBatch(ctx, s, []Put[K, F]{{Key: key, Features: features, Event: event}})
	if err != nil {
		return 0, err
	}
	return outcomes[0], nil
}

// PutBatch writes rows: offline first, then online. Outcomes align with puts.
// After an error it is unknown which were written, and writing them again, with
// the same Created, is safe. A put that can never be written (no event time, a
// key that is too long) fails the whole batch before anything is written.
func (v *View[K, F]) PutBatch(ctx context.Context, s *Store, puts []Put[K, F]) (_ []Outcome, err error) {
	d := v.def
	if d.err != nil || len(puts) == 0 {
		return nil, d.err
	}
	if d.windows != nil {
		return nil, d.fail("", errors.New("windows are computed from events and cannot be put: use Ingest or Backfill"))
	}
	ctx, span := s.tel.span(ctx, "put", d.name, len(puts))
	defer func() { endSpan(span, err) }()

	now := s.clock()
	outcomes := make([]Outcome, len(puts))
	recs := make([]Record, 0, len(puts))
	for i := range puts {
		rec, err := v.record(&puts[i], now)
		if err != nil {
			return nil, messaging.Permanent(err)
		}
		if s.tooFarAhead(rec.Event, now) {
			outcomes[i] = Future
			s.tel.wrote(ctx, d.name, &rec, Future)
			continue
		}
		recs = append(recs, rec)
	}
	if err := s.keep(ctx, recs); err != nil {
		return nil, d.fail("", err)
	}
	written, err := s.write(ctx, recs)
	if err != nil {
		return nil, d.fail("", err)
	}
	for i, j := 0, 0; i < len(outcomes); i++ {
		if outcomes[i] == 0 {
			outcomes[i] = written[j]
			s.tel.wrote(ctx, d.name, &recs[j], written[j])
			j++
		}
	}
	return outcomes, nil
}

func (v *View[K, F]) record(p *Put[K, F], now time.Time) (Record, error) {
	d := v.def
	key, err := d.key(reflect.ValueOf(p).Elem().Field(0))
	if err != nil {
		return Record{}, err
	}
	if p.Event.IsZero() {
		return Record{}, d.fail(key, errors.New("a put needs an event time"))
	}
	rec := Record{
		Ref: Ref{View: d.name, Key: key}, Event: plain(p.Event), Created: now, Seq: p.Seq,
		Deleted: p.Delete, Fingerprint: d.layout, TTL: d.ttl,
	}
	if !p.Created.IsZero() && p.Created.Before(now) {
		rec.Created = plain(p.Created)
	}
	if !p.Delete {
		features := reflect.ValueOf(p).Elem().Field(1)
		rec.Payload = encodeRow(d.features, func(f *field) cell { return f.get(features) })
	}
	return rec, nil
}

// key encodes the key in a struct of d's key type.
func (d *definition) key(k reflect.Value) (string, error) {
	var b []byte
	for i := range d.keys {
		b = appendKey(b, i == 0, &d.keys[i], d.keys[i].get(k))
	}
	if len(b) > maxKey {
		return "", d.fail(string(b[:64])+"...", errKeyTooLong)
	}
	return string(b), nil
}

var errKeyTooLong = fmt.Errorf("key is longer than %d bytes", maxKey)

// loaded is what a row holds beside its features.
type loaded struct {
	status         Status
	event, created time.Time
}

// load decodes a record as of q into out, one cell per feature. It is the one
// place where a stored row becomes values, online and offline. On an error the
// row is Missing and holds defaults.
func (d *definition) load(rec *Record, q time.Time, s *Store, out []cell) (loaded, error) {
	if d.windows != nil {
		return d.loadWindows(rec, q, s, out)
	}
	for i := range out {
		out[i] = d.features[i].absent()
	}
	if !rec.Found || rec.Deleted {
		return loaded{}, nil
	}
	l := loaded{status: Hit, event: rec.Event, created: rec.Created}
	if rec.Fingerprint != d.layout {
		return loaded{}, ErrFingerprint
	}
	if d.ttl > 0 && q.After(rec.Event.Add(d.ttl)) {
		l.status = Expired
		return l, nil
	}
	if err := decodeRow(d.features, rec.Payload, out); err != nil {
		for i := range out {
			out[i] = d.features[i].absent()
		}
		return loaded{}, err
	}
	return l, nil
}

// Ingest returns a handler that writes the puts f makes of each event into v.
// Events that can never be written are marked messaging.Permanent, for the dead
// letter; stale and duplicate ones are done. Give puts the Created of the
// event, not of the call, so that a redelivery is a Duplicate, and a Seq where
// two events of a key may have the same times.
func Ingest[E, K, F any](s *Store, v *View[K, F], f func(E) []Put[K, F]) func(ctx context.Context, event E, d *messaging.Delivery) error {
	return func(ctx context.Context, event E, _ *messaging.Delivery) error {
		outcomes, err := v.PutBatch(ctx, s, f(event))
		if err != nil {
			return err
		}
		if slices.Contains(outcomes, Future) {
			return messaging.Permanent(v.def.fail("", errFuture))
		}
		return nil
	}
}

var errFuture = errors.New("event lies further in the future than Options.MaxFuture allows")
