package rabbitmq

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// Headers of this broker only. See docs/wire.md.
const (
	// headerOrder lists the names of headers in their order, where that is not
	// the order of the alphabet: an AMQP table has none.
	headerOrder = wire.Prefix + "headers"
	// headerType is the content type, where the property is too short.
	headerType = wire.Prefix + "content-type"
)

// shortest is what a short string of AMQP may hold: properties, names.
const shortest = 255

// encode makes a message of its own bytes: it may be written after the call
// that published it has returned.
func encode(m *driver.Message) (amqp.Publishing, error) {
	p := amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: append([]byte{}, m.Body...), Timestamp: m.Time.UTC(),
		Headers: make(amqp.Table, len(m.Headers)+3),
	}
	if err := encodeHeaders(&p, m.Headers); err != nil {
		return p, err
	}
	p.Headers[wire.Time] = m.Time.UTC().Format(time.RFC3339Nano)
	if m.Time.Before(time.Unix(0, 0)) {
		p.Timestamp = time.Time{} // unsigned there
	}
	set := func(property *string, name, value string) {
		switch {
		case value == "":
		case property != nil && len(value) <= shortest:
			*property = value
		default:
			p.Headers[name] = text([]byte(value))
		}
	}
	set(&p.MessageId, wire.ID, m.ID)
	set(&p.ContentType, headerType, m.ContentType)
	set(nil, wire.Key, m.Key)
	set(nil, wire.Schema, m.Schema)
	return p, nil
}

// text is a string where that is true, so that others can read it.
func text(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return append([]byte{}, b...)
}

func encodeHeaders(p *amqp.Publishing, h driver.Headers) error {
	t, sorted, last := p.Headers, true, ""
	for i := range h {
		x := &h[i]
		if x.Key == headerProperties {
			setProperties(p, x)
			continue
		}
		if len(x.Key) > shortest {
			return fmt.Errorf("the name of header %.20q… has %d bytes, AMQP takes %d", x.Key, len(x.Key), shortest)
		}
		sorted, last = sorted && last <= x.Key, x.Key
		value := x.Native
		if value == nil || (amqp.Table{"": value}).Validate() != nil {
			value = text(x.Value)
		}
		old, ok := t[x.Key]
		list, many := old.(several)
		switch {
		case !ok:
			t[x.Key] = value
		case many:
			t[x.Key] = append(list, value)
		default:
			t[x.Key] = several{old, value}
		}
	}
	for k, v := range t {
		if list, ok := v.(several); ok {
			t[k] = []any(list)
		}
	}
	if !sorted {
		order := make([]any, 0, len(h))
		for i := range h {
			if h[i].Key != headerProperties {
				order = append(order, h[i].Key)
			}
		}
		t[headerOrder] = order
	}
	return nil
}

// several is the values of a repeated name on their way into an array.
type several []any

// own are headers that the driver maps to fields, or that RabbitMQ adds while
// it moves a message. Those are about a queue, not the message, and would
// mislead the next: they are not passed on. Delivery.Native has them.
func own(key string) bool {
	switch key {
	case wire.ID, wire.Key, wire.Schema, wire.Time, headerType, headerOrder, headerProperties, "x-death", "x-delivery-count":
		return true
	}
	return strings.HasPrefix(key, "x-first-death-") || strings.HasPrefix(key, "x-last-death-")
}

// decode maps a message back, whoever published it.
func decode(d *amqp.Delivery, topic string) driver.Message {
	m := driver.Message{
		Topic: topic, ID: d.MessageId, ContentType: d.ContentType, Body: slices.Clip(d.Body), Time: d.Timestamp,
		Key: printed(d.Headers[wire.Key]), Schema: printed(d.Headers[wire.Schema]), Headers: decodeHeaders(d.Headers),
	}
	if m.ID == "" {
		m.ID = printed(d.Headers[wire.ID])
	}
	if m.ID == "" {
		// There is no position to make one of, and the same bytes may be two
		// messages: better a new one each time than two taken for one.
		m.ID = "unnamed-" + rand.Text()
	}
	if m.ContentType == "" {
		m.ContentType = printed(d.Headers[headerType])
	}
	if t, err := time.Parse(time.RFC3339Nano, printed(d.Headers[wire.Time])); err == nil {
		m.Time = t
	}
	if t := properties(d); t != nil {
		m.Headers = append(m.Headers, decodeHeader(headerProperties, t))
	}
	if m.Headers.Get(wire.Dead) == "" {
		died(&m, d)
	}
	return m
}

