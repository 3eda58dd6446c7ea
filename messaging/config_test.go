package messaging_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
)

type inbox time.Duration

func (inbox) Once(h messaging.Handler) messaging.Handler { return h }
func (i inbox) Retention() time.Duration                 { return time.Duration(i) }

// durable says it is, for what it would guarantee.
type durable struct{ *faulty }

func (d durable) Capabilities() driver.Capabilities {
	c := d.faulty.Capabilities()
	c.Durable = true
	return c
}

func nop(context.Context, *messaging.Delivery) error { return nil }

func TestGuarantee(t *testing.T) {
	options := func(o messaging.ConsumerOptions) *messaging.ConsumerOptions { return &o }
	for _, c := range []struct {
		o    *messaging.ConsumerOptions
		want string
	}{
		{nil, "at least once, in order per key, 5 attempts, then a.dead, b.dead"},
		{options(messaging.ConsumerOptions{Order: messaging.ByPartition, Retry: messaging.RetryPolicy{MaxAttempts: 1, DeadLetter: "x"}}),
			"at least once, in order per partition, 1 attempt, then x"},
		{options(messaging.ConsumerOptions{Order: messaging.Unordered, Inbox: inbox(7 * 24 * time.Hour), Retry: messaging.RetryPolicy{MaxAttempts: -1}}),
			"at least once, effects once for 7 days, in no order, attempts without end, only permanent failures to a.dead, b.dead"},
	} {
		b := messaging.NewBroker(durable{newFaulty()}, nil)
		got, err := b.Consumer("g", c.o, messaging.On("a", nop), messaging.On("b", nop))
		require.NoError(t, err)
		require.Equal(t, c.want, got.Guarantee())
	}
}

func TestContradictionsAreRefusedByName(t *testing.T) {
	a := messaging.On("a", nop)
	type routes = []messaging.Route
	for _, c := range []struct {
		text   string
		group  string
		o      messaging.ConsumerOptions
		routes routes
		fault  func(*faulty)
	}{
		{text: "needs a group", routes: routes{a}},
		{text: "needs a route", group: "g"},
		{text: "a route has no topic", group: "g", routes: routes{messaging.On("", nop)}},
		{text: `route of "a" has no handler`, group: "g", routes: routes{messaging.On("a", nil)}},
		{text: `route of "orders" has no handler`, group: "g", routes: routes{Orders.On(nil).With()}},
		{text: `two routes of topic "a"`, group: "g", routes: routes{a, messaging.On("b", nop), a}},
		{text: `topic "a" has its dead letters in "a.dead", which this consumer handles too`, group: "g", routes: routes{a, messaging.On("a.dead", nop)}},
		{text: `topic "a" has its dead letters in "a"`, group: "g", o: messaging.ConsumerOptions{Retry: messaging.RetryPolicy{DeadLetter: "a"}}, routes: routes{a}},
		{text: `memory does not keep order, and Order is "in order per key": set Order to Unordered`, group: "g", routes: routes{a}, fault: func(f *faulty) { f.noOrder = true }},
		{text: "Order 7 is none of", group: "g", o: messaging.ConsumerOptions{Order: 7}, routes: routes{a}},
		{text: "Prefetch 4 is below Concurrency 16: 12 handlers could never run", group: "g", o: messaging.ConsumerOptions{Prefetch: 4}, routes: routes{a}},
		{text: "Concurrency is -1", group: "g", o: messaging.ConsumerOptions{Concurrency: -1}, routes: routes{a}},
		{text: "Drain is -1s", group: "g", o: messaging.ConsumerOptions{Drain: -time.Second}, routes: routes{a}},
		{text: "Retry.Inline is -1", group: "g", o: messaging.ConsumerOptions{Retry: messaging.RetryPolicy{Inline: -1}}, routes: routes{a}},
		{text: "Retry.Delays are set, and MaxAttempts 1 never waits", group: "g", routes: routes{a},
			o: messaging.ConsumerOptions{Retry: messaging.RetryPolicy{MaxAttempts: 1, Delays: []time.Duration{1}}}},
		{text: "Retry.Delays has -1s", group: "g", o: messaging.ConsumerOptions{Retry: messaging.RetryPolicy{Delays: []time.Duration{1, -time.Second}}}, routes: routes{a}},
		{text: "the Inbox remembers for 10m, and a message may be tried again for 23m40s", group: "g", o: messaging.ConsumerOptions{Inbox: inbox(10 * time.Minute)}, routes: routes{a}},
		{text: "may be tried again for ever", group: "g", routes: routes{a},
			o: messaging.ConsumerOptions{Inbox: inbox(math.MaxInt64 - 1), Retry: messaging.RetryPolicy{MaxAttempts: 1 << 40}}},
	} {
		t.Run(c.text, func(t *testing.T) {
			d := newFaulty()
			if c.fault != nil {
				c.fault(d)
			}
			_, err := d.front().Consumer(c.group, &c.o, c.routes...)
			require.ErrorIs(t, err, messaging.ErrConfig)
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, "messaging: consume")
		})
	}
}

