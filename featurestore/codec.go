package featurestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// maxKey bounds an encoded key, in bytes.
const maxKey = 4 << 10

var errCorrupt = errors.New("stored payload is corrupt")

// appendKey adds one key column. Columns are divided by '|', and strings
// escape it, so that no two keys have one text; integers are decimal, so that
// an operator can read the key.
func appendKey(b []byte, first bool, f *field, c cell) []byte {
	if !first {
		b = append(b, '|')
	}
	switch f.kind {
	case kindInt:
		return strconv.AppendInt(b, int64(c.bits), 10)
	case kindUint, kindBool:
		return strconv.AppendUint(b, c.bits, 10)
	case kindString, kindFloat:
	}
	for i := range len(c.text) {
		if c.text[i] == '|' || c.text[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c.text[i])
	}
	return b
}

// checkKeys says whether the fields can identify an entity.
func checkKeys(keys []field) error {
	for _, f := range keys {
		if f.nullable || f.kind == kindFloat || f.fallback != nil {
			return fmt.Errorf("%w: key field %q must be an integer, bool or string, without pointer and default", ErrDefinition, f.name)
		}
	}
	return nil
}

// rowFormat is the first byte of a view's payload.
const rowFormat = 1

// encodeRow packs a row: the format, a bitmap of nulls, and the values that are
// not null, in the order of the fields.
func encodeRow(fields []field, get func(*field) cell) []byte {
	nulls := (len(fields) + 7) / 8
	b := make([]byte, 1+nulls, 1+nulls+9*len(fields))
	b[0] = rowFormat
	for i := range fields {
		f := &fields[i]
		c := get(f)
		if c.null {
			b[1+i/8] |= 1 << (i % 8)
			continue
		}
		switch f.kind {
		case kindInt:
			b = binary.AppendVarint(b, int64(c.bits))
		case kindUint:
			b = binary.AppendUvarint(b, c.bits)
		case kindFloat:
			b = binary.LittleEndian.AppendUint64(b, c.bits)
		case kindBool:
			b = append(b, byte(c.bits))
		case kindString:
			b = binary.AppendUvarint(b, uint64(len(c.text)))
			b = append(b, c.text...)
		}
	}
	return b
}

// decodeRow is the reverse of encodeRow, into out, one cell per field. Bytes
// that encodeRow cannot have written are errCorrupt.
func decodeRow(fields []field, b []byte, out []cell) error {
	nulls := (len(fields) + 7) / 8
	if len(b) < 1+nulls {
		return errCorrupt
	}
	if b[0] != rowFormat {
		return fmt.Errorf("payload has format %d, and this version reads %d", b[0], rowFormat)
	}
	isNull, b := b[1:1+nulls], b[1+nulls:]
	for i := range fields {
		f := &fields[i]
		if isNull[i/8]&(1<<(i%8)) != 0 {
			if !f.nullable {
				return errCorrupt
			}
			out[i] = null
			continue
		}
		n := 0
		switch f.kind {
		case kindInt:
			var v int64
			v, n = binary.Varint(b)
			out[i] = cell{bits: uint64(v)}
		case kindUint:
			var v uint64
			v, n = binary.Uvarint(b)
			out[i] = cell{bits: v}
		case kindFloat:
			if len(b) >= 8 {
				n = 8
				out[i] = cell{bits: binary.LittleEndian.Uint64(b)}
			}
		case kindBool:
			if len(b) >= 1 && b[0] <= 1 {
				n = 1
				out[i] = cell{bits: uint64(b[0])}
			}
		case kindString:
			size, m := binary.Uvarint(b)
			if m > 0 && size <= math.MaxInt32 && uint64(len(b)-m) >= size {
				n = m + int(size)
				out[i] = cell{text: string(b[m:n])}
			}
		}
		if n <= 0 {
			return errCorrupt
		}
		b = b[n:]
	}
	if len(b) != 0 {
		return errCorrupt
	}
	return nil
}
