package mlserve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/mainstay-go/mainstay/drift"
)

// DriftSink shows the requests and answers of a model to drift monitors;
// either may be nil. A monitor's features are found by the names of the
// columns in the signature ([TensorSpec].Columns); a tensor without names is
// called as the tensor, or "tensor[3]" if it has several columns. What the
// monitor does not know is passed over. Inputs count whether answered by the
// version or not; outputs only if they are the version's own.
func DriftSink(model string, inputs, outputs *drift.Monitor) Sink {
	in, out := driftColumns{monitor: inputs}, driftColumns{monitor: outputs}
	return func(_ context.Context, events []Event) error {
		for i := range events {
			ev := &events[i]
			if ev.Model != model || ev.sig == nil {
				continue
			}
			in.observe(ev.sig.Inputs, ev.Request.Input)
			if ev.Err == nil && ev.Response.Degraded == "" {
				out.observe(ev.sig.Outputs, ev.Response.Output)
			}
		}
		return nil
	}
}

// driftColumns keeps a monitor's handles by feature name. A sink is called by
// one goroutine at a time, so it needs no lock.
type driftColumns struct {
	monitor *drift.Monitor
	handles map[string]driftColumn
}

type driftColumn struct {
	numeric     *drift.Numeric
	categorical *drift.Categorical
}

func (c *driftColumns) observe(specs []TensorSpec, b Batch) {
	if c.monitor == nil || len(b) != len(specs) {
		return
	}
	if c.handles == nil {
		c.handles = map[string]driftColumn{}
	}
	for n := range specs {
		t := &b[n]
		if t.Len() == 0 {
			continue
		}
		width := t.Len() / t.Shape[0]
		for column := range width {
			h := c.handle(&specs[n], column, width)
			if h.numeric == nil && h.categorical == nil {
				continue
			}
			for i := column; i < t.Len(); i += width {
				h.observe(t, i)
			}
		}
	}
}

func (c *driftColumns) handle(spec *TensorSpec, column, width int) driftColumn {
	name := spec.Name
	switch {
	case column < len(spec.Columns):
		name = spec.Columns[column]
	case width > 1:
		name += "[" + strconv.Itoa(column) + "]"
	}
	h, ok := c.handles[name]
	if !ok {
		// The error says that the monitor has no such feature, or one of the
		// other kind; neither is this one's to watch then.
		h.numeric, _ = c.monitor.Numeric(name)
		h.categorical, _ = c.monitor.Categorical(name)
		c.handles[name] = h
	}
	return h
}

func (h driftColumn) observe(t *Tensor, i int) {
	if h.numeric == nil {
		switch d := t.Data.(type) {
		case []string:
			h.categorical.Observe(d[i])
		case []int32:
			h.categorical.Observe(strconv.Itoa(int(d[i])))
		case []int64:
			h.categorical.Observe(strconv.FormatInt(d[i], 10))
		case []bool:
			h.categorical.Observe(strconv.FormatBool(d[i]))
		}
		return
	}
	switch d := t.Data.(type) {
	case []float32:
		h.numeric.Observe(float64(d[i]))
	case []float64:
		h.numeric.Observe(d[i])
	case []int32:
		h.numeric.Observe(float64(d[i]))
	case []int64:
		h.numeric.Observe(float64(d[i]))
	case []bool:
		if d[i] {
			h.numeric.Observe(1)
		} else {
			h.numeric.Observe(0)
		}
	}
}

const maxReference = 64 << 20

// Rebase gives a drift monitor the reference of the version that serves, read
// from the file Manifest.Reference in either form that [drift.Reference] has;
// otherwise the monitor would go on to compare with what the last version was
// trained on. A version without a reference is an error that wraps
// [ErrModelFile]: it could not be watched.
func Rebase(m *drift.Monitor) Serving {
	return func(_ context.Context, files fs.FS, manifest Manifest) error {
		if manifest.Reference == "" {
			return fmt.Errorf("%w: the manifest names no drift reference", ErrModelFile)
		}
		f, err := files.Open(manifest.Reference)
		if err != nil {
			return fmt.Errorf("%w: drift reference: %w", ErrModelFile, err)
		}
		defer f.Close() //nolint:errcheck // only read
		data, err := io.ReadAll(io.LimitReader(f, maxReference+1))
		if err != nil {
			return err
		}
		if len(data) > maxReference {
			return fmt.Errorf("%w: drift reference %s is larger than %d bytes", ErrModelFile, manifest.Reference, maxReference)
		}
		ref := new(drift.Reference)
		if json.Valid(data) {
			err = ref.UnmarshalJSON(data)
		} else {
			err = ref.UnmarshalBinary(data)
		}
		if err != nil {
			return fmt.Errorf("%w: drift reference %s: %w", ErrModelFile, manifest.Reference, err)
		}
		return m.Rebase(ref)
	}
}
