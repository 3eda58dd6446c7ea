package featurestore

import (
	"context"
	"iter"
	"reflect"
	"time"
)

// Label is one row of a training set: what was asked, when, and what came of it.
type Label[R any] struct {
	// Request holds the key fields and what transforms read.
	Request R
	// Time is the instant of which the features are wanted.
	Time time.Time
	// Target is the outcome to learn; passed through.
	Target float64
}

// Example is a label with its features.
type Example[R any] struct {
	Label[R]

	// Values has one number per column, as Vectors would have had it. It is
	// reused for the next example: clone it to keep it.
	Values []float64
	// Status has one status per definition; reused like Values.
	Status []Status
}

// JoinOptions says which rows a label may see. Nil or the zero value: those
// that serving would have seen, event <= label and created <= label, and of a
// view also those whose event lay ahead when they were written.
type JoinOptions struct {
	// Strict leaves out what happened at the very instant of the label: event <
	// label. Set it where the labels are themselves events of a view. It also
	// leaves out what lay ahead.
	Strict bool
	// Hindsight takes in what became known only after the label: late events,
	// corrections, history filled in. The model then learns from what it will
	// not have.
	Hindsight bool
	// ServingLag is how long after its created time a row could be read: created
	// + lag <= label. 0: at once. It has no effect with Hindsight.
	ServingLag time.Duration
}

// Join yields one example for each label, in the order of the labels, with the
// features as of the label's time, from the offline store. It is the offline
// side of Vectors and runs the same code. The views are read into memory when
// iteration begins; labels are streamed. An error of labels, or of one label's
// rows, is yielded in its place and the join goes on; what ends it (the context,
// a store that cannot be read) is yielded last.
func (s *Service[R]) Join(ctx context.Context, st *Store, labels iter.Seq2[Label[R], error], o *JoinOptions) iter.Seq2[Example[R], error] {
	if o == nil {
		o = &JoinOptions{}
	}
	p := s.plan
	return func(yield func(Example[R], error) bool) {
		histories, err := p.histories(ctx, st)
		if err != nil {
			yield(Example[R]{}, &Error{Definition: p.name, Err: err})
			return
		}
		row, text := make([]cell, p.width), []byte(nil)
		values, status := make([]float64, len(p.columns)), make([]Status, len(p.parts))
		for label, err := range labels {
			if ctx.Err() != nil {
				yield(Example[R]{}, ctx.Err())
				return
			}
			if err == nil {
				text, err = p.asOf(reflect.ValueOf(&label.Request).Elem(), plain(label.Time), st, histories, o, row, status, text)
			}
			if err != nil {
				if !yield(Example[R]{Label: label}, err) {
					return
				}
				continue
			}
			p.finish(reflect.ValueOf(&label.Request).Elem(), row, status, values)
			if !yield(Example[R]{Label: label, Values: values, Status: status}, nil) {
				return
			}
		}
	}
}

// history is all that is known offline of one definition.
type history interface {
	// find fills out with the features of a key as of q.
	find(key []byte, q time.Time, st *Store, o *JoinOptions, out []cell) (Status, error)
}

func (p *servicePlan) histories(ctx context.Context, st *Store) ([]history, error) {
	if st.offline == nil {
		return nil, ErrNoOffline
	}
	all := make([]history, len(p.parts))
	for j := range p.parts {
		d := p.parts[j].def
		if d.transform != nil {
			continue
		}
		byKey := map[string][]Record{}
		err := d.scan(ctx, st, time.Time{}, func(rec Record) { byKey[rec.Key] = append(byKey[rec.Key], rec) })
		if err != nil {
			return nil, err
		}
		if d.windows != nil {
			all[j], err = newEventHistory(d, st, byKey)
		} else {
			all[j] = newRowHistory(d, st, byKey)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// asOf fills row and status with what a request could see at time q. It returns
// text, the buffer for keys.
func (p *servicePlan) asOf(req reflect.Value, q time.Time, st *Store, all []history, o *JoinOptions, row []cell, status []Status, text []byte) ([]byte, error) {
	for j := range p.parts {
		x := &p.parts[j]
		if x.def.transform != nil {
			continue
		}
		text = text[:0]
		for i := range x.keys {
			text = appendKey(text, i == 0, &x.keys[i], x.keys[i].get(req))
		}
		var err error
		status[j], err = all[j].find(text, q, st, o, row[x.offset:x.offset+len(x.def.features)])
		if err != nil {
			return text, x.def.fail(string(text), err)
		}
	}
	return text, nil
}
