package cloudevents

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrInvalid is that of an event that is not a CloudEvent of version 1. As a
// decoding failure it makes the message a dead letter.
var ErrInvalid = errors.New("not a CloudEvent 1.0")

// Event is one event with its data. Source and Type are required.
type Event[T any] struct {
	// ID identifies the event within its source. Empty: the message's.
	ID string
	// Source is where it happened, a URI reference: "/shop/orders".
	Source string
	// Type is what happened: "com.example.order.placed".
	Type string
	// Subject is what it happened to, within the source; may be empty.
	Subject string
	// DataSchema is the URI of the data's schema; may be empty.
	DataSchema string
	// Time is when it happened. Zero: the message's.
	Time time.Time
	// Extensions are further attributes. Their names are lower-case ASCII
	// letters and digits. Numbers and booleans of others become text.
	Extensions map[string]string
	// Data is the payload; the zero value if another's event has none, for its
	// codec is not asked then.
	Data T
}

// specVersion is the one this package writes. It reads any "1.x".
const specVersion = "1.0"

// attributes is what an event says about its data. Names are the
// specification's.
type attributes struct {
	id, source, typ, subject, schema string
	time                             time.Time
	extensions                       map[string]string
}

// reserved names are not for extensions.
var reserved = []string{"id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"}

func (a *attributes) check() error {
	switch {
	case a.id == "":
		return invalid("it has no id")
	case a.source == "":
		return invalid("it has no source")
	case a.typ == "":
		return invalid("it has no type")
	}
	for _, v := range []string{a.id, a.source, a.typ, a.subject, a.schema} {
		if err := printable(v); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.extensions)) {
		if !isName(name) || slices.Contains(reserved, name) {
			return invalid("%q is no name for an extension: lower-case letters and digits are, and not those of the specification", name)
		}
		if err := printable(a.extensions[name]); err != nil {
			return err
		}
	}
	return nil
}

func isName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// printable refuses what the specification's String may not hold.
func printable(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return invalid("%.40q has control characters, or is not UTF-8", s)
	}
	return nil
}

// set takes one attribute in its text form. Those of the content type and the
// version are the caller's.
func (a *attributes) set(name, value string) error {
	switch name {
	case "id":
		a.id = value
	case "source":
		a.source = value
	case "type":
		a.typ = value
	case "subject":
		a.subject = value
	case "dataschema":
		a.schema = value
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return invalid("its time %.40q is not RFC 3339", value)
		}
		a.time = t
	default:
		if a.extensions == nil {
			a.extensions = make(map[string]string)
		}
		a.extensions[name] = value
	}
	return nil
}

// list returns the attributes that are set, in a fixed order.
func (a *attributes) list() [][2]string {
	out := [][2]string{{"specversion", specVersion}, {"id", a.id}, {"source", a.source}, {"type", a.typ}}
	if a.subject != "" {
		out = append(out, [2]string{"subject", a.subject})
	}
	if a.schema != "" {
		out = append(out, [2]string{"dataschema", a.schema})
	}
	if !a.time.IsZero() {
		out = append(out, [2]string{"time", a.time.UTC().Format(time.RFC3339Nano)})
	}
	for _, name := range slices.Sorted(maps.Keys(a.extensions)) {
		out = append(out, [2]string{name, a.extensions[name]})
	}
	return out
}

func isVersion1(v string) bool { return v == "1" || strings.HasPrefix(v, "1.") }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
