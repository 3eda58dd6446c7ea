package featurestore

import (
	"fmt"
	"reflect"
)

// Transform is a feature computed from other features and from fields of the
// request when a vector is made, by the same function online and offline.
type Transform struct{ def *definition }

// transformPlan is a Transform without its type parameters.
type transformPlan struct {
	inputs []field
	// run fills the input with set, calls the function and hands its output to get.
	run func(set, get func(reflect.Value))
}

// OnDemand defines a transform. The tagged fields of In are found by name among
// the features of the definitions that stand before it in a Service, and then
// among the fields of the request; one that can be absent is a pointer, or has
// a default of its own, else it is zero. The tagged fields of Out are its
// features. f must be pure and safe for concurrent use; since a fingerprint
// cannot see into it, give the transform a new name when f changes.
func OnDemand[In, Out any](name string, f func(In) Out) *Transform {
	d := newDefinition(name, reflect.TypeFor[struct{}](), reflect.TypeFor[Out]())
	t := &Transform{def: d}
	if d.err != nil {
		return t
	}
	inputs, err := fieldsOf(reflect.TypeFor[In]())
	if err == nil && f == nil {
		err = fmt.Errorf("%w: OnDemand needs a function", ErrDefinition)
	}
	if err != nil {
		d.err = d.fail("", err)
		return t
	}
	d.transform = &transformPlan{inputs: inputs, run: func(set, get func(reflect.Value)) {
		var in In
		set(reflect.ValueOf(&in).Elem())
		out := f(in)
		get(reflect.ValueOf(&out).Elem())
	}}
	d.spec = "transform " + d.describe((*field).spec)
	for i := range inputs {
		d.spec += "\nin " + inputs[i].spec()
	}
	return t
}

// Name returns the transform's name.
func (t *Transform) Name() string { return t.def.name }

// Err says what is wrong with the definition; nil: nothing. A Service with it
// returns the same.
func (t *Transform) Err() error { return t.def.err }

func (t *Transform) definition() *definition { return t.def }
