package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"
)

// Codec turns values into messages and back. Both methods are safe for
// concurrent use.
type Codec[T any] interface {
	// Encode writes v into m: Body and ContentType, and what else the format
	// carries in a message. Everything else is set when it is called, and
	// Encode may replace it.
	Encode(m *Message, v T) error
	// Decode reads a value from m, which it does not change. An error makes
	// the message a dead letter, with its bytes.
	Decode(m *Message) (T, error)
}

// JSON returns the codec of encoding/json, content type application/json. It
// decodes any JSON media type, and messages without one. Unknown fields are
// ignored, so that a producer may add them before its consumers know them.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

// Encode implements Codec.
func (jsonCodec[T]) Encode(m *Message, v T) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	m.Body, m.ContentType = body, "application/json"
	return nil
}

// Decode implements Codec.
func (jsonCodec[T]) Decode(m *Message) (T, error) {
	var v T
	if m.ContentType != "" && m.ContentType != "application/json" {
		t, _, err := mime.ParseMediaType(m.ContentType)
		if err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
			return v, fmt.Errorf("content type %q is not JSON", m.ContentType)
		}
	}
	err := json.Unmarshal(m.Body, &v)
	return v, err
}

// Topic is a topic's name together with the type of its messages, for both
// sides: a producer and a consumer that share one cannot disagree. It is a
// value to keep in a package variable, safe for concurrent use.
type Topic[T any] struct {
	name, schema string
	codec        Codec[T]
}

// NewTopic returns the topic of this name whose messages c encodes. An empty
// name is refused when the topic is used.
func NewTopic[T any](name string, c Codec[T]) Topic[T] { return Topic[T]{name: name, codec: c} }

// WithSchema returns t with a schema version that every message carries.
// Consumers get it in Message.Schema and are given messages of any version:
// what to refuse is the codec's to say.
func (t Topic[T]) WithSchema(version string) Topic[T] {
	t.schema = version
	return t
}

// Name returns the topic's name.
func (t Topic[T]) Name() string { return t.name }

// Message returns the message of v, with ID and time: to publish it a second
// time is to publish the same message. The error is the codec's.
func (t Topic[T]) Message(key string, v T) (*Message, error) {
	now := time.Now()
	m := &Message{ID: newID(now), Topic: t.name, Key: key, Schema: t.schema, Time: now}
	if err := t.codec.Encode(m, v); err != nil {
		return nil, &Error{Op: "encode", Topic: t.name, Err: err}
	}
	return m, nil
}

// Publish sends v under key and returns nil when p holds it. After an error
// the message is in Error.Unsent; publish that one, not v, to try again.
func (t Topic[T]) Publish(ctx context.Context, p *Publisher, key string, v T) error {
	m, err := t.Message(key, v)
	if err != nil {
		return err
	}
	return p.Publish(ctx, m)
}

// On routes the topic's messages to f, decoded. One that cannot be decoded is a
// permanent failure: a dead letter at once, with its bytes.
func (t Topic[T]) On(f func(ctx context.Context, v T, d *Delivery) error) Route {
	if f == nil {
		return Route{topic: t.name}
	}
	return Route{topic: t.name, handler: func(ctx context.Context, d *Delivery) error {
		v, err := t.codec.Decode(&d.Message)
		if err != nil {
			return Permanent(&undecodable{err})
		}
		return f(ctx, v, d)
	}}
}

type undecodable struct{ err error }

func (e *undecodable) Error() string { return "decode: " + e.err.Error() }
func (e *undecodable) Unwrap() error { return e.err }
