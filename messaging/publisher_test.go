package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

type publisherFunc func(msgs []driver.Message) []error

func (f publisherFunc) Publish(_ context.Context, msgs []driver.Message) []error { return f(msgs) }

func TestPublishMintsIDAndTimeOnceAndNothingElse(t *testing.T) {
	var sent []driver.Message
	p := messaging.NewPublisher(publisherFunc(func(msgs []driver.Message) []error {
		sent = append(sent, msgs...)
		for i := range msgs { // a driver's copies are its own
			msgs[i].Headers.Add("x", "y")
			msgs[i].Key = "spoilt"
		}
		return make([]error, len(msgs))
	}), nil)
	m := &messaging.Message{Topic: "t"}
	before := time.Now()
	require.NoError(t, p.Publish(t.Context(), m))
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, m.ID)
	require.False(t, m.Time.Before(before))
	require.Equal(t, messaging.Message{Topic: "t", ID: m.ID, Time: m.Time}, *m)
	require.NoError(t, p.Publish(t.Context(), m), "again is the same message")
	require.Equal(t, sent[0].ID, sent[1].ID)
	require.NoError(t, p.Publish(t.Context()), "nothing to publish")
}

func TestIDsSortByTime(t *testing.T) {
	topic := messaging.NewTopic("t", messaging.JSON[int]())
	seen := map[string]bool{}
	last := ""
	for range 5 {
		for range 100 {
			m, err := topic.Message("k", 1)
			require.NoError(t, err)
			require.False(t, seen[m.ID])
			seen[m.ID] = true
			require.GreaterOrEqual(t, m.ID[:13], last, "milliseconds never go back")
			last = m.ID[:13]
		}
	}
}

func TestUnsentAreTheCallersOwn(t *testing.T) {
	vendor := errors.New("vendor: broken pipe")
	fate := []error{nil, fmt.Errorf("%w: %w", driver.ErrUnknown, vendor), nil, vendor}
	p := messaging.NewPublisher(publisherFunc(func([]driver.Message) []error { return fate }), nil)
	msgs := []*messaging.Message{{Topic: "t"}, {Topic: "t"}, {Topic: "t"}, {Topic: "u"}}
	err := p.Publish(t.Context(), msgs...)
	e, ok := errors.AsType[*messaging.Error](err)
	require.True(t, ok)
	require.Len(t, e.Unsent, 2)
	require.Same(t, msgs[1], e.Unsent[0])
	require.Same(t, msgs[3], e.Unsent[1])
	require.NotEmpty(t, e.Unsent[0].ID)
	require.ErrorIs(t, err, messaging.ErrUnknown)
	require.ErrorIs(t, err, vendor)
	require.Empty(t, e.Topic, "there were two")

	fate = []error{nil}
	err = p.Publish(t.Context(), msgs...)
	require.ErrorIs(t, err, messaging.ErrUnknown, "a driver that answers for too few")
	e, _ = errors.AsType[*messaging.Error](err)
	require.Len(t, e.Unsent, 4)
}

// Many different texts must not crowd out what callers branch on.
func TestUnknownIsNeverCrowdedOut(t *testing.T) {
	p := messaging.NewPublisher(publisherFunc(func(msgs []driver.Message) []error {
		errs := make([]error, len(msgs))
		for i := range errs {
			errs[i] = fmt.Errorf("failure %d", i)
		}
		errs[len(errs)-1] = fmt.Errorf("the last: %w", driver.ErrUnknown)
		return errs
	}), nil)
	msgs := make([]*messaging.Message, 100)
	for i := range msgs {
		msgs[i] = &messaging.Message{Topic: "t"}
	}
	err := p.Publish(t.Context(), msgs...)
	require.ErrorIs(t, err, messaging.ErrUnknown)
	require.Less(t, len(err.Error()), 1000)
}

