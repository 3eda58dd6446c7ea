package gbdt

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/mainstay-go/mainstay/mlserve"
)

// Loader loads XGBoost JSON models for a [mlserve.Server]. The zero value is ready; set the fields before first use.
//
// Of the files of a version it reads model.json, or else the only other file named *.json that is not the drift reference.
type Loader struct {
	// MaxBytes bounds the size of the file; 0: 256 MiB.
	MaxBytes int64
	// MaxNodes bounds the nodes of all trees together, 16 bytes each once loaded; 0: 8,388,608.
	MaxNodes int
}

var _ mlserve.Loader = Loader{}

// Load reads and checks the model; see [Parse] for its errors. What is wrong with the file wraps [mlserve.ErrModelFile]. ctx is
// looked at between reading and parsing.
func (l Loader) Load(ctx context.Context, files fs.FS, m mlserve.Manifest) (mlserve.Model, error) {
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	if l.MaxNodes <= 0 {
		l.MaxNodes = defaultMaxNodes
	}
	name, err := modelFile(m)
	if err != nil {
		return nil, err
	}
	data, err := readFile(files, name, l.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("gbdt: read %s: %w", name, err)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	model, err := parse(data, l.MaxBytes, l.MaxNodes)
	if err != nil {
		return nil, err
	}
	return model, nil
}

func modelFile(m mlserve.Manifest) (string, error) {
	const usual = "model.json"
	if _, ok := m.SHA256[usual]; ok {
		return usual, nil
	}
	var found []string
	for name := range m.SHA256 {
		if path.Ext(name) == ".json" && name != m.Reference {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		slices.Sort(found)
		return "", fmt.Errorf("gbdt: %w: no %s among the files, and %d other *.json %q: name the model %s",
			mlserve.ErrModelFile, usual, len(found), found, usual)
	}
	return found[0], nil
}

// readFile reads at most one byte more than limit, which parse then refuses.
func readFile(files fs.FS, name string, limit int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// Signature takes one tensor "input" of [rows, features], its columns named if the file names them, NaN for missing, and gives
// one tensor "output": [rows], or [rows, groups] where there are several classes or targets (multi:softmax gives the class).
func (m *Model) Signature() mlserve.Signature {
	shape := []int{-1}
	if width := m.outputs(); width > 1 {
		shape = append(shape, width)
	}
	return mlserve.Signature{
		Inputs: []mlserve.TensorSpec{{
			Name: "input", Type: mlserve.Float32, Shape: []int{-1, m.features}, Columns: slices.Clone(m.names), Missing: true,
		}},
		Outputs: []mlserve.TensorSpec{{Name: "output", Type: mlserve.Float32, Shape: shape}},
	}
}

// blockWalks is how many trees are walked between two looks at the context: well under a millisecond.
const blockWalks = 1 << 14

// Predict answers in: one tensor, []float32 or []float64 (which is rounded to float32 first, as XGBoost does), with a value per
// feature. Anything else is [mlserve.ErrInput]. It returns the context's cause within about a millisecond of its end.
func (m *Model) Predict(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	t, n, err := m.input(in)
	if err != nil {
		return nil, err
	}
	width, trees := m.outputs(), 1
	for _, roots := range m.groups {
		trees += len(roots)
	}
	block := max(1, min(n, blockWalks/trees))
	scratch := make([]float64, width)
	out := make([]float32, n*width)
	var narrow []float32
	for from := 0; from < n; from += block {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		to := min(from+block, n)
		var rows []float32
		switch data := t.Data.(type) {
		case []float32:
			rows = data[from*m.features : to*m.features]
		case []float64:
			narrow = narrow[:0]
			for _, v := range data[from*m.features : to*m.features] {
				narrow = append(narrow, float32(v))
			}
			rows = narrow
		}
		for i := range to - from {
			m.predict(scratch, rows[i*m.features:(i+1)*m.features])
			for g, v := range scratch {
				out[(from+i)*width+g] = float32(v)
			}
		}
	}
	shape := []int{n}
	if width > 1 {
		shape = append(shape, width)
	}
	return mlserve.Batch{{Name: "output", Shape: shape, Data: out}}, nil
}

// input finds the one input tensor and its number of rows.
func (m *Model) input(in mlserve.Batch) (mlserve.Tensor, int, error) {
	bad := func(format string, args ...any) (mlserve.Tensor, int, error) {
		return mlserve.Tensor{}, 0, fmt.Errorf("gbdt: %w: "+format, append([]any{mlserve.ErrInput}, args...)...)
	}
	if len(in) != 1 || (in[0].Name != "" && in[0].Name != "input") {
		return bad("want one tensor, \"input\"")
	}
	t := in[0]
	if t.Type() != mlserve.Float32 && t.Type() != mlserve.Float64 {
		return bad("tensor \"input\" holds %T, want []float32 or []float64", t.Data)
	}
	if len(t.Shape) != 2 || t.Shape[0] < 0 || (t.Shape[1] != m.features && t.Shape[0] != 0) {
		return bad("tensor \"input\" has shape %v, want [rows, %d]", t.Shape, m.features)
	}
	// By division, so that a shape whose product overflows does not pass.
	if n := t.Len() / m.features; n*m.features != t.Len() || n != t.Shape[0] {
		return bad("tensor \"input\" has shape %v but %d values", t.Shape, t.Len())
	}
	return t, t.Shape[0], nil
}

// Close does nothing: a model holds memory only.
func (m *Model) Close() error { return nil }
