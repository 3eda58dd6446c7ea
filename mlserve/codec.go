package mlserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// wireTensor is a tensor in the JSON of the Open Inference Protocol, which
// manifests use too.
type wireTensor struct {
	Name       string          `json:"name"`
	Shape      []int           `json:"shape"`
	Datatype   string          `json:"datatype"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Data       json.RawMessage `json:"data"`
}

// MarshalJSON writes the tensor as the Open Inference Protocol does:
// {"name","shape","datatype","data"}, data flat and row-major, floats with as
// few digits as read back to the same bits. NaN is written as null; an
// infinity is [ErrOutput], as JSON has none.
func (t Tensor) MarshalJSON() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, &Error{Op: "encode", Err: fmt.Errorf("%w: %w", ErrOutput, err)}
	}
	b, err := appendTensor(nil, t, true)
	if err != nil {
		return nil, &Error{Op: "encode", Err: err}
	}
	return b, nil
}

// UnmarshalJSON reads what MarshalJSON writes; data may also be nested arrays.
// What does not fit is [ErrInput].
func (t *Tensor) UnmarshalJSON(data []byte) error {
	var w wireTensor
	if err := json.Unmarshal(data, &w); err != nil {
		return &Error{Op: "decode", Err: fmt.Errorf("%w: %w", ErrInput, err)}
	}
	got, err := w.tensor()
	if err != nil {
		return &Error{Op: "decode", Err: err}
	}
	*t = got
	return nil
}

func (w wireTensor) tensor() (Tensor, error) {
	n := 1
	for _, d := range w.Shape {
		if d < 0 || d > 0 && n > maxElements/d {
			return Tensor{}, fmt.Errorf("%w: tensor %q: shape %v", ErrInput, w.Name, w.Shape)
		}
		n *= d
	}
	data, err := parseData(w.Data, w.Datatype, n)
	if err != nil {
		return Tensor{}, fmt.Errorf("%w: tensor %q: %w", ErrInput, w.Name, err)
	}
	t := Tensor{Name: w.Name, Shape: w.Shape, Data: data}
	if err := t.check(); err != nil {
		return Tensor{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return t, nil
}

// parseData reads the flat or nested array raw, which is valid JSON, into a
// slice of n values.
func parseData(raw []byte, datatype string, n int) (any, error) {
	p := &parser{in: raw}
	n = min(n, len(raw)/2+1) // what the shape claims must not make us allocate
	switch datatype {
	case Float32:
		out := make([]float32, 0, n)
		err := p.array(0, func(token []byte) error {
			if string(token) == "null" {
				out = append(out, float32(math.NaN()))
				return nil
			}
			v, err := strconv.ParseFloat(string(token), 32)
			out = append(out, float32(v))
			return err
		})
		return out, err
	case Float64:
		out := make([]float64, 0, n)
		err := p.array(0, func(token []byte) error {
			if string(token) == "null" {
				out = append(out, math.NaN())
				return nil
			}
			v, err := strconv.ParseFloat(string(token), 64)
			out = append(out, v)
			return err
		})
		return out, err
	case Int32:
		out := make([]int32, 0, n)
		err := p.array(0, func(token []byte) error {
			v, err := strconv.ParseInt(string(token), 10, 32)
			out = append(out, int32(v))
			return err
		})
		return out, err
	case Int64:
		out := make([]int64, 0, n)
		err := p.array(0, func(token []byte) error {
			v, err := strconv.ParseInt(string(token), 10, 64)
			out = append(out, v)
			return err
		})
		return out, err
	case Bool:
		out := make([]bool, 0, n)
		err := p.array(0, func(token []byte) error {
			if s := string(token); s != "true" && s != "false" {
				return fmt.Errorf("%q is not a bool", s)
			}
			out = append(out, token[0] == 't')
			return nil
		})
		return out, err
	case Bytes:
		out := make([]string, 0, n)
		err := p.array(0, func(token []byte) error {
			if token[0] != '"' {
				return fmt.Errorf("%q is not a string", token)
			}
			var s string
			err := json.Unmarshal(token, &s)
			out = append(out, s)
			return err
		})
		return out, err
	}
	return nil, fmt.Errorf("datatype %q is not supported; use BOOL, INT32, INT64, FP32, FP64 or BYTES", datatype)
}

// parser walks the scalars of nested arrays. It is not a JSON parser: the
// input has been through encoding/json.
type parser struct {
	in []byte
	i  int
}

const maxDepth = 16

var errData = errors.New("data is not an array of values")

func (p *parser) array(depth int, value func([]byte) error) error {
	if depth > maxDepth {
		return fmt.Errorf("data is nested deeper than %d", maxDepth)
	}
	p.space()
	if p.i >= len(p.in) || p.in[p.i] != '[' {
		return errData
	}
	p.i++
	for {
		p.space()
		if p.i >= len(p.in) {
			return errData
		}
		switch p.in[p.i] {
		case ']':
			p.i++
			return nil
		case ',':
			p.i++
		case '[':
			if err := p.array(depth+1, value); err != nil {
				return err
			}
		case '{', '}', ':':
			return errData
		default:
			token := p.token()
			if len(token) == 0 {
				return errData
			}
			if err := value(token); err != nil {
				return err
			}
		}
	}
}

func (p *parser) token() []byte {
	start := p.i
	if p.in[p.i] == '"' {
		for p.i++; p.i < len(p.in); p.i++ {
			switch p.in[p.i] {
			case '\\':
				p.i++
			case '"':
				p.i++
				return p.in[start:p.i]
			}
		}
		return nil
	}
	for p.i < len(p.in) {
		switch p.in[p.i] {
		case ',', ']', '[', '{', '}', '"', ' ', '\t', '\n', '\r':
			return p.in[start:p.i]
		}
		p.i++
	}
	return p.in[start:p.i]
}

func (p *parser) space() {
	for p.i < len(p.in) {
		switch p.in[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// appendTensor writes a tensor. NaN becomes null if missing is set; else it
// is, like an infinity, ErrOutput.
func appendTensor(b []byte, t Tensor, missing bool) ([]byte, error) {
	name, err := json.Marshal(t.Name)
	if err != nil {
		return nil, err
	}
	b = append(append(b, `{"name":`...), name...)
	b = append(b, `,"shape":[`...)
	for i, d := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	b = append(append(append(b, `],"datatype":"`...), t.Type()...), `","data":`...)
	b, err = appendValues(b, t, 0, t.Len(), missing)
	if err != nil {
		return nil, err
	}
	return append(b, '}'), nil
}

// appendValues writes the values [from, to) as a flat array.
func appendValues(b []byte, t Tensor, from, to int, missing bool) ([]byte, error) {
	b = append(b, '[')
	for i := from; i < to; i++ {
		if i > from {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, t, i, missing); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendValue(b []byte, t Tensor, i int, missing bool) ([]byte, error) {
	switch d := t.Data.(type) {
	case []float32:
		return appendFloat(b, t.Name, float64(d[i]), 32, missing)
	case []float64:
		return appendFloat(b, t.Name, d[i], 64, missing)
	case []int32:
		return strconv.AppendInt(b, int64(d[i]), 10), nil
	case []int64:
		return strconv.AppendInt(b, d[i], 10), nil
	case []bool:
		return strconv.AppendBool(b, d[i]), nil
	case []string:
		s, err := json.Marshal(d[i])
		return append(b, s...), err
	}
	return nil, t.check()
}

var errNonFinite = errors.New("which JSON cannot carry")

func appendFloat(b []byte, name string, v float64, bits int, missing bool) ([]byte, error) {
	switch {
	case math.IsInf(v, 0) || math.IsNaN(v) && !missing:
		return nil, fmt.Errorf("%w: tensor %q holds %v, %w", ErrOutput, name, v, errNonFinite)
	case math.IsNaN(v):
		return append(b, "null"...), nil
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits), nil
}