// The longest retry is compared with what the inbox remembers: one nanosecond
// decides.
func TestInboxMustOutliveTheLongestRetry(t *testing.T) {
	for _, c := range []struct {
		name string
		o    messaging.ConsumerOptions
		need time.Duration
	}{
		{"default", messaging.ConsumerOptions{}, 5*30*time.Second + 10*time.Second + time.Minute + 2*10*time.Minute},
		{"one attempt", messaging.ConsumerOptions{Timeout: time.Second, Retry: messaging.RetryPolicy{MaxAttempts: 1}}, time.Second},
		{"fewer attempts than delays", messaging.ConsumerOptions{Timeout: time.Second, Retry: messaging.RetryPolicy{MaxAttempts: 2}}, 12 * time.Second},
		{"inline", messaging.ConsumerOptions{Timeout: time.Second, Retry: messaging.RetryPolicy{
			MaxAttempts: 2, Inline: 2, Backoff: concurrency.Backoff{Max: 3 * time.Second}, Delays: []time.Duration{time.Minute},
		}}, 2*(3*time.Second+2*3*time.Second) + time.Minute},
		{"no timeout", messaging.ConsumerOptions{Timeout: -1, Retry: messaging.RetryPolicy{MaxAttempts: 2}}, 10 * time.Second},
		{"no end", messaging.ConsumerOptions{Timeout: time.Second, Retry: messaging.RetryPolicy{MaxAttempts: -1}}, 10*time.Minute + time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Inbox = inbox(c.need)
			_, err := newFaulty().front().Consumer("g", &c.o, messaging.On("a", nop))
			require.NoError(t, err)
			c.o.Inbox = inbox(c.need - 1)
			_, err = newFaulty().front().Consumer("g", &c.o, messaging.On("a", nop))
			require.ErrorIs(t, err, messaging.ErrConfig)
		})
	}
}

func TestMiddlewareOrder(t *testing.T) {
	var got []string
	mw := func(name string) messaging.Middleware {
		return func(next messaging.Handler) messaging.Handler {
			return func(ctx context.Context, d *messaging.Delivery) error {
				got = append(got, name)
				return next(ctx, d)
			}
		}
	}
	b := newFaulty().front()
	done := make(chan struct{})
	plain := messaging.On("t", func(context.Context, *messaging.Delivery) error {
		got = append(got, "handler")
		close(done)
		return nil
	})
	wrapped := plain.With(mw("a"), mw("b")).With(mw("outer"))
	stop := start(t, consumer(t, b, &messaging.ConsumerOptions{Inbox: inboxFunc(mw("inbox"))}, wrapped))
	publish(t, b, msg("1", "k"))
	<-done
	require.NoError(t, stop())
	require.Equal(t, []string{"inbox", "outer", "a", "b", "handler"}, got)
}

type inboxFunc messaging.Middleware

func (f inboxFunc) Once(h messaging.Handler) messaging.Handler { return f(h) }
func (inboxFunc) Retention() time.Duration                     { return 24 * time.Hour }
