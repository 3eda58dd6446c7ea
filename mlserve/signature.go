package mlserve

import (
	"fmt"
	"math"
	"slices"
)

// Signature says what a model takes and gives.
type Signature struct {
	Inputs  []TensorSpec // at least one
	Outputs []TensorSpec // at least one
}

// TensorSpec describes one tensor of a [Signature].
type TensorSpec struct {
	// Name, unique among inputs or outputs.
	Name string
	// Type is [Float32], [Float64], [Int32], [Int64], [Bool] or [Bytes].
	Type string
	// Shape; -1 is any size. Shape[0] is rows and must be -1:
	// [-1, 4] is any number of rows of four columns, [-1] one value per row.
	Shape []int
	// Columns names the columns of a [-1, n] tensor; nil: unnamed. Drift
	// monitors use the names.
	Columns []string
	// Missing says that NaN means a missing value, and leaves infinities to
	// the model. Where it is false both are refused with [ErrInput].
	Missing bool
}

// Conform checks in against the inputs and returns it in their order and under
// their names. Floats of the other width are converted (float64 to float32
// rounds to nearest); nothing else is. An unnamed tensor stands for the only
// input. What does not fit, or has no rows, is [ErrInput]. The result shares
// data with in where nothing was converted; in is not modified.
//
// The server conforms every input; call it where a [Model] is used alone.
func (s Signature) Conform(in Batch) (Batch, error) {
	out, rows, cloned := in, -1, false
	if len(in) != len(s.Inputs) {
		return nil, fmt.Errorf("%w: %d tensors, the model takes %d", ErrInput, len(in), len(s.Inputs))
	}
	for i := range s.Inputs {
		spec := &s.Inputs[i]
		t, err := pick(in, spec.Name, i)
		if err != nil {
			return nil, err
		}
		given := t.Name
		t.Name = spec.Name
		converted, err := spec.conform(&t)
		if err != nil {
			return nil, err
		}
		switch n := t.Shape[0]; {
		case n == 0:
			return nil, fmt.Errorf("%w: input %q has no rows", ErrInput, spec.Name)
		case rows >= 0 && n != rows:
			return nil, fmt.Errorf("%w: input %q has %d rows, another has %d", ErrInput, spec.Name, n, rows)
		default:
			rows = n
		}
		if !cloned && (converted || given != spec.Name || in[i].Name != given) {
			out, cloned = slices.Clone(in), true
		}
		if cloned {
			out[i] = t
		}
	}
	return out, nil
}

// pick finds the input called name, in the i-th place as a rule.
func pick(in Batch, name string, i int) (Tensor, error) {
	if in[i].Name == name || in[i].Name == "" && len(in) == 1 {
		return in[i], nil
	}
	for _, t := range in {
		if t.Name == name {
			return t, nil
		}
	}
	return Tensor{}, fmt.Errorf("%w: no input %q", ErrInput, name)
}

// conform checks one tensor and converts between the float types in place.
func (s *TensorSpec) conform(t *Tensor) (converted bool, err error) {
	if err := t.check(); err != nil {
		return false, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if got := t.Type(); got != s.Type {
		switch d := t.Data.(type) {
		case []float64:
			if s.Type == Float32 {
				t.Data, converted = narrow(d), true
			}
		case []float32:
			if s.Type == Float64 {
				t.Data, converted = convert[float64](d), true
			}
		}
		if !converted {
			return false, fmt.Errorf("%w: input %q is %s, the model takes %s", ErrInput, s.Name, got, s.Type)
		}
	}
	if !s.fits(t.Shape) {
		return false, fmt.Errorf("%w: input %q has shape %v, the model takes %v", ErrInput, s.Name, t.Shape, s.Shape)
	}
	if !s.Missing {
		if i := nonFinite(t.Data); i >= 0 {
			return false, fmt.Errorf("%w: input %q: value %d is not a finite number, and the model takes no missing values", ErrInput, s.Name, i)
		}
	}
	return converted, nil
}

// narrow rounds to float32. A finite value beyond float32 becomes an infinity,
// as in the libraries that wrote the models.
func narrow(in []float64) []float32 { return convert[float32](in) }

func (s *TensorSpec) fits(shape []int) bool {
	if len(shape) != len(s.Shape) {
		return false
	}
	for i, d := range s.Shape {
		if d >= 0 && d != shape[i] {
			return false
		}
	}
	return true
}

// nonFinite is the index of the first NaN or infinity, -1 without one.
func nonFinite(data any) int {
	switch d := data.(type) {
	case []float32:
		for i, v := range d {
			if v-v != 0 {
				return i
			}
		}
	case []float64:
		for i, v := range d {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return i
			}
		}
	}
	return -1
}

