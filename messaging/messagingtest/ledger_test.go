package messagingtest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging"
)

var errFailed = errors.New("failed")

func TestLedgerCounts(t *testing.T) {
	type step struct {
		do, id, key string
		err         error
	}
	for _, c := range []struct {
		name  string
		steps []step
		want  Counts
	}{
		{"nothing", nil, Counts{}},
		{"all is well", []step{{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"ok", "1", "k", nil}, {"ok", "2", "k", nil}},
			Counts{Published: 2, Delivered: 2}},
		{"handled before it is booked as sent", []step{{"ok", "1", "k", nil}, {"sent", "1", "k", nil}},
			Counts{Published: 1, Delivered: 1}},
		{"lost", []step{{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"ok", "2", "k", nil}},
			Counts{Published: 2, Delivered: 1, Lost: 1}},
		{"failed only is lost", []step{{"sent", "1", "k", nil}, {"fail", "1", "k", nil}},
			Counts{Published: 1, Delivered: 1, Lost: 1}},
		{"refused", []step{{"sent", "1", "k", errFailed}}, Counts{}},
		{"unknown", []step{{"sent", "1", "k", messaging.ErrUnknown}, {"sent", "2", "k", messaging.ErrUnknown}, {"ok", "2", "k", nil}},
			Counts{Unknown: 2, Delivered: 1}},
		{"unknown, then known", []step{{"sent", "1", "k", messaging.ErrUnknown}, {"sent", "1", "k", nil}, {"ok", "1", "k", nil}},
			Counts{Published: 1, Delivered: 1}},
		{"sent twice is one", []step{{"sent", "1", "k", nil}, {"sent", "1", "k", nil}, {"ok", "1", "k", nil}},
			Counts{Published: 1, Delivered: 1}},
		{"a retry is no duplicate", []step{{"sent", "1", "k", nil}, {"fail", "1", "k", nil}, {"ok", "1", "k", nil}},
			Counts{Published: 1, Delivered: 2}},
		{"duplicate", []step{{"sent", "1", "k", nil}, {"ok", "1", "k", nil}, {"ok", "1", "k", nil}, {"ok", "1", "k", nil}},
			Counts{Published: 1, Delivered: 3, Duplicate: 2}},
		{"inverted", []step{
			{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"sent", "3", "k", nil},
			{"ok", "3", "k", nil}, {"ok", "1", "k", nil}, {"ok", "2", "k", nil},
		}, Counts{Published: 3, Delivered: 3, Inverted: 2}},
		{"a repeated one inverts nothing", []step{
			{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"ok", "1", "k", nil}, {"ok", "2", "k", nil}, {"ok", "1", "k", nil},
		}, Counts{Published: 2, Delivered: 3, Duplicate: 1}},
		{"other keys, and none, have no order", []step{
			{"sent", "1", "a", nil}, {"sent", "2", "b", nil}, {"ok", "2", "b", nil}, {"ok", "1", "a", nil},
			{"sent", "3", "", nil}, {"sent", "4", "", nil}, {"begin", "4", "", nil}, {"begin", "3", "", nil}, {"end", "4", "", nil}, {"end", "3", "", nil},
		}, Counts{Published: 4, Delivered: 4}},
		{"overlapping", []step{
			{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"begin", "1", "k", nil}, {"begin", "2", "k", nil},
			{"end", "1", "k", nil}, {"end", "2", "k", nil},
		}, Counts{Published: 2, Delivered: 2, Overlapping: 1}},
		{"a client that loses keys hides nothing", []step{
			{"begin", "2", "", nil}, {"begin", "1", "", nil}, {"sent", "1", "k", nil}, {"sent", "2", "k", nil},
			{"end", "2", "", nil}, {"end", "1", "", nil},
		}, Counts{Published: 2, Delivered: 2, Inverted: 1, Overlapping: 1, Rekeyed: 2}},
		{"nor does one that loses them when it delivers again", []step{
			{"sent", "1", "k", nil}, {"sent", "2", "k", nil}, {"ok", "1", "k", nil}, {"begin", "2", "k", nil}, {"ok", "1", "", nil}, {"end", "2", "k", nil},
		}, Counts{Published: 2, Delivered: 3, Duplicate: 1, Overlapping: 1, Rekeyed: 1}},
		{"another key is not the published one, which was none", []step{{"sent", "1", "", nil}, {"ok", "1", "k", nil}},
			Counts{Published: 1, Delivered: 1, Rekeyed: 1}},
		{"of what was not published the first key counts", []step{{"begin", "1", "k", nil}, {"ok", "1", "j", nil}, {"end", "1", "k", nil}},
			Counts{Delivered: 2, Duplicate: 1, Overlapping: 1, Rekeyed: 1}},
		{"overlaps beyond the next handling", []step{
			{"begin", "1", "k", nil}, {"ok", "2", "k", nil}, {"ok", "3", "k", nil}, {"end", "1", "k", nil}, {"ok", "4", "k", nil},
		}, Counts{Delivered: 4, Overlapping: 2}},
		{"done acts once", []step{
			{"begin", "1", "k", nil}, {"end", "1", "k", errFailed}, {"end", "1", "k", errFailed}, {"end", "1", "k", nil},
			{"begin", "1", "k", nil}, {"begin", "2", "k", nil},
		}, Counts{Delivered: 3, Overlapping: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLedger()
			open := map[string]func(error){}
			for _, s := range c.steps {
				switch s.do {
				case "sent":
					l.Sent(s.id, s.key, s.err)
				case "ok":
					l.Handled(s.id, s.key)(nil)
				case "fail":
					l.Handled(s.id, s.key)(errFailed)
				case "begin":
					open[s.id] = l.Handled(s.id, s.key)
				case "end":
					open[s.id](s.err)
				}
			}
			require.Equal(t, c.want, l.Counts(), "%v", l)
		})
	}
}

func TestLedgerNamesTheCulprits(t *testing.T) {
	l := NewLedger()
	l.Sent("a", "k", nil)
	l.Sent("b", "k", nil)
	l.Sent("c", "k", nil)
	l.Handled("b", "k")(nil)
	l.Handled("a", "k")(nil)
	l.Handled("a", "k")(nil)
	require.Equal(t, "3 published, 0 unknown, 3 delivered, 1 lost (c), 1 duplicate (a), 1 inverted (a), 0 overlapping, 0 rekeyed", l.String())
}

func TestLedgerNamesKeysAndWhoLostThem(t *testing.T) {
	l := NewLedger()
	l.Sent("a", "k", nil)
	a := l.Handled("a", "")
	l.Handled("b", "k")(nil)
	a(nil)
	require.Equal(t, "1 published, 0 unknown, 2 delivered, 0 lost, 0 duplicate, 0 inverted, 1 overlapping (key k), 1 rekeyed (a)", l.String())
}

func TestMiddlewareBooksAPanicAsAFailure(t *testing.T) {
	l := NewLedger()
	l.Sent("a", "k", nil)
	h := l.Middleware(func(context.Context, *messaging.Delivery) error { panic("ouch") })
	require.PanicsWithValue(t, "ouch", func() {
		_ = h(t.Context(), &messaging.Delivery{Message: messaging.Message{ID: "a", Key: "k"}})
	})
	require.Equal(t, Counts{Published: 1, Delivered: 1, Lost: 1}, l.Counts())
	h = l.Middleware(func(context.Context, *messaging.Delivery) error { return nil })
	require.NoError(t, h(t.Context(), &messaging.Delivery{Message: messaging.Message{ID: "a", Key: "k"}}))
	require.Equal(t, Counts{Published: 1, Delivered: 2}, l.Counts())
}
