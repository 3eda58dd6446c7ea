package cloudevents_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/cloudevents"
)

type order struct {
	Pence int `json:"pence"`
}

type event = cloudevents.Event[order]

var at = time.Date(2026, 1, 31, 12, 50, 0, 123456789, time.UTC)

func codecs() map[string]messaging.Codec[event] {
	data := messaging.JSON[order]()
	return map[string]messaging.Codec[event]{
		"binary": cloudevents.Binary(data), "amqp": cloudevents.BinaryAMQP(data), "structured": cloudevents.Structured[order](),
	}
}

// Each mode is read by the codecs of all.
func TestEveryCodecReadsEveryMode(t *testing.T) {
	e := event{
		ID: "e-1", Source: "/shop", Type: "placed", Subject: "o/1", DataSchema: "urn:s", Time: at,
		Extensions: map[string]string{"traceparent": "00-1", "n1": "ü"}, Data: order{250},
	}
	for writer, w := range codecs() {
		for reader, r := range codecs() {
			t.Run(writer+" to "+reader, func(t *testing.T) {
				m := &messaging.Message{ID: "minted", Topic: "t", Time: at.Add(time.Hour)}
				require.NoError(t, w.Encode(m, e))
				require.Equal(t, "e-1", m.ID)
				require.True(t, m.Time.Equal(at))
				got, err := r.Decode(m)
				require.NoError(t, err)
				require.Equal(t, e, got)
			})
		}
	}
}

// What is not set in the event is the message's.
func TestIDAndTimeOfTheMessage(t *testing.T) {
	for name, c := range codecs() {
		t.Run(name, func(t *testing.T) {
			m := &messaging.Message{ID: "minted", Topic: "t", Time: at}
			require.NoError(t, c.Encode(m, event{Source: "s", Type: "t"}))
			got, err := c.Decode(m)
			require.NoError(t, err)
			require.Equal(t, event{ID: "minted", Source: "s", Type: "t", Time: at}, got)
		})
	}
}

// The names and the format are the specification's.
func TestWireFormat(t *testing.T) {
	e := event{ID: "e-1", Source: "/shop", Type: "placed", Time: at, Extensions: map[string]string{"x": "y"}, Data: order{250}}
	m := &messaging.Message{Topic: "t"}
	require.NoError(t, codecs()["binary"].Encode(m, e))
	require.Equal(t, `{"pence":250}`, string(m.Body))
	require.Equal(t, "application/json", m.ContentType)
	var names []string
	for _, h := range m.Headers {
		names = append(names, h.Key+"="+string(h.Value))
	}
	require.Equal(t, []string{
		"ce_specversion=1.0", "ce_id=e-1", "ce_source=/shop", "ce_type=placed", "ce_time=2026-01-31T12:50:00.123456789Z", "ce_x=y",
	}, names)

	m = &messaging.Message{Topic: "t"}
	require.NoError(t, codecs()["amqp"].Encode(m, e))
	require.Equal(t, "e-1", m.Headers.Get("cloudEvents:id"))

	m = &messaging.Message{Topic: "t"}
	require.NoError(t, codecs()["structured"].Encode(m, e))
	require.Equal(t, "application/cloudevents+json; charset=UTF-8", m.ContentType)
	require.JSONEq(t, `{"specversion":"1.0","id":"e-1","source":"/shop","type":"placed","time":"2026-01-31T12:50:00.123456789Z","x":"y",
		"datacontenttype":"application/json","data":{"pence":250}}`, string(m.Body))
	require.Empty(t, m.Headers)
}

// Events as other SDKs write them.
func TestForeignEvents(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want event
	}{
		"numbers and booleans":  {`{"specversion":"1.0","id":"1","source":"s","type":"t","n":7,"b":true,"z":null,"data":{"pence":3}}`, event{ID: "1", Source: "s", Type: "t", Extensions: map[string]string{"n": "7", "b": "true"}, Data: order{3}}},
		"base64":                {`{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"application/json","data_base64":"eyJwZW5jZSI6NH0="}`, event{ID: "1", Source: "s", Type: "t", Data: order{4}}},
		"time with zone":        {`{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-01-31T13:50:00.123456789+01:00","data":{}}`, event{ID: "1", Source: "s", Type: "t"}},
		"a later minor version": {`{"specversion":"1.1","id":"1","source":"s","type":"t","data":{"pence":5}}`, event{ID: "1", Source: "s", Type: "t", Data: order{5}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cloudevents.Structured[order]().Decode(&messaging.Message{ContentType: "application/cloudevents+json", Body: []byte(c.body), Time: at})
			require.NoError(t, err)
			require.True(t, got.Time.Equal(at))
			got.Time = time.Time{}
			require.Equal(t, c.want, got)
		})
	}
	// JMS bridges write the underscore; a text is a text.
	m := &messaging.Message{ContentType: "application/json", Body: []byte(`{"pence":1}`)}
	for k, v := range map[string]string{"cloudEvents_specversion": "1.0", "cloudEvents_id": "i", "cloudEvents_source": "s", "cloudEvents_type": "t"} {
		m.Headers.Add(k, v)
	}
	got, err := cloudevents.Binary(messaging.JSON[order]()).Decode(m)
	require.NoError(t, err)
	require.Equal(t, event{ID: "i", Source: "s", Type: "t", Data: order{1}}, got)
}