// died writes the evidence on a message that RabbitMQ itself gave up. The last
// death says why it is here; those before it were the ends of its retries.
func died(m *driver.Message, d *amqp.Delivery) {
	deaths, _ := d.Headers["x-death"].([]any)
	if len(deaths) == 0 {
		return
	}
	last, _ := deaths[0].(amqp.Table)
	if last["reason"] != "delivery_limit" {
		return
	}
	queue := printed(last["queue"])
	_, group := ofQueue(queue)
	h := &m.Headers
	if h.Get(wire.Group) != group { // nor are its attempts this group's
		*h = slices.DeleteFunc(*h, func(x driver.Header) bool { return x.Key == wire.Attempts || x.Key == wire.FirstSeen })
		h.Set(wire.Group, group)
	}
	if h.Get(wire.Origin) == "" {
		origin, _ := ofQueue(printed(d.Headers["x-first-death-queue"]))
		h.Set(wire.Origin, origin)
	}
	h.Set(wire.Error, fmt.Sprintf("delivered %d times from queue %q and never settled: consumers may have died of it", deliveryLimit+1, queue))
	h.Set(wire.ErrorClass, "attempts")
	at, ok := last["time"].(time.Time)
	if !ok {
		at = time.Now()
	}
	h.Set(wire.Dead, at.UTC().Format(time.RFC3339Nano))
}

func decodeHeaders(t amqp.Table) driver.Headers {
	left := make(map[string][]any, len(t))
	n := 0
	for k, v := range t {
		if own(k) {
			continue
		}
		if list, ok := v.([]any); ok && len(list) > 1 {
			left[k] = list
		} else {
			left[k] = []any{v}
		}
		n += len(left[k])
	}
	h := make(driver.Headers, 0, n)
	take := func(k string) {
		h = append(h, decodeHeader(k, left[k][0]))
		if left[k] = left[k][1:]; len(left[k]) == 0 {
			delete(left, k)
		}
	}
	if order, ok := t[headerOrder].([]any); ok {
		for _, k := range order {
			if name, ok := k.(string); ok && len(left[name]) > 0 {
				take(name)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(left)) {
		for len(left[k]) > 0 {
			take(k)
		}
	}
	return h
}

// decodeHeader keeps the value as it was wherever encode would make another
// one of the bytes.
func decodeHeader(key string, v any) driver.Header {
	h := driver.Header{Key: key}
	switch v := v.(type) {
	case string:
		h.Value = []byte(v)
		if !utf8.ValidString(v) {
			h.Native = v
		}
	case []byte:
		h.Value = v
		if utf8.Valid(v) {
			h.Native = v
		}
	default:
		h.Native, h.Value = v, []byte(printed(v))
		if v == nil {
			h.Native, h.Value = nil, nil // an empty text
		}
	}
	return h
}

func printed(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

// errHeaders: AMQP sends all properties in one frame.
var errHeaders = errors.New("its headers do not fit into one frame")

// tableSize bounds the bytes of an encoded table from above, the wire's own
// lengths and types included.
func tableSize(t amqp.Table) int {
	n := 4
	for k, v := range t {
		n += 1 + len(k) + fieldSize(v)
	}
	return n
}

func fieldSize(v any) int {
	switch v := v.(type) {
	case string:
		return 5 + len(v)
	case []byte:
		return 5 + len(v)
	case []any:
		n := 5
		for _, x := range v {
			n += fieldSize(x)
		}
		return n
	case amqp.Table:
		return 1 + tableSize(v)
	}
	return 9
}