func TestPublishRefusesWhatNoMessageCanBeMadeOf(t *testing.T) {
	sent := 0
	d := newFaulty()
	d.Broker = memory.New(&memory.Options{MaxBytes: 10_000}).Driver()
	d.publish = func(msgs []driver.Message) []error {
		sent += len(msgs)
		return nil
	}
	good := &messaging.Message{Topic: "t"}
	for _, c := range []struct {
		bad  *messaging.Message
		want error
		text string
	}{
		{nil, messaging.ErrConfig, "message 2 of 2 is nil"},
		{&messaging.Message{}, messaging.ErrConfig, "message 2 of 2 has no topic"},
		{&messaging.Message{Topic: "t", Headers: messaging.Headers{{Key: "mainstay-attempts"}}}, messaging.ErrConfig, `"mainstay-attempts" is reserved`},
		{&messaging.Message{Topic: "t", Body: make([]byte, 9000)}, messaging.ErrTooLarge, "9001 bytes with key and headers, at most 7824"},
	} {
		err := d.front().Publisher().Publish(t.Context(), good, c.bad)
		require.ErrorIs(t, err, c.want)
		require.ErrorContains(t, err, c.text)
		e, _ := errors.AsType[*messaging.Error](err)
		require.Len(t, e.Unsent, 2, "none is sent")
	}
	require.Zero(t, sent)
	require.NoError(t, d.front().Publisher().Publish(t.Context(), &messaging.Message{Topic: "t", Body: make([]byte, 7000)}))
}

func TestTopicRoundTrip(t *testing.T) {
	m, err := Orders.WithSchema("v3").Message("ada", Order{ID: "o", Pence: 3})
	require.NoError(t, err)
	require.Equal(t, "orders", Orders.Name())
	require.Equal(t, []string{"orders", "ada", "application/json", "v3", `{"ID":"o","Customer":"","Pence":3}`},
		[]string{m.Topic, m.Key, m.ContentType, m.Schema, string(m.Body)})
	c := messaging.JSON[Order]()
	for _, ct := range []string{"", "application/json", "application/json; charset=utf-8", "application/vnd.shop.order+json"} {
		m.ContentType = ct
		v, err := c.Decode(m)
		require.NoError(t, err, ct)
		require.Equal(t, Order{ID: "o", Pence: 3}, v)
	}
	for _, ct := range []string{"text/plain", "application/xml", ";;", "json"} {
		m.ContentType = ct
		_, err := c.Decode(m)
		require.ErrorContains(t, err, "is not JSON", ct)
	}
	_, err = messaging.NewTopic("t", messaging.JSON[func()]()).Message("", nil)
	require.ErrorContains(t, err, `messaging: encode "t": json: unsupported type`)
}

func FuzzJSONDecode(f *testing.F) {
	f.Add("application/json", []byte(`{"ID":"1"}`))
	f.Add("text/plain;", []byte(`{`))
	f.Add("", []byte(nil))
	c := messaging.JSON[Order]()
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		m := &messaging.Message{ContentType: contentType, Body: body}
		v, err := c.Decode(m)
		if err != nil {
			return
		}
		again := &messaging.Message{}
		require.NoError(t, c.Encode(again, v))
		w, err := c.Decode(again)
		require.NoError(t, err)
		require.Equal(t, v, w)
	})
}

func TestHeaders(t *testing.T) {
	var h messaging.Headers
	require.Empty(t, h.Get("a"))
	h.Add("a", "1")
	h.Add("b", "2")
	h.Add("a", "3")
	require.Equal(t, "3", h.Get("a"), "the last")
	before := h
	h.Set("a", "4")
	require.Equal(t, messaging.Headers{{Key: "a", Value: []byte("4")}, {Key: "b", Value: []byte("2")}}, h)
	h.Set("c", "5")
	require.Equal(t, "5", h.Get("c"))
	require.Equal(t, "1", string(before[0].Value), "the list before is not changed")
}

func TestNative(t *testing.T) {
	d := &messaging.Delivery{}
	var p *int
	require.False(t, d.Native(&p))
	require.False(t, d.Native(nil))
	require.False(t, d.Native(p))
}
