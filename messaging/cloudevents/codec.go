package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/mainstay-go/mainstay/messaging"
)

// structuredType is the content type of a structured event in JSON.
const structuredType = "application/cloudevents+json"

// Prefixes of attributes in the headers of a message: the Kafka binding's, the
// two of the AMQP binding, and HTTP's, which bridges leave.
var prefixes = []string{"ce_", "cloudEvents:", "cloudEvents_", "ce-"}

// Binary returns the codec of binary mode with the header names of the Kafka
// binding, "ce_id" and so on: for Kafka, Redis and the broker in memory. The
// body and its content type are data's. The codec reads all names that
// bindings have, and structured events.
func Binary[T any](data messaging.Codec[T]) messaging.Codec[Event[T]] {
	return codec[T]{data: data, prefix: prefixes[0]}
}

// BinaryAMQP is Binary with the header names of the AMQP binding,
// "cloudEvents:id" and so on: for RabbitMQ.
func BinaryAMQP[T any](data messaging.Codec[T]) messaging.Codec[Event[T]] {
	return codec[T]{data: data, prefix: prefixes[1]}
}

// Structured returns the codec of structured mode: one JSON object, with the
// data in it by encoding/json. It reads binary events too, whose body is JSON.
func Structured[T any]() messaging.Codec[Event[T]] {
	return codec[T]{data: messaging.JSON[T](), structured: true}
}

type codec[T any] struct {
	data       messaging.Codec[T]
	prefix     string
	structured bool
}

// Encode implements messaging.Codec.
func (c codec[T]) Encode(m *messaging.Message, e Event[T]) error {
	if e.ID != "" {
		m.ID = e.ID
	}
	if !e.Time.IsZero() {
		m.Time = e.Time
	}
	a := attributes{m.ID, e.Source, e.Type, e.Subject, e.DataSchema, m.Time, e.Extensions}
	if err := a.check(); err != nil {
		return err
	}
	if err := c.data.Encode(m, e.Data); err != nil {
		return err
	}
	if c.structured {
		return encodeStructured(m, &a)
	}
	for _, x := range a.list() {
		m.Headers.Set(c.prefix+x[0], x[1])
	}
	return nil
}

func encodeStructured(m *messaging.Message, a *attributes) error {
	object := make(map[string]any)
	for _, x := range a.list() {
		object[x[0]] = x[1]
	}
	object["datacontenttype"] = m.ContentType
	object["data"] = json.RawMessage(m.Body)
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	m.Body, m.ContentType = body, structuredType+"; charset=UTF-8"
	return nil
}

// Decode implements messaging.Codec.
func (c codec[T]) Decode(m *messaging.Message) (Event[T], error) {
	var (
		inner = *m // as data's codec wrote it
		a     attributes
		none  bool // it has no data
		err   error
	)
	switch kind, _, _ := mime.ParseMediaType(m.ContentType); {
	case kind == structuredType:
		err = decodeStructured(&inner, &a)
		none = inner.Body == nil
	case strings.HasPrefix(kind, "application/cloudevents"):
		err = invalid("content type %.60q: batches, and formats other than JSON, are not read", m.ContentType)
	default:
		err = decodeBinary(m, &a)
		none = len(m.Body) == 0 && m.ContentType == ""
	}
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return Event[T]{}, err
	}
	e := Event[T]{
		ID: a.id, Source: a.source, Type: a.typ, Subject: a.subject, DataSchema: a.schema, Time: a.time, Extensions: a.extensions,
	}
	if e.Time.IsZero() {
		e.Time = m.Time
	}
	if !none {
		e.Data, err = c.data.Decode(&inner)
	}
	return e, err
}

func decodeBinary(m *messaging.Message, a *attributes) error {
	version := ""
	for i := range m.Headers {
		h := &m.Headers[i]
		name, ok := attributeOf(h.Key)
		switch {
		case !ok:
		case name == "specversion":
			version = string(h.Value)
		case name == "datacontenttype": // the message's content type says it
		default:
			if err := a.set(name, string(h.Value)); err != nil {
				return err
			}
		}
	}
	switch {
	case version == "":
		return invalid("no header is ce_specversion or cloudEvents:specversion, and the content type %.60q is not %s", m.ContentType, structuredType)
	case !isVersion1(version):
		return invalid("its version is %.20q", version)
	}
	return nil
}

func attributeOf(header string) (name string, ok bool) {
	for _, p := range prefixes {
		if name, ok = strings.CutPrefix(header, p); ok {
			return name, true
		}
	}
	return "", false
}

// decodeStructured takes the object apart, and makes m the message of its data;
// without any, its body is nil.
func decodeStructured(m *messaging.Message, a *attributes) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(m.Body, &object); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m.Body, m.ContentType = nil, "application/json"
	version, typed := "", false
	for name, raw := range object {
		switch name {
		case "data":
			m.Body = raw
			continue
		case "data_base64":
			if _, both := object["data"]; both {
				return invalid("it has both data and data_base64")
			}
			var text string
			err := json.Unmarshal(raw, &text)
			if err == nil {
				m.Body, err = base64.StdEncoding.DecodeString(text)
			}
			if err != nil {
				return invalid("its data_base64 is not base64")
			}
			continue
		}
		value, ok, err := text(raw)
		switch {
		case err != nil:
			return invalid("its attribute %.40q is not text, a number or a boolean", name)
		case !ok: // null: not set
		case name == "specversion":
			version = value
		case name == "datacontenttype":
			m.ContentType, typed = value, true
		default:
			if err := a.set(name, value); err != nil {
				return err
			}
		}
	}
	if !isVersion1(version) {
		return invalid("its version is %.20q", version)
	}
	return plain(m, object, typed)
}

// plain turns data that is a JSON string, but not of a JSON type, into the
// text it stands for.
func plain(m *messaging.Message, object map[string]json.RawMessage, typed bool) error {
	raw, ok := object["data"]
	if !ok || !typed {
		return nil
	}
	kind, _, err := mime.ParseMediaType(m.ContentType)
	if err != nil {
		return invalid("its datacontenttype %.60q is no media type", m.ContentType)
	}
	if kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json") {
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		m.Body = []byte(s)
	}
	return nil
}

// text returns the text of a JSON value; ok is false for null.
func text(raw json.RawMessage) (s string, ok bool, err error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case string(raw) == "null":
		return "", false, nil
	case len(raw) > 0 && raw[0] == '"':
		err = json.Unmarshal(raw, &s)
		return s, true, err
	case len(raw) > 0 && (raw[0] == '{' || raw[0] == '['):
		return "", false, ErrInvalid
	}
	return string(raw), true, nil
}
