package mlservetest

import (
	"context"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/mainstay-go/mainstay/mlserve"
)

// TestModel checks a model against what the server relies on: a signature that
// makes sense and stays the same, answers of the shape it promises, as many
// rows as were asked, the same for a row alone and among others, an input left
// alone, concurrent use, and an end soon after the context's.
//
// open gives a fresh model that answers rows of ones. Run it with -race.
func TestModel(t *testing.T, open func(*testing.T) mlserve.Model) {
	t.Helper()
	use := func(name string, f func(t *testing.T, m mlserve.Model, sig mlserve.Signature)) {
		t.Run(name, func(t *testing.T) {
			m := open(t)
			defer func() {
				if err := m.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			f(t, m, m.Signature())
		})
	}
	use("signature", func(t *testing.T, m mlserve.Model, sig mlserve.Signature) {
		if len(sig.Inputs) == 0 || len(sig.Outputs) == 0 {
			t.Fatalf("the signature has %d inputs and %d outputs", len(sig.Inputs), len(sig.Outputs))
		}
		for _, spec := range slices.Concat(sig.Inputs, sig.Outputs) {
			if spec.Name == "" || spec.Type == "" || len(spec.Shape) == 0 || spec.Shape[0] != -1 {
				t.Errorf("tensor %q of %q has shape %v; want a name, a type and -1 rows", spec.Name, spec.Type, spec.Shape)
			}
		}
		if again := m.Signature(); !reflect.DeepEqual(sig, again) {
			t.Errorf("the signature changed from %v to %v", sig, again)
		}
	})
	use("rows", func(t *testing.T, m mlserve.Model, sig mlserve.Signature) {
		one := predict(t, m, sig, 1)
		for _, rows := range []int{2, 3, 100} {
			many := predict(t, m, sig, rows)
			for i, spec := range sig.Outputs {
				if many[i].Len() != rows*one[i].Len() {
					t.Fatalf("output %q: %d values for %d rows, %d for one", spec.Name, many[i].Len(), rows, one[i].Len())
				}
				for row := range rows {
					if !sameRow(many[i], one[i], row) {
						t.Fatalf("output %q: row %d of %d equal rows differs from the row alone", spec.Name, row, rows)
					}
				}
			}
		}
	})
	use("input unmodified", func(t *testing.T, m mlserve.Model, sig mlserve.Signature) {
		in, want := ones(sig, 5), ones(sig, 5)
		if _, err := m.Predict(t.Context(), in); err != nil {
			t.Fatalf("Predict: %v", err)
		}
		if !reflect.DeepEqual(in, want) {
			t.Error("Predict modified its input")
		}
	})
	use("concurrent use", func(t *testing.T, m mlserve.Model, sig mlserve.Signature) {
		want := predict(t, m, sig, 3)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					got, err := m.Predict(t.Context(), ones(sig, 3))
					if err != nil || !reflect.DeepEqual(got, want) {
						t.Errorf("Predict: %v, %v; alone it was %v", got, err, want)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	use("ended context", func(t *testing.T, m mlserve.Model, sig mlserve.Signature) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		// Answering all the same is allowed: a small model need not look.
		if out, err := m.Predict(ctx, ones(sig, 1)); err == nil && len(out) != len(sig.Outputs) {
			t.Errorf("Predict with an ended context gave %d outputs and no error", len(out))
		}
	})
}

func predict(t *testing.T, m mlserve.Model, sig mlserve.Signature, rows int) mlserve.Batch {
	t.Helper()
	in, err := sig.Conform(ones(sig, rows))
	if err != nil {
		t.Fatalf("the signature refuses an input made from it: %v", err)
	}
	out, err := m.Predict(t.Context(), in)
	if err != nil {
		t.Fatalf("Predict of %d rows: %v", rows, err)
	}
	if len(out) != len(sig.Outputs) {
		t.Fatalf("%d outputs, the signature says %d", len(out), len(sig.Outputs))
	}
	for i, spec := range sig.Outputs {
		got := out[i]
		if got.Name != spec.Name || got.Type() != spec.Type || len(got.Shape) != len(spec.Shape) || got.Shape[0] != rows {
			t.Fatalf("output %d is %q of %s %v for %d rows, the signature says %q of %s %v", i, got.Name, got.Type(), got.Shape, rows, spec.Name, spec.Type, spec.Shape)
		}
	}
	return out
}

// ones makes an input of equal rows; dimensions of any size are 1.
func ones(sig mlserve.Signature, rows int) mlserve.Batch {
	in := make(mlserve.Batch, len(sig.Inputs))
	for i, spec := range sig.Inputs {
		shape, n := slices.Clone(spec.Shape), 1
		for j, d := range shape {
			if d < 0 {
				shape[j] = 1
			}
			if j == 0 {
				shape[j] = rows
			}
			n *= shape[j]
		}
		in[i] = mlserve.Tensor{Name: spec.Name, Shape: shape, Data: oneData(spec.Type, n)}
	}
	return in
}

func oneData(kind string, n int) any {
	switch kind {
	case mlserve.Bool:
		return slices.Repeat([]bool{true}, n)
	case mlserve.Int32:
		return slices.Repeat([]int32{1}, n)
	case mlserve.Int64:
		return slices.Repeat([]int64{1}, n)
	case mlserve.Float32:
		return slices.Repeat([]float32{1}, n)
	case mlserve.Float64:
		return slices.Repeat([]float64{1}, n)
	default:
		return slices.Repeat([]string{"1"}, n)
	}
}

// sameRow compares a row of many with the only row of one, by value.
func sameRow(many, one mlserve.Tensor, row int) bool {
	a, b := reflect.ValueOf(many.Data), reflect.ValueOf(one.Data)
	width := b.Len()
	for i := range width {
		x, y := a.Index(row*width+i), b.Index(i)
		if nan := isNaN(x) && isNaN(y); !x.Equal(y) && !nan {
			return false
		}
	}
	return true
}

func isNaN(v reflect.Value) bool { return v.CanFloat() && math.IsNaN(v.Float()) }
