package rabbitmq

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/cloudevents"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/wire"
)

// arrive is what a server makes of a publishing: the same properties.
func arrive(p *amqp.Publishing) *amqp.Delivery {
	return &amqp.Delivery{
		Headers: p.Headers, ContentType: p.ContentType, MessageId: p.MessageId, Timestamp: p.Timestamp.Truncate(time.Second), Body: p.Body,
		DeliveryMode: p.DeliveryMode, ContentEncoding: p.ContentEncoding, CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo,
		Type: p.Type, AppId: p.AppId, Priority: p.Priority, Expiration: p.Expiration, UserId: p.UserId,
	}
}

func TestLayoutOnTheWire(t *testing.T) {
	p, err := encode(&driver.Message{
		ID: "id-1", Topic: "orders", Key: "ann", ContentType: "application/json", Schema: "v2", Body: []byte("{}"),
		Time:    time.Date(2026, 1, 31, 13, 50, 0, 123456789, time.FixedZone("", 3600)),
		Headers: driver.Headers{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte{0xff}}, {Key: "b", Value: []byte("2")}},
	})
	require.NoError(t, err)
	require.Equal(t, amqp.Publishing{
		MessageId: "id-1", ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: []byte("{}"),
		Timestamp: time.Date(2026, 1, 31, 12, 50, 0, 123456789, time.UTC),
		Headers: amqp.Table{
			"mainstay-key": "ann", "mainstay-schema": "v2", "mainstay-time": "2026-01-31T12:50:00.123456789Z",
			"a": []byte{0xff}, "b": []any{"1", "2"}, "mainstay-headers": []any{"b", "a", "b"},
		},
	}, p)
	require.Equal(t, 51, slot("ann"), "producers in other languages compute it too: CRC-32 of the key, modulo 64")
}

