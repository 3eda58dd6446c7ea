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
	"sync/atomic"
	"time"
)

// Service is the vector of one model: the features of some definitions, joined
// by the key fields of a request type R, in a fixed order. It may be used
// concurrently.
type Service[R any] struct {
	plan   *servicePlan
	served atomic.Pointer[func(Served[R])]
}

// servicePlan is a Service without its type parameter. A row is assembled as
// cells: the features of all definitions, one after the other.
type servicePlan struct {
	name        string
	request     []field
	parts       []member
	width       int // cells of a row
	columns     []column
	names       []string
	fingerprint string
	transforms  bool
}

// member is one definition in a service.
type member struct {
	def    *definition
	offset int      // of its first cell
	keys   []field  // of the request, in the order of the definition's key
	inputs []source // of a transform
}

// source is where an input of a transform comes from.
type source struct {
	into    field
	cell    int    // -1: the request
	request *field // where cell is -1
}

// column is one number of the vector.
type column struct {
	cell  int
	field *field
}

// NewService defines the vector of a model. Each key field of a view or windows
// is found by its name in R, with the same type. Columns are the features that
// are numbers or bools, in the order of the definitions and of their fields;
// names must be unique. A string feature is no column, and must be the input of
// a transform. It returns an ErrDefinition that says what does not fit.
func NewService[R any](name string, defs ...Definition) (*Service[R], error) {
	p, err := newServicePlan(name, reflect.TypeFor[R](), defs)
	if err != nil {
		if _, named := errors.AsType[*Error](err); named { // one of the definitions
			return nil, err
		}
		return nil, &Error{Definition: name, Err: err}
	}
	return &Service[R]{plan: p}, nil
}

func newServicePlan(name string, r reflect.Type, defs []Definition) (*servicePlan, error) {
	p := &servicePlan{name: name}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDefinition, err)
	}
	if len(defs) == 0 {
		return nil, fmt.Errorf("%w: a service needs a definition", ErrDefinition)
	}
	var err error
	if p.request, err = fieldsOf(r); err != nil {
		return nil, err
	}
	byName := map[string]column{} // of all features so far
	unread := map[string]bool{}   // strings that no transform has read yet
	defNames := map[string]bool{}
	specs := []string{name}
	for _, definition := range defs {
		d := definition.definition()
		if d.err != nil {
			return nil, d.err
		}
		if defNames[d.name] {
			return nil, fmt.Errorf("%w: two definitions are named %q", ErrDefinition, d.name)
		}
		defNames[d.name] = true
		specs = append(specs, d.spec)
		x := member{def: d, offset: p.width}
		if d.transform != nil {
			p.transforms = true
			err = p.bindInputs(&x, byName, unread)
		} else {
			err = p.bindKeys(&x)
		}
		if err != nil {
			return nil, err
		}
		for i := range d.features {
			f := &d.features[i]
			if _, taken := byName[f.name]; taken {
				return nil, fmt.Errorf("%w: two features are named %q", ErrDefinition, f.name)
			}
			c := column{p.width + i, f}
			byName[f.name] = c
			if f.kind == kindString {
				unread[f.name] = true
				continue
			}
			p.columns = append(p.columns, c)
			p.names = append(p.names, f.name)
		}
		p.width += len(d.features)
		p.parts = append(p.parts, x)
	}
	for f := range unread {
		return nil, fmt.Errorf("%w: feature %q is a string, which a vector cannot hold: make numbers of it with OnDemand", ErrDefinition, f)
	}
	sum := sha256.Sum256([]byte(strings.Join(specs, "\n\n")))
	p.fingerprint = hex.EncodeToString(sum[:16])
	return p, nil
}

func (p *servicePlan) bindKeys(x *member) error {
	for i := range x.def.keys {
		k := &x.def.keys[i]
		at := findField(p.request, k.name)
		if at < 0 {
			return fmt.Errorf("%w: the request has no field for key %q of %s", ErrDefinition, k.name, x.def.name)
		}
		f := p.request[at]
		if f.kind != k.kind || f.nullable {
			return fmt.Errorf("%w: key %q of %s has type %s, and %s in the request", ErrDefinition, k.name, x.def.name, k.goType(), f.goType())
		}
		x.keys = append(x.keys, f)
	}
	return nil
}

func (p *servicePlan) bindInputs(x *member, features map[string]column, unread map[string]bool) error {
	for _, in := range x.def.transform.inputs {
		src := source{into: in, cell: -1}
		var from *field
		if c, ok := features[in.name]; ok {
			src.cell, from = c.cell, c.field
		} else if i := findField(p.request, in.name); i >= 0 {
			src.request, from = &p.request[i], &p.request[i]
		} else {
			return fmt.Errorf("%w: input %q of %s is neither a feature before it nor in the request", ErrDefinition, in.name, x.def.name)
		}
		if from.kind != in.kind {
			return fmt.Errorf("%w: input %q of %s has type %s, and its source %s", ErrDefinition, in.name, x.def.name, in.goType(), from.goType())
		}
		delete(unread, in.name)
		x.inputs = append(x.inputs, src)
	}
	return nil
}

// Name returns the service's name.
func (s *Service[R]) Name() string { return s.plan.name }

// Columns returns the names of the vector's numbers, in order.
func (s *Service[R]) Columns() []string { return slices.Clone(s.plan.names) }

// Fingerprint identifies everything that decides a vector but the code of
// transforms: names, order, types, defaults, times to live, windows. A model
// keeps that of the vectors it was trained on, and is refused any other.
func (s *Service[R]) Fingerprint() string { return s.plan.fingerprint }

