package mlserve

import (
	"fmt"
	"math"
	"slices"
)

// The names of the element types, as the Open Inference Protocol spells them.
const (
	Bool    = "BOOL"  // []bool
	Int32   = "INT32" // []int32
	Int64   = "INT64" // []int64
	Float32 = "FP32"  // []float32
	Float64 = "FP64"  // []float64
	Bytes   = "BYTES" // []string
)

// Tensor is one named array of a request or an answer.
//
// Data is row-major: the value of row i of a [rows, columns] tensor in column
// j is at i*columns+j. Shape[0] is the number of rows, and the product of
// Shape is the length of Data.
//
// Whoever passes a tensor on lends it: callee and caller must not modify Data
// until the call returns, and a model must not keep its input afterwards.
type Tensor struct {
	// Name as in the signature; "" stands for the signature's only input.
	Name string
	// Shape, at least one dimension, none negative.
	Shape []int
	// Data is []float32, []float64, []int32, []int64, []bool or []string.
	Data any
}

// Batch is the input or the output of one prediction: tensors that agree in
// the number of rows.
type Batch []Tensor

// Rows makes a batch of one unnamed tensor from rows of equal length: what a
// model with a single input takes. NaN is a missing value. The rows are copied.
//
// Rows of unequal length give a tensor whose shape does not match its data,
// which [Signature.Conform] and so every prediction refuses with [ErrInput].
// No rows give a tensor of shape [0, 0].
func Rows[F float32 | float64](rows ...[]F) Batch {
	columns := 0
	if len(rows) > 0 {
		columns = len(rows[0])
	}
	data := make([]F, 0, len(rows)*columns)
	ragged := false
	for _, r := range rows {
		ragged = ragged || len(r) != columns
		data = append(data, r...)
	}
	if ragged {
		columns = -1 // refused, even where the lengths happen to add up
	}
	return Batch{{Shape: []int{len(rows), columns}, Data: data}}
}

// Tensor returns the tensor of that name; "" means the only one. It returns
// [ErrNotFound] if there is none, or if name is "" and there are several.
func (b Batch) Tensor(name string) (Tensor, error) {
	if name == "" {
		if len(b) == 1 {
			return b[0], nil
		}
		return Tensor{}, &Error{Op: "tensor", Err: fmt.Errorf("%w: %d tensors, name one", ErrNotFound, len(b))}
	}
	for _, t := range b {
		if t.Name == name {
			return t, nil
		}
	}
	return Tensor{}, &Error{Op: "tensor", Err: fmt.Errorf("%w: no tensor %q", ErrNotFound, name)}
}

// Float64s returns the tensor of that name ("" means the only one) as rows of
// float64: a tensor of shape [n] has rows of one value, dimensions beyond the
// second are flattened into the row. Bool becomes 0 or 1; int64 beyond 2^53
// is rounded; strings are [ErrInput]. The result is the caller's own.
func (b Batch) Float64s(name string) ([][]float64, error) {
	t, err := b.Tensor(name)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, &Error{Op: "tensor", Err: fmt.Errorf("%w: %w", ErrInput, err)}
	}
	flat, ok := t.float64s()
	if !ok {
		return nil, &Error{Op: "tensor", Err: fmt.Errorf("%w: tensor %q is %s, not numbers", ErrInput, t.Name, t.Type())}
	}
	n := t.Shape[0]
	out := make([][]float64, n)
	if n == 0 {
		return out, nil
	}
	width := len(flat) / n
	for i := range out {
		out[i] = flat[i*width : (i+1)*width : (i+1)*width]
	}
	return out, nil
}

// Type returns the name of the element type, [Float32] for []float32, or ""
// if Data is none of the six kinds.
func (t Tensor) Type() string {
	switch t.Data.(type) {
	case []float32:
		return Float32
	case []float64:
		return Float64
	case []int32:
		return Int32
	case []int64:
		return Int64
	case []bool:
		return Bool
	case []string:
		return Bytes
	}
	return ""
}

// Len returns the number of values, 0 if Data is none of the six kinds.
func (t Tensor) Len() int {
	switch d := t.Data.(type) {
	case []float32:
		return len(d)
	case []float64:
		return len(d)
	case []int32:
		return len(d)
	case []int64:
		return len(d)
	case []bool:
		return len(d)
	case []string:
		return len(d)
	}
	return 0
}

// check says whether shape and data agree. Whose fault it is, the caller says.
func (t Tensor) check() error {
	if t.Type() == "" {
		return fmt.Errorf("tensor %q holds %T; use []float32, []float64, []int32, []int64, []bool or []string", t.Name, t.Data)
	}
	if len(t.Shape) == 0 {
		return fmt.Errorf("tensor %q has no shape; the first dimension is rows", t.Name)
	}
	n := 1
	for _, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("tensor %q has rows of unequal length or a negative dimension: shape %v", t.Name, t.Shape)
		}
		if d > 0 && n > maxElements/d {
			return fmt.Errorf("tensor %q is too large: shape %v", t.Name, t.Shape)
		}
		n *= d
	}
	if n != t.Len() {
		return fmt.Errorf("tensor %q has shape %v, which is %d values, but holds %d", t.Name, t.Shape, n, t.Len())
	}
	return nil
}

// maxElements keeps products of dimensions from outside far from overflow.
const maxElements = min(1<<40, math.MaxInt)

func (t Tensor) float64s() ([]float64, bool) {
	switch d := t.Data.(type) {
	case []float64:
		return slices.Clone(d), true
	case []float32:
		return convert[float64](d), true
	case []int32:
		return convert[float64](d), true
	case []int64:
		return convert[float64](d), true
	case []bool:
		out := make([]float64, len(d))
		for i, v := range d {
			if v {
				out[i] = 1
			}
		}
		return out, true
	}
	return nil, false
}

func convert[To, From float32 | float64 | int32 | int64](in []From) []To {
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = To(v)
	}
	return out
}

// check says whether every tensor is sound; the error is ErrOutput.
func (b Batch) check() error {
	for i := range b {
		if err := b[i].check(); err != nil {
			return fmt.Errorf("%w: %w", ErrOutput, err)
		}
	}
	return nil
}

// rows is the number of rows, 0 for an empty batch.
func (b Batch) rows() int {
	if len(b) == 0 || len(b[0].Shape) == 0 {
		return 0
	}
	return b[0].Shape[0]
}

// clone copies everything, so that the copy outlives the call.
func (b Batch) clone() Batch {
	if b == nil {
		return nil
	}
	out := make(Batch, len(b))
	for i, t := range b {
		out[i] = Tensor{Name: t.Name, Shape: slices.Clone(t.Shape), Data: cloneData(t.Data)}
	}
	return out
}

func cloneData(data any) any {
	switch d := data.(type) {
	case []float32:
		return slices.Clone(d)
	case []float64:
		return slices.Clone(d)
	case []int32:
		return slices.Clone(d)
	case []int64:
		return slices.Clone(d)
	case []bool:
		return slices.Clone(d)
	case []string:
		return slices.Clone(d)
	}
	return data
}