// checkOutput says whether a model kept to its signature.
func (s Signature) checkOutput(out Batch, rows int) error {
	if len(out) != len(s.Outputs) {
		return fmt.Errorf("%w: the model gave %d tensors, its signature says %d", ErrOutput, len(out), len(s.Outputs))
	}
	for i := range out {
		t, spec := &out[i], &s.Outputs[i]
		switch {
		case t.Name != spec.Name || t.Type() != spec.Type:
			return fmt.Errorf("%w: output %d is %q of %s, the signature says %q of %s", ErrOutput, i, t.Name, t.Type(), spec.Name, spec.Type)
		case !spec.fits(t.Shape) || t.Shape[0] != rows:
			return fmt.Errorf("%w: output %q has shape %v for %d rows, the signature says %v", ErrOutput, t.Name, t.Shape, rows, spec.Shape)
		}
	}
	return out.check()
}

// check says whether the signature itself makes sense.
func (s Signature) check() error {
	if len(s.Inputs) == 0 || len(s.Outputs) == 0 {
		return fmt.Errorf("%w: a signature needs an input and an output", ErrModelFile)
	}
	for _, specs := range [][]TensorSpec{s.Inputs, s.Outputs} {
		seen := make(map[string]bool, len(specs))
		for _, spec := range specs {
			if spec.Name == "" || seen[spec.Name] {
				return fmt.Errorf("%w: signature: tensor name %q is empty or used twice", ErrModelFile, spec.Name)
			}
			seen[spec.Name] = true
			if err := spec.check(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *TensorSpec) check() error {
	switch s.Type {
	case Bool, Int32, Int64, Float32, Float64, Bytes:
	default:
		return fmt.Errorf("%w: signature: tensor %q has unknown type %q", ErrModelFile, s.Name, s.Type)
	}
	if len(s.Shape) == 0 || s.Shape[0] != -1 {
		return fmt.Errorf("%w: signature: tensor %q has shape %v; the first dimension is rows and must be -1", ErrModelFile, s.Name, s.Shape)
	}
	size := 1
	for _, d := range s.Shape[1:] {
		if size *= max(d, 1); d < -1 || size > maxRow {
			return fmt.Errorf("%w: signature: tensor %q has shape %v", ErrModelFile, s.Name, s.Shape)
		}
	}
	if n := len(s.Columns); n > 0 && (len(s.Shape) != 2 || s.Shape[1] >= 0 && s.Shape[1] != n) {
		return fmt.Errorf("%w: signature: tensor %q names %d columns, its shape is %v", ErrModelFile, s.Name, n, s.Shape)
	}
	return nil
}

// maxRow bounds the values of one row that a signature may promise.
const maxRow = 1 << 24

// replaces says whether a model with signature s can answer whoever now calls
// one with signature old: it takes what old takes and gives what old gives.
func (s Signature) replaces(old Signature) error {
	if len(s.Inputs) != len(old.Inputs) || len(s.Outputs) != len(old.Outputs) {
		return fmt.Errorf("%w: %d inputs and %d outputs, the serving version has %d and %d",
			ErrInput, len(s.Inputs), len(s.Outputs), len(old.Inputs), len(old.Outputs))
	}
	for i := range s.Inputs {
		a, b := &s.Inputs[i], &old.Inputs[i]
		if err := a.same(b, "input"); err != nil {
			return err
		}
		if b.Missing && !a.Missing {
			return fmt.Errorf("%w: input %q takes no missing values, the serving version does", ErrInput, a.Name)
		}
		if a.Columns != nil && b.Columns != nil && !slices.Equal(a.Columns, b.Columns) {
			return fmt.Errorf("%w: input %q has columns %q, the serving version %q", ErrInput, a.Name, a.Columns, b.Columns)
		}
	}
	for i := range s.Outputs {
		if err := s.Outputs[i].same(&old.Outputs[i], "output"); err != nil {
			return err
		}
	}
	return nil
}

func (s *TensorSpec) same(old *TensorSpec, kind string) error {
	if s.Name == old.Name && s.Type == old.Type && slices.EqualFunc(s.Shape, old.Shape, func(a, b int) bool { return a == b || a == -1 && kind == "input" }) {
		return nil
	}
	return fmt.Errorf("%w: %s %q is %s %v, the serving version has %q %s %v; a new contract needs a new model name",
		ErrInput, kind, s.Name, s.Type, s.Shape, old.Name, old.Type, old.Shape)
}
