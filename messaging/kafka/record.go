package kafka

import (
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// overhead bounds what a record adds to driver.Message.Size, by the client's
// count: the names of our four headers, the time, lengths, and the batch around it.
const overhead = 512

// Names of our headers, which the client only reads.
var (
	nameID          = []byte(wire.ID)
	nameContentType = []byte(wire.ContentType)
	nameSchema      = []byte(wire.Schema)
	nameTime        = []byte(wire.Time)
)

// record is a message for the client, in one piece with what it points to.
type record struct {
	sarama.ProducerMessage
	key, value encoded
	headers    [4]sarama.RecordHeader // ours; with more the list is elsewhere
}

// encoded is sarama.ByteEncoder without an allocation.
type encoded []byte

// Encode implements sarama.Encoder.
func (e *encoded) Encode() ([]byte, error) { return *e, nil }

// Length implements sarama.Encoder.
func (e *encoded) Length() int { return len(*e) }

// encode makes a record of its own bytes: the client may hold it beyond the
// call that published it. They are in one piece.
func (r *record) encode(m *driver.Message, now time.Time) {
	n := len(m.Body) + len(m.Key) + len(m.ID) + len(m.ContentType) + len(m.Schema) + len(time.RFC3339Nano)
	isCopy := false
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
		isCopy = isCopy || m.Headers[i].Key == headerDue || m.Headers[i].Key == wire.Dead
	}
	own := make([]byte, 0, n)
	piece := func(from int) []byte { return own[from:len(own):len(own)] }
	text := func(s string) []byte {
		from := len(own)
		own = append(own, s...)
		return piece(from)
	}
	own = append(own, m.Body...)
	r.value = piece(0)
	r.Topic, r.Value, r.Timestamp, r.Headers = m.Topic, &r.value, m.Time, r.headers[:0]
	if m.Key != "" {
		r.key = text(m.Key)
		r.Key = &r.key
	}
	// A broker refuses timestamps of the future, and deletes by them: what is a
	// copy of an old message begins to age now. The exact time is a header.
	if isCopy || m.Time.After(now) || m.Time.Before(time.UnixMilli(0)) {
		r.Timestamp = now
	}
	add := func(name []byte, value string) {
		if value != "" {
			r.Headers = append(r.Headers, sarama.RecordHeader{Key: name, Value: text(value)})
		}
	}
	add(nameID, m.ID)
	add(nameContentType, m.ContentType)
	add(nameSchema, m.Schema)
	from := len(own)
	own = m.Time.UTC().AppendFormat(own, time.RFC3339Nano)
	r.Headers = append(r.Headers, sarama.RecordHeader{Key: nameTime, Value: piece(from)})
	r.Headers = slices.Grow(r.Headers, len(m.Headers))
	for i := range m.Headers {
		h := sarama.RecordHeader{Key: text(m.Headers[i].Key)}
		if m.Headers[i].Value != nil {
			from := len(own)
			own = append(own, m.Headers[i].Value...)
			h.Value = piece(from)
		}
		r.Headers = append(r.Headers, h)
	}
}

// decode maps a record back. What is missing or cannot be read is made of the
// position and the record's own timestamp.
func decode(r *sarama.ConsumerMessage) driver.Message {
	m := driver.Message{Topic: r.Topic, Key: string(r.Key), Body: slices.Clip(r.Value), Time: r.Timestamp, Headers: driver.Headers{}}
	timed := false
	for _, h := range r.Headers {
		if h == nil {
			continue
		}
		var to *string
		switch string(h.Key) {
		case wire.ID:
			to = &m.ID
		case wire.ContentType:
			to = &m.ContentType
		case wire.Schema:
			to = &m.Schema
		case wire.Time:
			if !timed {
				if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
					m.Time = t
				}
				timed = true
				continue
			}
		}
		if to != nil && *to == "" {
			*to = string(h.Value)
			continue
		}
		m.Headers = append(m.Headers, driver.Header{Key: string(h.Key), Value: slices.Clip(h.Value)})
	}
	if m.ID == "" {
		m.ID = r.Topic + "/" + position(r, '/')
	}
	return m
}

func position(r *sarama.ConsumerMessage, sep byte) string {
	b := strconv.AppendInt(make([]byte, 0, 24), int64(r.Partition), 10)
	return string(strconv.AppendInt(append(b, sep), r.Offset, 10))
}