// Data are optional. An empty body is some, where it has a content type.
func TestEventsWithoutData(t *testing.T) {
	bare := `{"specversion":"1.0","id":"1","source":"s","type":"user.deleted","subject":"42"}`
	typed := `{"specversion":"1.0","id":"1","source":"s","type":"user.deleted","subject":"42","datacontenttype":"application/json"}`
	want := event{ID: "1", Source: "s", Type: "user.deleted", Subject: "42", Time: at}
	for name, c := range codecs() {
		t.Run(name, func(t *testing.T) {
			for _, body := range []string{bare, typed} {
				got, err := c.Decode(&messaging.Message{ContentType: "application/cloudevents+json", Body: []byte(body), Time: at})
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
			m := &messaging.Message{Time: at}
			for k, v := range map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s", "ce_type": "user.deleted", "ce_subject": "42"} {
				m.Headers.Add(k, v)
			}
			got, err := c.Decode(m)
			require.NoError(t, err)
			require.Equal(t, want, got)
			m.ContentType = "application/json"
			_, err = c.Decode(m)
			require.Error(t, err, "this is no JSON")
		})
	}
	_, err := cloudevents.Structured[order]().Decode(&messaging.Message{ContentType: "application/cloudevents+json", Time: at,
		Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":""}`)})
	require.Error(t, err, "data of no bytes are no JSON")
}

func TestWhatIsNoCloudEvent(t *testing.T) {
	for name, m := range map[string]messaging.Message{
		"nothing":         {},
		"plain JSON":      {ContentType: "application/json", Body: []byte(`{"pence":1}`)},
		"other version":   {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"2.0","id":"1","source":"s","type":"t"}`)},
		"no id":           {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","source":"s","type":"t"}`)},
		"no source":       {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","type":"t"}`)},
		"no type":         {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","source":"s"}`)},
		"object as id":    {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":{},"source":"s","type":"t"}`)},
		"both data":       {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}`)},
		"no base64":       {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"%"}`)},
		"no time":         {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","time":"now"}`)},
		"a batch":         {ContentType: "application/cloudevents-batch+json", Body: []byte(`[]`)},
		"broken":          {ContentType: "application/cloudevents+json", Body: []byte(`{`)},
		"extension names": {ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","Not_OK":"x"}`)},
	} {
		for codec, c := range codecs() {
			_, err := c.Decode(&m)
			require.ErrorIs(t, err, cloudevents.ErrInvalid, "%s, %s", name, codec)
		}
	}
	for name, e := range map[string]event{
		"no source": {Type: "t"}, "no type": {Source: "s"}, "control": {Source: "s\n", Type: "t"},
		"extension": {Source: "s", Type: "t", Extensions: map[string]string{"A": ""}},
		"reserved":  {Source: "s", Type: "t", Extensions: map[string]string{"data": ""}},
	} {
		for _, c := range codecs() {
			require.ErrorIs(t, c.Encode(&messaging.Message{ID: "i", Time: at}, e), cloudevents.ErrInvalid, name)
		}
	}
}

// Whatever comes, decoding ends in an event that can be written and read again, or in an error.
func FuzzDecode(f *testing.F) {
	f.Add("application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"pence":3}}`), "ce_id", "x")
	f.Add("application/json", []byte(`{"pence":3}`), "ce_specversion", "1.0")
	f.Add("", []byte(`null`), "cloudEvents:time", "2026-01-31T12:50:00Z")
	f.Fuzz(func(t *testing.T, kind string, body []byte, name, value string) {
		m := messaging.Message{ID: "i", Time: at, ContentType: kind, Body: body}
		for _, k := range []string{"ce_specversion", "ce_id", "ce_source", "ce_type"} {
			m.Headers.Add(k, "1.0")
		}
		m.Headers.Add(name, value)
		c := cloudevents.Structured[json.RawMessage]()
		e, err := c.Decode(&m)
		if err != nil {
			return
		}
		out := messaging.Message{ID: "j", Time: at}
		err = c.Encode(&out, e)
		if err != nil {
			var syntax *json.MarshalerError
			require.True(t, errors.As(err, &syntax) || e.Time.Year() > 9999 || e.Time.Year() < 0, "%v", err)
			return
		}
		again, err := c.Decode(&out)
		require.NoError(t, err)
		require.Equal(t, e.ID, again.ID)
		require.Equal(t, e.Extensions, again.Extensions)
	})
}
