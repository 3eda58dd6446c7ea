package mlserve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
)

var bg = context.Background()

// versioned answers every row with the number of its version, read anew for
// each row, and knows when it is used after Close.
type versioned struct {
	number float64
	sig    mlserve.Signature
	closed atomic.Bool
	closes atomic.Int32
	misuse *atomic.Int32 // shared by all versions of a test
}

func newVersioned(number float64) *versioned {
	return &versioned{number: number, sig: twoColumns(), misuse: new(atomic.Int32)}
}

func twoColumns() mlserve.Signature {
	return mlserve.Signature{
		Inputs:  []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float32, Shape: []int{-1, 2}, Columns: []string{"age", "spent"}}},
		Outputs: []mlserve.TensorSpec{{Name: "y", Type: mlserve.Float64, Shape: []int{-1}}},
	}
}

func (v *versioned) Signature() mlserve.Signature { return v.sig }

func (v *versioned) Predict(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	out := make([]float64, in[0].Shape[0])
	for i := range out {
		if v.closed.Load() {
			v.misuse.Add(1)
		}
		out[i] = v.number
	}
	return mlserve.Batch{{Name: "y", Shape: []int{len(out)}, Data: out}}, nil
}

func (v *versioned) Close() error {
	v.closed.Store(true)
	v.closes.Add(1)
	return nil
}

// answering is a model made of a function of one row.
type answering struct {
	versioned

	f func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error)
}

func (a *answering) Predict(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	return a.f(ctx, in)
}

func newAnswering(f func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error)) *answering {
	a := &answering{f: f}
	a.sig, a.misuse = twoColumns(), new(atomic.Int32)
	return a
}

func rows(n int) mlserve.Batch {
	in := make([][]float64, n)
	for i := range in {
		in[i] = []float64{float64(i), 1}
	}
	return mlserve.Rows(in...)
}

// numberLoader reads model.json, a number, into a versioned; its hooks let
// tests break it.
type numberLoader struct {
	misuse *atomic.Int32
	loaded *[]*versioned
	change func(*versioned) (mlserve.Model, error)
}

func (l numberLoader) Load(_ context.Context, files fs.FS, _ mlserve.Manifest) (mlserve.Model, error) {
	data, err := fs.ReadFile(files, "model.json")
	if err != nil {
		return nil, err
	}
	v := newVersioned(0)
	if err := json.Unmarshal(data, &v.number); err != nil {
		return nil, fmt.Errorf("%w: %w", mlserve.ErrModelFile, err)
	}
	if l.misuse != nil {
		v.misuse = l.misuse
	}
	if l.loaded != nil {
		*l.loaded = append(*l.loaded, v)
	}
	if l.change != nil {
		return l.change(v)
	}
	return v, nil
}

func publish(t testing.TB, r mlserve.Registry, version int, edit func(*mlserve.Manifest)) {
	t.Helper()
	m := mlserve.Manifest{Model: "m", Version: fmt.Sprint(version)}
	if edit != nil {
		edit(&m)
	}
	require.NoError(t, r.Publish(bg, m, fstest.MapFS{"model.json": {Data: fmt.Append(nil, version)}}))
}

// answer predicts one row and returns the number in the answer.
func answer(t testing.TB, s *mlserve.Server, key string) (float64, mlserve.Response) {
	t.Helper()
	resp, err := s.Predict(bg, "m", mlserve.Request{Key: key, Input: rows(1)})
	require.NoError(t, err)
	out, err := resp.Output.Float64s("")
	require.NoError(t, err)
	return out[0][0], resp
}

var errBroken = errors.New("broken")
