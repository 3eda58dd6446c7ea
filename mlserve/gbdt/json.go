package gbdt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

const (
	maxDepth = 64 // nesting of arrays and objects; XGBoost's files have 8
	maxKeys  = 64 // keys of an object that is read; XGBoost's trees have 17
)

// reader walks a JSON text once. It keeps nothing and allocates only the strings it is asked for, so memory does not depend on
// what the text claims. It reads the dialect XGBoost writes, which encoding/json rejects: bare NaN and Infinity.
type reader struct {
	data  []byte
	pos   int
	depth int
}

// formatError says where in the text something is wrong.
type formatError struct {
	path   string // keys from the top, joined by dots
	offset int    // byte
	msg    string
}

func (e *formatError) Error() string {
	if e.path == "" {
		return fmt.Sprintf("byte %d: %s", e.offset, e.msg)
	}
	return fmt.Sprintf("%s: byte %d: %s", e.path, e.offset, e.msg)
}

func (r *reader) errorf(format string, args ...any) error {
	return &formatError{offset: r.pos, msg: fmt.Sprintf(format, args...)}
}

// under puts a key before the path of a format error on its way up.
func under(key string, err error) error {
	if f, ok := errors.AsType[*formatError](err); ok {
		if f.path == "" {
			f.path = key
		} else {
			f.path = key + "." + f.path
		}
	}
	return err
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *reader) unexpected(want string) error {
	if r.peek() == 0 && r.pos >= len(r.data) {
		return r.errorf("the file ends where %s should be: it is cut off", want)
	}
	return r.errorf("found %q where %s should be", r.data[r.pos], want)
}

func (r *reader) open(c byte, want string) error {
	if r.peek() != c {
		return r.unexpected(want)
	}
	if r.depth++; r.depth > maxDepth {
		return r.errorf("nested deeper than %d", maxDepth)
	}
	r.pos++
	return nil
}

// more reports whether another element follows, and consumes the comma before it or the bracket that ends the list.
func (r *reader) more(first bool, end byte) (bool, error) {
	switch c := r.peek(); {
	case c == end:
		r.pos++
		r.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		r.pos++
		return true, nil
	default:
		return false, r.unexpected(fmt.Sprintf("',' or '%c'", end))
	}
}

// object calls f for each key; f reads the value. A key that comes twice is an error: readers differ in which one they take.
func (r *reader) object(f func(key string) error) error {
	if err := r.open('{', "an object"); err != nil {
		return err
	}
	var keys []string
	for first := true; ; first = false {
		more, err := r.more(first, '}')
		if err != nil || !more {
			return err
		}
		key, err := r.text()
		if err != nil {
			return err
		}
		if slices.Contains(keys, key) {
			return r.errorf("key %q comes twice", clip(key))
		}
		if len(keys) == maxKeys {
			return r.errorf("more than %d keys", maxKeys)
		}
		keys = append(keys, key)
		if r.peek() != ':' {
			return r.unexpected("':'")
		}
		r.pos++
		if err := f(key); err != nil {
			return under(clip(key), err)
		}
	}
}

// array calls f for each element; f reads it.
func (r *reader) array(f func(i int) error) error {
	if err := r.open('[', "an array"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		more, err := r.more(i == 0, ']')
		if err != nil || !more {
			return err
		}
		if err := f(i); err != nil {
			return under(strconv.Itoa(i), err)
		}
	}
}

// skip checks the next value's syntax and forgets it.
func (r *reader) skip() error {
	switch c := r.peek(); {
	case c == '{':
		if err := r.open('{', "an object"); err != nil {
			return err
		}
		for first := true; ; first = false {
			more, err := r.more(first, '}')
			if err != nil || !more {
				return err
			}
			if _, err := r.quoted(); err != nil {
				return err
			}
			if r.peek() != ':' {
				return r.unexpected("':'")
			}
			r.pos++
			if err := r.skip(); err != nil {
				return err
			}
		}
	case c == '[':
		return r.array(func(int) error { return r.skip() })
	case c == '"':
		_, err := r.quoted()
		return err
	case r.word("true"), r.word("false"), r.word("null"), r.word("NaN"), r.word("Infinity"), r.word("-Infinity"):
		return nil
	default:
		_, err := r.number()
		return err
	}
}

// word consumes w if it comes next.
func (r *reader) word(w string) bool {
	if r.peek() != w[0] || len(r.data)-r.pos < len(w) || string(r.data[r.pos:r.pos+len(w)]) != w {
		return false
	}
	r.pos += len(w)
	return true
}

// quoted returns the bytes of a string with its quotes, escapes as written.
func (r *reader) quoted() ([]byte, error) {
	if r.peek() != '"' {
		return nil, r.unexpected("a string")
	}
	start := r.pos
	for i := start + 1; i < len(r.data); i++ {
		switch r.data[i] {
		case '\\':
			i++
		case '"':
			r.pos = i + 1
			return r.data[start:r.pos], nil
		}
	}
	return nil, r.errorf("the string that starts here does not end")
}

// text reads a string.
func (r *reader) text() (string, error) {
	raw, err := r.quoted()
	if err != nil {
		return "", err
	}
	if !slices.Contains(raw, '\\') {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", r.errorf("string with a bad escape")
	}
	return s, nil
}

// number returns the characters of a JSON number.
func (r *reader) number() ([]byte, error) {
	r.peek()
	start, i := r.pos, r.pos
	digits := func() bool {
		from := i
		for i < len(r.data) && r.data[i] >= '0' && r.data[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(r.data) && r.data[i] == '-' {
		i++
	}
	ok := digits()
	if ok && i < len(r.data) && r.data[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(r.data) && (r.data[i] == 'e' || r.data[i] == 'E') {
		i++
		if i < len(r.data) && (r.data[i] == '+' || r.data[i] == '-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		return nil, r.unexpected("a number")
	}
	r.pos = i
	return r.data[start:i], nil
}

// integer reads a whole number, or a boolean as 0 or 1 (default_left was one up to XGBoost 1.5).
func (r *reader) integer() (int32, error) {
	switch {
	case r.word("true"):
		return 1, nil
	case r.word("false"):
		return 0, nil
	}
	raw, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return 0, r.errorf("%s is not a 32-bit integer", clip(string(raw)))
	}
	return int32(v), nil
}

// float reads a float32, correctly rounded from its decimals.
func (r *reader) float() (float32, error) {
	switch {
	case r.word("NaN"):
		return float32(math.NaN()), nil
	case r.word("Infinity"):
		return float32(math.Inf(1)), nil
	case r.word("-Infinity"):
		return float32(math.Inf(-1)), nil
	}
	raw, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(string(raw), 32)
	if err != nil {
		return 0, r.errorf("%s does not fit a float32", clip(string(raw)))
	}
	return float32(v), nil
}

// list appends to dst[:0] what read returns, up to limit elements. Growth follows the elements found, not any claim.
func list[T any](r *reader, dst []T, limit int, read func() (T, error)) ([]T, error) {
	dst = dst[:0]
	err := r.array(func(i int) error {
		if i >= limit {
			return r.errorf("more than %d elements", limit)
		}
		v, err := read()
		dst = append(dst, v)
		return err
	})
	return dst, err
}

// clip keeps what an error quotes from a file short.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