func TestRoundTrip(t *testing.T) {
	name := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "traceparent", "mainstay-group"}), rapid.StringN(0, 20, 200))
	rapid.Check(t, func(t *rapid.T) {
		var h driver.Headers
		for range rapid.IntRange(0, 8).Draw(t, "headers") {
			k := name.Draw(t, "name")
			if own(k) {
				continue
			}
			h = append(h, driver.Header{Key: k, Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value")})
		}
		m := driver.Message{
			ID: rapid.StringN(1, 300, -1).Draw(t, "id"), Topic: "t", Key: rapid.String().Draw(t, "key"),
			ContentType: rapid.StringN(0, 300, -1).Draw(t, "type"), Schema: rapid.String().Draw(t, "schema"),
			Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"), Headers: h,
			Time: time.Unix(rapid.Int64Range(-1e9, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).UTC(),
		}
		p, err := encode(&m)
		require.NoError(t, err)
		require.NoError(t, p.Headers.Validate())
		got := decode(arrive(&p), "t")
		require.Equal(t, fmt.Sprintf("%q", flat(m.Headers)), fmt.Sprintf("%q", flat(got.Headers)))
		require.True(t, m.Time.Equal(got.Time), "%v %v", m.Time, got.Time)
		m.Headers, got.Headers, m.Time, got.Time = nil, nil, time.Time{}, time.Time{}
		require.Equal(t, string(m.Body), string(got.Body))
		m.Body, got.Body = nil, nil
		require.Equal(t, m, got)
	})
}

func flat(h driver.Headers) (all []string) {
	for _, x := range h {
		all = append(all, x.Key+"="+string(x.Value))
	}
	return all
}

// What others wrote passes on as it was, types included: encoding what was
// decoded gives the same table.
func TestForeignTypesPassThrough(t *testing.T) {
	now := time.Unix(1700000000, 0)
	foreign := amqp.Table{
		"bool": true, "byte": byte(1), "int32": int32(-7), "int64": int64(1 << 40), "float": 1.5, "time": now, "text": "text",
		"not text": "\xff", "bytes": []byte("readable"), "table": amqp.Table{"a": int32(1)}, "one": []any{int32(1)}, "none": []any{},
		"two": []any{"x", int32(2)}, "decimal": amqp.Decimal{Scale: 2, Value: 100},
	}
	d := &amqp.Delivery{Headers: amqp.Table{}, Timestamp: now, Body: []byte("b"), MessageId: "m"}
	maps.Copy(d.Headers, foreign)
	d.Headers["x-death"] = []any{amqp.Table{"queue": "q"}}
	d.Headers["x-delivery-count"] = int64(3)
	m := decode(d, "t")
	require.Equal(t, now, m.Time)
	require.Empty(t, m.Headers.Get("x-death"), "of the queue, not of the message")
	require.Equal(t, "-7", m.Headers.Get("int32"))
	require.Equal(t, "2023-11-14T22:13:20Z", m.Headers.Get("time"))
	p, err := encode(&m)
	require.NoError(t, err)
	delete(p.Headers, wire.Time)
	require.Equal(t, foreign, p.Headers)
}

// Other SDKs write the time of an event as AMQP has times.
func TestCloudEventsWithNativeTypes(t *testing.T) {
	at := time.Unix(1700000000, 0)
	m := messaging.Message(decode(&amqp.Delivery{MessageId: "1", ContentType: "application/json", Body: []byte("1"), Headers: amqp.Table{
		"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/s", "cloudEvents:type": "t",
		"cloudEvents:time": at, "cloudEvents:count": int32(7), "cloudEvents:urgent": true,
	}}, "t"))
	e, err := cloudevents.BinaryAMQP(messaging.JSON[int]()).Decode(&m)
	require.NoError(t, err)
	require.True(t, at.Equal(e.Time))
	require.Equal(t, map[string]string{"count": "7", "urgent": "true"}, e.Extensions)
}

// So do properties that have no place in a message, and they are in no handler's way.
func TestForeignPropertiesPassThrough(t *testing.T) {
	foreign := amqp.Publishing{
		MessageId: "m", ContentType: "application/json", Timestamp: time.Unix(1700000000, 0).UTC(), Body: []byte("\x1f\x8b"), Headers: amqp.Table{"a": "1", "z": "2"},
		ContentEncoding: "gzip", CorrelationId: "c", ReplyTo: "replies", Type: "order.placed", AppId: "legacy", Priority: 4,
		Expiration: "60000", UserId: "guest", DeliveryMode: amqp.Transient,
	}
	d := arrive(&foreign)
	d.Headers["mainstay-properties"] = "of somebody else"
	m := decode(d, "t")
	for _, h := range m.Headers {
		require.True(t, wire.Reserved(h.Key) || h.Key == "a" || h.Key == "z", h.Key)
	}
	m.Headers.Set(wire.Attempts, "1") // a retry
	got, err := encode(&m)
	require.NoError(t, err)
	require.Equal(t, "1", got.Headers[wire.Attempts])
	delete(got.Headers, wire.Attempts)
	delete(got.Headers, wire.Time)
	delete(got.Headers, headerOrder)
	want := foreign
	want.Headers = amqp.Table{"a": "1", "z": "2"}
	want.Expiration, want.UserId, want.DeliveryMode = "", "", amqp.Persistent // see docs/wire.md
	require.Equal(t, want, got)

	got.CorrelationId = strings.Repeat("x", 200)
	got.Headers["h"] = make([]byte, frame-wire.Reserve-250)
	require.ErrorIs(t, inFrame(&got), driver.ErrTooLarge, "they stand in the same frame")
}

func TestMessagesWithoutIDAreNotTakenForOneAnother(t *testing.T) {
	d := &amqp.Delivery{Body: []byte("same")}
	a, b := decode(d, "t"), decode(d, "t")
	require.NotEmpty(t, a.ID)
	require.NotEqual(t, a.ID, b.ID)
}

// The deaths of a message are listed as RabbitMQ lists them, the last one first.
func TestWhatRabbitMQGaveUpHasItsEvidence(t *testing.T) {
	at := time.Unix(1700000000, 0)
	death := func(reason, queue string, at time.Time) amqp.Table {
		return amqp.Table{"reason": reason, "queue": queue, "time": at, "count": int64(1), "exchange": ""}
	}
	poison, retry := death("delivery_limit", "shop%2Forders/billing/3", at), death("expired", "shop%2Forders/billing/retry-10s", at.Add(-time.Minute))
	retried := amqp.Table{wire.Group: "billing", wire.Attempts: "2", wire.FirstSeen: "2023-01-01T00:00:00Z", wire.Origin: "shop/orders"}
	for name, c := range map[string]struct {
		headers  amqp.Table
		deaths   []any
		attempts string
	}{
		"never retried":            {amqp.Table{}, []any{poison}, ""},
		"after a retry":            {retried, []any{poison, retry}, "2"},
		"retried by another group": {amqp.Table{wire.Group: "other", wire.Attempts: "3", wire.Origin: "shop/orders"}, []any{poison, retry}, ""},
		"a dead letter as well": {amqp.Table{}, []any{
			death("delivery_limit", "shop%2Forders.dead/billing", at), death("delivery_limit", "shop%2Forders/first", at.Add(-time.Hour)),
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			first := c.deaths[len(c.deaths)-1].(amqp.Table)
			d := &amqp.Delivery{MessageId: "m", Headers: maps.Clone(c.headers)}
			d.Headers["x-first-death-reason"], d.Headers["x-first-death-queue"] = first["reason"], first["queue"]
			d.Headers["x-death"] = c.deaths
			h := decode(d, "shop/orders.dead").Headers
			require.Equal(t, "shop/orders", h.Get(wire.Origin))
			require.Equal(t, "billing", h.Get(wire.Group))
			require.Equal(t, c.attempts, h.Get(wire.Attempts), "of this group")
			require.Equal(t, "attempts", h.Get(wire.ErrorClass))
			require.Contains(t, h.Get(wire.Error), "101 times")
			require.Contains(t, h.Get(wire.Error), printed(c.deaths[0].(amqp.Table)["queue"]))
			require.Equal(t, at.UTC().Format(time.RFC3339Nano), h.Get(wire.Dead))
			require.Equal(t, h, decode(d, "shop/orders.dead").Headers, "the same at every delivery")
		})
	}
	for name, deaths := range map[string][]any{"a retry's way back": {retry}, "sent back by hand, and then a retry": {retry, poison}} {
		t.Run(name, func(t *testing.T) {
			first := deaths[len(deaths)-1].(amqp.Table)
			d := &amqp.Delivery{MessageId: "m", Headers: amqp.Table{"x-death": deaths, "x-first-death-reason": first["reason"], "x-first-death-queue": first["queue"]}}
			require.Empty(t, decode(d, "shop/orders").Headers)
		})
	}
}

func TestHeadersMustFitIntoAFrame(t *testing.T) {
	m := driver.Message{ID: "m", Headers: driver.Headers{{Key: "h", Value: make([]byte, 120<<10)}}}
	p, err := encode(&m)
	require.NoError(t, err)
	require.NoError(t, inFrame(&p))
	m.Headers[0].Value = make([]byte, frame-wire.Reserve)
	p, err = encode(&m)
	require.NoError(t, err)
	require.ErrorIs(t, inFrame(&p), driver.ErrTooLarge)
	m.Headers.Add(wire.Group, "g") // the front's own may use the room kept for it
	m.Headers[0].Value = m.Headers[0].Value[:frame-wire.Reserve-100]
	p, err = encode(&m)
	require.NoError(t, err)
	require.NoError(t, inFrame(&p))
	m.Headers = driver.Headers{{Key: strings.Repeat("k", 256)}}
	_, err = encode(&m)
	require.ErrorContains(t, err, "256 bytes")
}

// Whatever a foreign producer puts into a table, decoding does not fail, and
// decoding what was encoded again finds the same headers.
func FuzzDecode(f *testing.F) {
	f.Add("id", "type", "name", []byte("value"), "mainstay-headers", int64(1700000000), 3)
	f.Add("", "", "mainstay-time", []byte("2026-01-31T12:50:00Z"), "mainstay-time", int64(-1), 0)
	f.Add("", "", "x-death", []byte{0xff}, "x-first-death-reason", int64(0), 7)
	f.Fuzz(func(t *testing.T, id, kind, name string, value []byte, name2 string, seconds int64, shape int) {
		var v any = value
		switch shape % 8 {
		case 1:
			v = string(value)
		case 2:
			v = []any{name, value, name, nil}
		case 3:
			v = []any{}
		case 4:
			v = amqp.Table{name: value}
		case 5:
			v = seconds
		case 6:
			v = []any{amqp.Table{"time": seconds}}
		case 7:
			v = "delivery_limit"
		}
		d := &amqp.Delivery{MessageId: id, ContentType: kind, Timestamp: time.Unix(seconds, 0), Body: value, Headers: amqp.Table{name: string(value), name2: v}}
		m := decode(d, "t")
		if m.ID == "" {
			t.Fatal("no ID")
		}
		p, err := encode(&m)
		if err != nil {
			return // a name that AMQP would not have carried
		}
		again := decode(arrive(&p), "t")
		if m.Time.Year() >= 0 && m.Time.Year() <= 9999 && !m.Time.Equal(again.Time) {
			t.Fatalf("time %v became %v", m.Time, again.Time)
		}
		if !reflect.DeepEqual(flat(m.Headers), flat(again.Headers)) || m.Key != again.Key || m.Schema != again.Schema {
			t.Fatalf("%q became %q", flat(m.Headers), flat(again.Headers))
		}
	})
}
