package messaging

import (
	"crypto/rand"
	"encoding/hex"
	"reflect"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Header is one attribute of a message: a name and bytes.
type Header = driver.Header

// Headers is a list of attributes in order, in which names may repeat. Names
// that begin with "mainstay-" are reserved; all others pass through brokers,
// retries, dead letters and redrive untouched.
type Headers = driver.Headers

// Message is what is published. The zero value with a Topic is a valid, empty
// message. It is a plain value; while it is in Publish it belongs to Publish.
type Message struct {
	// ID identifies the message wherever it goes: across retries, dead
	// letters, redrive and spool; inboxes recognise it by this. Empty: Publish
	// writes a UUIDv7 into it, so that publishing the same value again is
	// publishing the same message.
	ID string
	// Topic is where it goes to, or came from. Required.
	Topic string
	// Key orders: messages of one topic and key are handled in order, one at a
	// time. Empty: in any order.
	Key string
	// ContentType is the media type of Body; empty: unknown.
	ContentType string
	// Schema is the version of the schema of Body; empty: none.
	Schema string
	// Body is the payload.
	Body []byte
	// Headers are all other attributes.
	Headers Headers
	// Time is when the event happened. Zero: Publish writes the current time.
	Time time.Time
}

// Delivery is a message as a handler gets it. It is read-only: body and headers
// may be kept, but not changed.
type Delivery struct {
	// Message as it was published, without the reserved headers.
	Message
	// Group is the consumer group it was delivered to.
	Group string
	// Attempt is the number of this delivery to the group, from 1. Inline
	// runs of RetryPolicy do not count, deliveries that a dying consumer
	// never settled do, where the broker counts them.
	Attempt int
	// FirstSeen is when the group got the message for the first time.
	FirstSeen time.Time
	// Origin is the topic it was first published to: Topic, unless it comes
	// from a dead-letter topic.
	Origin string
	// LastError is the text of the last failure, cut to 512 bytes; empty if
	// there was none.
	LastError string
	// Position says where the message is, in the broker's words, for logs.
	Position string

	native any
}

// Native gives access to the client library's own message: with target a
// non-nil *T, it sets *target and returns true if the broker's message is a T;
// otherwise it returns false and leaves target alone.
//
//	var m *sarama.ConsumerMessage
//	if d.Native(&m) { … }
func (d *Delivery) Native(target any) bool {
	to := reflect.ValueOf(target)
	if to.Kind() != reflect.Pointer || to.IsNil() || d.native == nil {
		return false
	}
	from := reflect.ValueOf(d.native)
	if !from.Type().AssignableTo(to.Type().Elem()) {
		return false
	}
	to.Elem().Set(from)
	return true
}

// idLength is that of a UUID in its usual form.
const idLength = 36

// newID returns a UUID of version 7, RFC 9562: 48 bits of milliseconds, so
// that IDs sort by time, then 74 random bits.
func newID(now time.Time) string {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return string(appendID(make([]byte, 0, idLength), now, random[:]))
}

// nameAll gives an ID to each of msgs that has none, all made at once.
func nameAll(msgs []*Message, now time.Time) {
	n := 0
	for _, m := range msgs {
		if m.ID == "" {
			n++
		}
	}
	if n == 0 {
		return
	}
	random := make([]byte, 10*n)
	_, _ = rand.Read(random)
	text := make([]byte, 0, idLength*n)
	for i := range n {
		text = appendID(text, now, random[10*i:])
	}
	ids := string(text)
	for _, m := range msgs {
		if m.ID == "" {
			m.ID, ids = ids[:idLength], ids[idLength:]
		}
	}
}

func appendID(text []byte, now time.Time, random []byte) []byte {
	var u [16]byte
	copy(u[6:], random)
	ms := now.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	for i, part := range [][]byte{u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return text
}
