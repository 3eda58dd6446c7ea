package saga

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// plan is a definition without its types: what the rules below need.
type plan struct {
	name     string
	version  int
	steps    []stepPlan
	pivot    int // index of the pivot, -1 if none
	deadline time.Duration
	shape    Shape
}

type stepPlan struct {
	name string
	kind kind
	undo bool
	opts StepOptions
}

func (p *plan) describe() Shape {
	type stepShape struct {
		Name string `json:"name"`
		Kind kind   `json:"kind"`
	}
	s := struct {
		Name    string      `json:"name"`
		Version int         `json:"version"`
		Steps   []stepShape `json:"steps"`
	}{Name: p.name, Version: p.version}
	for _, st := range p.steps {
		s.Steps = append(s.Steps, stepShape{st.name, st.kind})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "" // strings and numbers always encode
	}
	return Shape(text)
}

func (p *plan) index(step string) int {
	return slices.IndexFunc(p.steps, func(s stepPlan) bool { return s.name == step })
}

// reversible reports whether step i stands before the pivot.
func (p *plan) reversible(i int) bool { return p.pivot < 0 || i < p.pivot }

// overdue reports whether the saga's deadline has passed.
func (p *plan) overdue(r *Record, now time.Time) bool {
	return p.deadline > 0 && !now.Before(r.Started.Add(p.deadline))
}

// giveUp says why a saga should turn back now, or is empty: it cannot at the
// pivot or beyond, and need not twice.
func (p *plan) giveUp(r *Record, now time.Time) string {
	switch {
	case r.Op != Action || !p.reversible(p.index(r.Step)):
		return ""
	case r.Cancelled != "":
		return "cancelled: " + r.Cancelled
	case p.overdue(r, now):
		return fmt.Sprintf("the deadline of %v has passed", p.deadline)
	}
	return ""
}

// The functions below are the whole of what a saga can do. Each changes a record
// from one durable state to the next, and nothing else changes its status.

// begin puts a new record before the first step.
func (p *plan) begin(r *Record, now time.Time) {
	r.Status, r.Started, r.Updated = Running, now, now
	p.enter(r, 0, Action)
}

// done: the action or the compensation of the current step has succeeded.
func (p *plan) done(r *Record, state, result json.RawMessage, now time.Time) {
	i := p.index(r.Step)
	if r.Op == Compensation {
		p.back(r, i-1)
		return
	}
	if state != nil {
		r.State = state
	}
	if result != nil {
		if r.Results == nil {
			r.Results = map[string]json.RawMessage{}
		}
		r.Results[r.Step] = result
	}
	if i == p.pivot {
		r.PastPivot, r.Results = true, nil // nothing is undone any more
	}
	last := i+1 == len(p.steps)
	switch why := p.giveUp(r, now); {
	case why != "" && (!last || r.Cancelled != ""):
		p.turn(r, i, why)
	case last:
		p.end(r, Completed)
	default:
		p.enter(r, i+1, Action)
	}
}

// refused: the current action or compensation definitely had no effect.
func (p *plan) refused(r *Record, err error) {
	i := p.index(r.Step)
	if r.Op == Action && (p.reversible(i) || i == p.pivot) {
		p.turn(r, i-1, err.Error())
		return
	}
	p.park(r, err.Error())
}

// unknown: nobody knows about the current step, and asking again has not helped.
func (p *plan) unknown(r *Record, why string) {
	i := p.index(r.Step)
	if r.Op == Action && p.reversible(i) {
		p.turn(r, i, why)
		return
	}
	p.park(r, why)
}

// turn makes the saga go back, beginning with the compensation of step i or the
// nearest one before it.
func (p *plan) turn(r *Record, i int, why string) {
	r.Failed, r.Cause = r.Step, fmt.Sprintf("step %q: %s", r.Step, why)
	r.Err = r.Cause
	p.back(r, i)
}

func (p *plan) back(r *Record, i int) {
	for i >= 0 && !p.steps[i].undo {
		i--
	}
	if i < 0 {
		p.end(r, RolledBack)
		return
	}
	r.Status = RollingBack
	p.enter(r, i, Compensation)
}

func (p *plan) enter(r *Record, i int, op Op) {
	r.Step, r.Op, r.Attempt, r.Wake = p.steps[i].name, op, 0, time.Time{}
}

func (p *plan) end(r *Record, s Status) {
	r.Status, r.Step, r.Op, r.Attempt, r.Wake = s, "", 0, 0, time.Time{}
}

func (p *plan) park(r *Record, why string) {
	r.Status, r.Wake = Parked, time.Time{}
	r.Err = fmt.Sprintf("step %q: %s", r.Step, why)
}

// resume lets a parked step be tried again.
func (p *plan) resume(r *Record) {
	r.Status, r.Attempt, r.Err = Running, 0, r.Cause
	if r.Op == Compensation {
		r.Status = RollingBack
	}
}

// note appends to the history. Long histories lose their middle: the beginning
// and the end are what one looks for.
func note(r *Record, events ...Event) {
	const keep = 500
	r.Log = append(r.Log, events...)
	if cut := len(r.Log) - 2*keep; cut > 0 {
		r.Log = slices.Delete(r.Log, keep, keep+cut)
	}
}
