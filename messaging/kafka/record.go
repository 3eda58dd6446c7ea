package kafka

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// overhead bounds what a record adds to driver.Message.Size: the names of our
// four headers, the time, lengths, and the batch around it. Further headers
// add up to 10 bytes each, which the client counts when it refuses.
const overhead = 512

// encode makes a record of its own bytes: the client may hold it beyond the
// call that published it.
func encode(m *driver.Message, now time.Time) *sarama.ProducerMessage {
	p := &sarama.ProducerMessage{
		Topic: m.Topic, Value: sarama.ByteEncoder(append([]byte{}, m.Body...)), Timestamp: m.Time,
		Headers: make([]sarama.RecordHeader, 0, len(m.Headers)+4),
	}
	if m.Key != "" {
		p.Key = sarama.StringEncoder(m.Key)
	}
	// A broker refuses timestamps of the future; the exact time is a header.
	if m.Time.After(now) || m.Time.Before(time.UnixMilli(0)) {
		p.Timestamp = now
	}
	add := func(key, value string) {
		if value != "" {
			p.Headers = append(p.Headers, sarama.RecordHeader{Key: []byte(key), Value: []byte(value)})
		}
	}
	add(wire.ID, m.ID)
	add(wire.ContentType, m.ContentType)
	add(wire.Schema, m.Schema)
	add(wire.Time, m.Time.UTC().Format(time.RFC3339Nano))
	for i := range m.Headers {
		p.Headers = append(p.Headers, sarama.RecordHeader{Key: []byte(m.Headers[i].Key), Value: bytes.Clone(m.Headers[i].Value)})
	}
	return p
}

// decode maps a record back. What is missing or cannot be read is made of the
// position and the record's own timestamp.
func decode(r *sarama.ConsumerMessage) driver.Message {
	m := driver.Message{
		Topic: r.Topic, Key: string(r.Key), Body: slices.Clip(r.Value), Time: r.Timestamp,
		Headers: make(driver.Headers, 0, len(r.Headers)),
	}
	text := map[string]*string{wire.ID: &m.ID, wire.ContentType: &m.ContentType, wire.Schema: &m.Schema}
	timed := false
	for _, h := range r.Headers {
		if h == nil {
			continue
		}
		if to := text[string(h.Key)]; to != nil && *to == "" {
			*to = string(h.Value)
			continue
		}
		if string(h.Key) == wire.Time && !timed {
			if t, err := time.Parse(time.RFC3339Nano, string(h.Value)); err == nil {
				m.Time = t
			}
			timed = true
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
