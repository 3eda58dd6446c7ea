package driver

import (
	"slices"
	"time"
)

// Message is one message as it goes to, or comes from, a broker. It has the
// fields of messaging.Message, so that one converts to the other.
type Message struct {
	// ID identifies the message across retries, dead letter and redrive. The
	// front never passes an empty one; one that comes from a foreign
	// producer may be empty, and the driver then derives one that is the same
	// at every delivery, from the position for instance.
	ID string
	// Topic is the topic, queue or stream the message is published to or was
	// read from.
	Topic string
	// Key orders: messages of one topic and key stay in order. Empty: no
	// order is asked for.
	Key string
	// ContentType is the media type of Body; empty if unknown.
	ContentType string
	// Schema is the version of the schema of Body; empty if there is none.
	Schema string
	// Body is the payload. It may be empty.
	Body []byte
	// Headers are all other attributes, in order.
	Headers Headers
	// Time is when the event happened, with nanoseconds.
	Time time.Time
}

// Size returns the bytes of the message that count against
// Capabilities.MaxBytes: ID, topic, key, content type, schema, body and headers,
// with 10 bytes more for each of these, which is what Kafka's client adds.
func (m *Message) Size() int {
	const lengths = 10
	n := len(m.ID) + len(m.Topic) + len(m.Key) + len(m.ContentType) + len(m.Schema) + len(m.Body)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value) + lengths
	}
	return n
}

// Header is one attribute of a message.
type Header struct {
	// Key is the name. Names are compared byte by byte.
	Key string
	// Value is the value as bytes, which need not be text.
	Value []byte
	// Native keeps the typed value of a broker that has types (an AMQP table),
	// so that passing the message on loses nothing. Nil elsewhere. Where it
	// is set, Value is its printed form.
	Native any
}

// Headers is a list of attributes. It is a list and not a map because brokers
// keep order and repeat keys, and what we do not know passes through
// untouched. The zero value is empty and ready. It is not safe for concurrent
// use with Set or Add.
type Headers []Header

// Get returns the last value of key, or "" if there is none.
func (h Headers) Get(key string) string {
	for _, x := range slices.Backward(h) {
		if x.Key == key {
			return string(x.Value)
		}
	}
	return ""
}

// Add appends a value for key and keeps those before it.
func (h *Headers) Add(key, value string) {
	*h = append(*h, Header{Key: key, Value: []byte(value)})
}

// Set puts value in the place of the first value of key, removes its others,
// and appends it where there was none. The backing array is not shared with
// the list before the call.
func (h *Headers) Set(key, value string) {
	out, found := make(Headers, 0, len(*h)+1), false
	for _, x := range *h {
		switch {
		case x.Key != key:
			out = append(out, x)
		case !found:
			out, found = append(out, Header{Key: key, Value: []byte(value)}), true
		}
	}
	if !found {
		out = append(out, Header{Key: key, Value: []byte(value)})
	}
	*h = out
}