// Vectors is the answer for a batch of requests.
type Vectors struct {
	// Values has one row per request and one number per column; NaN is null, or
	// absent without a default. Rows may be changed and kept.
	Values [][]float64
	// Status has one row per request and one status per definition, in the
	// order given to NewService. A transform is a Hit if all rows of its request
	// before it are.
	Status [][]Status
	// Time is the one now all rows were evaluated at.
	Time time.Time
}

// Served is one row of Vectors, for the serving log.
type Served[R any] struct {
	// Request is what was asked.
	Request R
	// Time is the now the vector was evaluated at.
	Time time.Time
	// Values is the row in the result of Vectors: clone it to keep it.
	Values []float64
	// Fingerprint is that of the service.
	Fingerprint string
}

// OnServed has f called with every vector from now on, in the goroutine of
// Vectors and before it returns: f must not block. It replaces the f before
// it; nil: none.
func (s *Service[R]) OnServed(f func(Served[R])) {
	if f == nil {
		s.served.Store(nil)
		return
	}
	s.served.Store(&f)
}

// Vectors reads the vectors of the requests as of one now, in one round trip.
// The rows align with the requests; a row that several requests share is read
// once.
func (s *Service[R]) Vectors(ctx context.Context, st *Store, reqs ...R) (_ Vectors, err error) {
	if len(reqs) == 0 {
		return Vectors{Time: st.clock()}, nil
	}
	ctx, span := st.tel.span(ctx, "vectors", s.plan.name, len(reqs))
	defer func() { endSpan(span, err) }()
	v, err := s.plan.vectors(ctx, st, reflect.ValueOf(reqs))
	if err != nil {
		return Vectors{}, err
	}
	if f := s.served.Load(); f != nil {
		for i := range reqs {
			(*f)(Served[R]{Request: reqs[i], Time: v.Time, Values: v.Values[i], Fingerprint: s.plan.fingerprint})
		}
	}
	return v, nil
}

func (p *servicePlan) vectors(ctx context.Context, st *Store, reqs reflect.Value) (Vectors, error) {
	n, parts := reqs.Len(), len(p.parts)
	b := newBatch(n * parts)
	at := make([]int, n*parts) // which ref a request and part have
	var owner []int            // which part a ref has
	for i := range n {
		req := reqs.Index(i)
		for j := range p.parts {
			x := &p.parts[j]
			if x.def.transform != nil {
				continue
			}
			k, err := b.add(x.def, x.keys, func(f *field) cell { return f.get(req) })
			if err != nil {
				return Vectors{}, err
			}
			if k == len(owner) {
				owner = append(owner, j)
			}
			at[i*parts+j] = k
		}
	}
	recs, err := st.read(ctx, b.refs)
	if err != nil {
		return Vectors{}, &Error{Definition: p.name, Err: err}
	}
	now := st.clock()

	// Each stored row is decoded once, into its own cells.
	offsets, size := make([]int, len(recs)), 0
	for k := range recs {
		offsets[k] = size
		size += len(p.parts[owner[k]].def.features)
	}
	cells, loads, counts := make([]cell, size), make([]Status, len(recs)), make([]tally, parts)
	for k := range recs {
		d := p.parts[owner[k]].def
		l, err := d.load(&recs[k], now, st, cells[offsets[k]:offsets[k]+len(d.features)])
		if err != nil {
			return Vectors{}, d.fail(recs[k].Key, err)
		}
		loads[k] = l.status
		counts[owner[k]].add(l.status, l.event)
	}
	for j := range p.parts {
		st.tel.served(ctx, p.parts[j].def.name, &counts[j], now)
	}

	v := Vectors{Values: make([][]float64, n), Status: make([][]Status, n), Time: now}
	values, statuses := make([]float64, n*len(p.columns)), make([]Status, n*parts)
	row := make([]cell, p.width)
	for i := range n {
		v.Values[i], values = cut(values, len(p.columns))
		v.Status[i], statuses = cut(statuses, parts)
		for j := range p.parts {
			if x := &p.parts[j]; x.def.transform == nil {
				k := at[i*parts+j]
				copy(row[x.offset:], cells[offsets[k]:offsets[k]+len(x.def.features)])
				v.Status[i][j] = loads[k]
			}
		}
		p.finish(reqs.Index(i), row, v.Status[i], v.Values[i])
	}
	return v, nil
}

// cut takes the first n elements, with no room to append into the rest.
func cut[T any](s []T, n int) (head, rest []T) { return s[:n:n], s[n:] }

// finish runs the transforms over a row whose stored features are in place, and
// writes its numbers. Vectors and Join both end here.
func (p *servicePlan) finish(req reflect.Value, row []cell, status []Status, values []float64) {
	if p.transforms {
		for j := range p.parts {
			if p.parts[j].def.transform != nil {
				p.parts[j].apply(req, row)
				status[j] = worst(status[:j])
			}
		}
	}
	for i, c := range p.columns {
		values[i] = c.field.number(row[c.cell])
	}
}

func (x *member) apply(req reflect.Value, row []cell) {
	x.def.transform.run(func(in reflect.Value) {
		for i := range x.inputs {
			src := &x.inputs[i]
			var c cell
			if src.cell >= 0 {
				c = row[src.cell]
			} else {
				c = src.request.get(req)
			}
			if c.null && src.into.fallback != nil {
				c = *src.into.fallback
			}
			src.into.set(in, c)
		}
	}, func(out reflect.Value) {
		for i := range x.def.features {
			row[x.offset+i] = x.def.features[i].get(out)
		}
	})
}

// worst is the first status that is no hit.
func worst(status []Status) Status {
	for _, s := range status {
		if s != Hit {
			return s
		}
	}
	return Hit
}
