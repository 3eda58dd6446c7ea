package featurestore

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// kind is how a field's value is kept in a cell.
type kind uint8

const (
	kindInt kind = iota + 1
	kindUint
	kindFloat
	kindBool
	kindString
)

// cell is one value, between a struct, a stored payload and a vector. Numbers
// are kept as their bits; which they are is known from the field.
type cell struct {
	bits uint64
	text string
	null bool
}

var null = cell{null: true}

func floatCell(v float64) cell { return cell{bits: math.Float64bits(v)} }

// field is one tagged field of a key, feature, request or transform struct.
type field struct {
	name     string
	index    int // of the struct's field
	kind     kind
	typ      string // Go's basic type: it is part of the stored layout
	nullable bool
	fallback *cell // the default, where the tag gives one
}

// fieldsOf resolves the `feature` tags of a struct type, once.
func fieldsOf(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%w: %v is not a struct", ErrDefinition, t)
	}
	var fields []field
	seen := map[string]bool{}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, tagged := sf.Tag.Lookup("feature")
		if tag == "-" || !tagged && !sf.IsExported() {
			continue
		}
		if !tagged || !sf.IsExported() {
			return nil, fmt.Errorf("%w: field %s of %v needs a tag `feature:\"name\"`, or `feature:\"-\"` to leave it out, and to be exported", ErrDefinition, sf.Name, t)
		}
		f, err := newField(sf, tag)
		if err != nil {
			return nil, fmt.Errorf("%w: field %s of %v: %w", ErrDefinition, sf.Name, t, err)
		}
		if seen[f.name] {
			return nil, fmt.Errorf("%w: %v has two fields named %q", ErrDefinition, t, f.name)
		}
		seen[f.name] = true
		f.index = i
		fields = append(fields, f)
	}
	return fields, nil
}

func newField(sf reflect.StructField, tag string) (field, error) {
	name, fallback, hasDefault := strings.Cut(tag, ",default=")
	if err := checkName(name); err != nil {
		return field{}, err
	}
	f := field{name: name}
	t := sf.Type
	if t.Kind() == reflect.Pointer {
		f.nullable, t = true, t.Elem()
	}
	f.typ = t.Kind().String()
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		f.kind = kindInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		f.kind = kindUint
	case reflect.Float32, reflect.Float64:
		f.kind = kindFloat
	case reflect.Bool:
		f.kind = kindBool
	case reflect.String:
		f.kind = kindString
	default:
		return field{}, fmt.Errorf("type %v is not supported: use an integer, a float, bool or string, or a pointer to one", sf.Type)
	}
	if hasDefault {
		c, err := f.parse(fallback, t)
		if err != nil {
			return field{}, fmt.Errorf("default %q: %w", fallback, err)
		}
		f.fallback = &c
	}
	return f, nil
}

// checkName keeps names fit for columns, metrics and store keys.
func checkName(name string) error {
	if name == "" || len(name) > 128 {
		return fmt.Errorf("name %q must have 1 to 128 bytes", name)
	}
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r) {
			return fmt.Errorf("name %q may hold only letters, digits, dot, dash and underscore", name)
		}
	}
	return nil
}

func (f *field) parse(s string, t reflect.Type) (cell, error) {
	switch f.kind {
	case kindInt:
		v, err := strconv.ParseInt(s, 10, t.Bits())
		return cell{bits: uint64(v)}, err
	case kindUint:
		v, err := strconv.ParseUint(s, 10, t.Bits())
		return cell{bits: v}, err
	case kindFloat:
		v, err := strconv.ParseFloat(s, t.Bits())
		return floatCell(v), err
	case kindBool:
		v, err := strconv.ParseBool(s)
		return boolCell(v), err
	case kindString:
	}
	return cell{text: s}, nil
}

func boolCell(v bool) cell {
	if v {
		return cell{bits: 1}
	}
	return cell{}
}

// get reads the field from a struct.
func (f *field) get(s reflect.Value) cell {
	v := s.Field(f.index)
	if f.nullable {
		if v.IsNil() {
			return null
		}
		v = v.Elem()
	}
	switch f.kind {
	case kindInt:
		return cell{bits: uint64(v.Int())}
	case kindUint:
		return cell{bits: v.Uint()}
	case kindFloat:
		return floatCell(v.Float())
	case kindBool:
		return boolCell(v.Bool())
	case kindString:
	}
	return cell{text: v.String()}
}

// set writes the field of an addressable struct. Null leaves it as it is: a
// nil pointer, or the zero value where the field is not nullable.
func (f *field) set(s reflect.Value, c cell) {
	if c.null {
		return
	}
	v := s.Field(f.index)
	if f.nullable {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch f.kind {
	case kindInt:
		v.SetInt(int64(c.bits))
	case kindUint:
		v.SetUint(c.bits)
	case kindFloat:
		v.SetFloat(math.Float64frombits(c.bits))
	case kindBool:
		v.SetBool(c.bits != 0)
	case kindString:
		v.SetString(c.text)
	}
}

// number is the value as a vector holds it: NaN for null. Integers beyond 2^53
// are rounded.
func (f *field) number(c cell) float64 {
	if c.null {
		return math.NaN()
	}
	switch f.kind {
	case kindInt:
		return float64(int64(c.bits))
	case kindUint:
		return float64(c.bits)
	case kindFloat:
		return math.Float64frombits(c.bits)
	case kindBool:
		return float64(c.bits)
	case kindString:
	}
	return math.NaN()
}

// absent is what the field holds where there is no row.
func (f *field) absent() cell {
	if f.fallback != nil {
		return *f.fallback
	}
	return null
}

func (f *field) goType() string {
	if f.nullable {
		return "*" + f.typ
	}
	return f.typ
}

// describe is the field's part of a layout: what decides how bytes are read.
func (f *field) describe() string {
	return f.name + " " + f.goType()
}

// spec is the field's part of a fingerprint: what decides its values.
func (f *field) spec() string {
	s := f.describe()
	if f.fallback != nil {
		s += "=" + strconv.FormatUint(f.fallback.bits, 16) + strconv.Quote(f.fallback.text)
	}
	return s
}

func findField(fields []field, name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}
