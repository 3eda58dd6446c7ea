package featurestore

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

// rowHistory is the offline side of a view.
type rowHistory struct {
	def   *definition
	byKey map[string]keyRows
}

// keyRows are the rows of one key, by version.
type keyRows struct {
	all   []Record
	ahead []Record // those that were served before their event time; mostly none
}

func newRowHistory(d *definition, st *Store, byKey map[string][]Record) *rowHistory {
	h := &rowHistory{def: d, byKey: make(map[string]keyRows, len(byKey))}
	for key, recs := range byKey {
		slices.SortFunc(recs, func(a, b Record) int { return a.compareVersion(&b) })
		rows := keyRows{all: recs}
		for i := range recs {
			if recs[i].Event.After(recs[i].Created) && !st.tooFarAhead(recs[i].Event, recs[i].Created) {
				rows.ahead = append(rows.ahead, recs[i])
			}
		}
		h.byKey[key] = rows
	}
	return h
}

func (h *rowHistory) find(key []byte, q time.Time, st *Store, o *JoinOptions, out []cell) (Status, error) {
	rows := h.byKey[string(key)]
	recs := rows.all
	n := sort.Search(len(recs), func(i int) bool {
		c := recs[i].Event.Compare(q)
		return c > 0 || c == 0 && o.Strict
	})
	rec, absent := &Record{}, Missing
	known := func(r *Record) bool { return !r.Created.Add(o.ServingLag).After(q) }
	if !o.Hindsight && !o.Strict {
		for i := len(rows.ahead) - 1; i >= 0 && !rec.Found && rows.ahead[i].Event.After(q); i-- {
			if known(&rows.ahead[i]) {
				rec = &rows.ahead[i]
			}
		}
	}
	for i := n - 1; i >= 0 && !rec.Found; i-- {
		if o.Hindsight || known(&recs[i]) {
			rec = &recs[i]
		} else {
			absent = NotYetKnown
		}
	}
	l, err := h.def.load(rec, q, st, out)
	if !rec.Found {
		l.status = absent
	}
	return l.status, err
}

// eventHistory is the offline side of windows: the events of each key, by
// (time, id).
type eventHistory struct {
	def   *definition
	byKey map[string][]pastEvent
	state windowState // reused from label to label
}

type pastEvent struct {
	at      int64
	created time.Time
	raw     []byte // as it stands in a window state
	tooLate bool   // online did not take it in
}

// newEventHistory replays the arrivals of each key, to keep each event once, as
// it first arrived, and to know which ones came too late online.
func newEventHistory(d *definition, st *Store, byKey map[string][]Record) (*eventHistory, error) {
	h := &eventHistory{def: d, byKey: make(map[string][]pastEvent, len(byKey))}
	p := d.windows
	for key, recs := range byKey {
		sortArrivals(recs)
		seen := make(map[string]bool, len(recs))
		events := make([]pastEvent, 0, len(recs))
		mark := int64(noMark)
		for i := range recs {
			if recs[i].Fingerprint != d.layout {
				return nil, d.fail(key, ErrFingerprint)
			}
			e, err := p.event(recs[i].Payload)
			if err == nil && e.size != len(recs[i].Payload) {
				err = errCorrupt
			}
			if err != nil {
				return nil, d.fail(key, err)
			}
			if seen[string(e.id)] {
				continue
			}
			seen[string(e.id)] = true
			late := p.late(e.at, mark, p.horizon(st))
			if !late {
				mark = max(mark, e.at)
			}
			events = append(events, pastEvent{e.at, recs[i].Created, recs[i].Payload, late})
		}
		slices.SortFunc(events, func(a, b pastEvent) int {
			x, _ := p.event(a.raw)
			y, _ := p.event(b.raw)
			return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(x.id, y.id))
		})
		h.byKey[key] = events
	}
	return h, nil
}

// sortArrivals puts the records of windows in the order they came.
func sortArrivals(recs []Record) {
	slices.SortFunc(recs, func(a, b Record) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Event.Compare(b.Event), bytes.Compare(a.Payload, b.Payload))
	})
}

func (h *eventHistory) find(key []byte, q time.Time, _ *Store, o *JoinOptions, out []cell) (Status, error) {
	at, err := nanos(q)
	if err != nil {
		return Missing, err
	}
	p, events := h.def.windows, h.byKey[string(key)]
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for i := range p.aggs {
		l, r := p.interval(&p.aggs[i], at, o.Strict)
		lo, hi = min(lo, l), max(hi, r)
	}
	st := &h.state
	st.events, st.open = st.events[:0], st.open[:0]
	first := sort.Search(len(events), func(i int) bool { return events[i].at >= lo })
	for i := first; i < len(events) && events[i].at < hi; i++ {
		e := &events[i]
		if o.Hindsight || !e.tooLate && !e.created.Add(o.ServingLag).After(q) {
			st.events = append(st.events, e.raw...)
		}
	}
	if p.mode != Sliding {
		if err := p.foldAll(st); err != nil {
			return Missing, err
		}
	}
	l, err := h.def.evaluate(st, at, o.Strict, out)
	return l.status, err
}

// foldAll makes the open tiles of a state from its events.
func (p *windowPlan) foldAll(st *windowState) error {
	for b := st.events; len(b) > 0; {
		e, err := p.event(b)
		if err != nil {
			return err
		}
		index := floorDiv(e.at, p.base)
		last := len(st.open) - p.openWidth()
		if last < 0 || tile(st.open[last:]).index() != index {
			last += p.openWidth()
			st.open = append(st.open, p.emptyTile(index)...)
		}
		p.add(tile(st.open[last:]), &e)
		b = b[e.size:]
	}
	return nil
}
