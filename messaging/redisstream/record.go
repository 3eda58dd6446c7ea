package redisstream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// Fields of a stream entry: docs/wire.md.
const (
	fieldID          = "id"
	fieldKey         = "key"
	fieldContentType = "content-type"
	fieldSchema      = "schema"
	fieldTime        = "time"
	fieldBody        = "body"
	fieldHeader      = "h:" // and the header's name
)

// appendFields appends names and values of the entry of m to args. Empty ones
// are left out, but for the body, which makes the entry recognisable.
func appendFields(args []any, m *driver.Message) []any {
	add := func(name, value string) {
		if value != "" {
			args = append(args, name, value)
		}
	}
	add(fieldID, m.ID)
	add(fieldKey, m.Key)
	add(fieldContentType, m.ContentType)
	add(fieldSchema, m.Schema)
	add(fieldTime, m.Time.UTC().Format(time.RFC3339Nano))
	body := m.Body
	if body == nil {
		body = []byte{}
	}
	args = append(args, fieldBody, body)
	for i := range m.Headers {
		value := m.Headers[i].Value
		if value == nil {
			value = []byte{}
		}
		args = append(args, fieldHeader+m.Headers[i].Key, value)
	}
	return args
}

// decode maps an entry back, its body apart: whoever gets the message gets a
// copy. What is missing or cannot be read is made of the position. A field that
// is not ours, or comes again, becomes a header.
func decode(topic, lane string, id entryID, fields []any) (m driver.Message, body string) {
	m = driver.Message{Topic: topic, Time: time.UnixMilli(int64(id.ms))}
	var has struct{ id, key, contentType, schema, time, body bool }
	text := func(to *string, seen *bool, value string) bool {
		if *seen {
			return false
		}
		*to, *seen = value, true
		return true
	}
	for i := 0; i+1 < len(fields); i += 2 {
		name, value := asText(fields[i]), asText(fields[i+1])
		ours := false
		switch name {
		case fieldID:
			ours = text(&m.ID, &has.id, value)
		case fieldKey:
			ours = text(&m.Key, &has.key, value)
		case fieldContentType:
			ours = text(&m.ContentType, &has.contentType, value)
		case fieldSchema:
			ours = text(&m.Schema, &has.schema, value)
		case fieldTime:
			if ours = !has.time; ours {
				has.time = true
				if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
					m.Time = t
				}
			}
		case fieldBody:
			ours = text(&body, &has.body, value)
		}
		if !ours {
			m.Headers = append(m.Headers, driver.Header{Key: strings.TrimPrefix(name, fieldHeader), Value: []byte(value)})
		}
	}
	if m.ID == "" {
		m.ID = lane + "/" + id.String()
	}
	return m, body
}

func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}

// Headers of a retried message wait in a hash until its next delivery, each as
// two strings with their lengths before them: "3:key5:value".
func packHeaders(h driver.Headers) string {
	var b strings.Builder
	put := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	for i := range h {
		put(h[i].Key)
		put(string(h[i].Value))
	}
	return b.String()
}

func unpackHeaders(s string) (h driver.Headers, ok bool) {
	take := func() (part string, ok bool) {
		length, rest, found := strings.Cut(s, ":")
		n, err := strconv.Atoi(length)
		if !found || err != nil || n < 0 || n > len(rest) {
			return "", false
		}
		part, s = rest[:n], rest[n:]
		return part, true
	}
	for s != "" {
		key, ok := take()
		if !ok {
			return nil, false
		}
		value, ok := take()
		if !ok {
			return nil, false
		}
		h = append(h, driver.Header{Key: key, Value: []byte(value)})
	}
	return h, true
}

// entryID is a stream's own order: milliseconds of the server's clock, then a
// counter.
type entryID struct{ ms, seq uint64 }

func parseID(s string) (entryID, error) {
	a, b, _ := strings.Cut(s, "-")
	ms, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return entryID{}, fmt.Errorf("entry ID %q: %w", s, err)
	}
	seq, err := strconv.ParseUint(b, 10, 64)
	if err != nil {
		return entryID{}, fmt.Errorf("entry ID %q: %w", s, err)
	}
	return entryID{ms, seq}, nil
}

func (e entryID) String() string {
	b := strconv.AppendUint(make([]byte, 0, 24), e.ms, 10)
	return string(strconv.AppendUint(append(b, '-'), e.seq, 10))
}

func (e entryID) compare(o entryID) int {
	switch {
	case e.ms != o.ms:
		if e.ms < o.ms {
			return -1
		}
		return 1
	case e.seq < o.seq:
		return -1
	case e.seq > o.seq:
		return 1
	}
	return 0
}
