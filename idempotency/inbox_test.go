package idempotency

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/messaging"
)

var _ messaging.Inbox = (*Guard)(nil)

func delivery(id string) *messaging.Delivery {
	return &messaging.Delivery{Message: messaging.Message{ID: id, Topic: "orders"}, Group: "billing", Origin: "orders"}
}

func TestDeliveryKey(t *testing.T) {
	d := delivery("m-1")
	require.Equal(t, Key{Scope: "billing/orders", ID: "m-1"}, DeliveryKey(d))

	dead := *d // redriven, or consumed from its dead-letter topic
	dead.Topic, dead.Attempt = "orders.dead", 3
	require.Equal(t, DeliveryKey(d), DeliveryKey(&dead))
	bare := *d
	bare.Origin = ""
	require.Equal(t, DeliveryKey(d), DeliveryKey(&bare))

	slash, other := delivery("m-1"), delivery("m-1")
	slash.Group, slash.Origin = "a/b", "c"
	other.Group, other.Origin = "a", "b/c"
	require.NotEqual(t, DeliveryKey(slash), DeliveryKey(other))
}

func TestOnce(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	var handled []string
	h := g.Once(func(ctx context.Context, d *messaging.Delivery) error {
		// The handler may use the delivery's key for an effect of its own.
		_, err := Do(ctx, g, DeliveryKey(d), func(context.Context) (struct{}, error) {
			handled = append(handled, d.Group+" "+d.ID)
			return struct{}{}, nil
		})
		return err
	})
	other := delivery("m-1")
	other.Group = "shipping"
	for _, d := range []*messaging.Delivery{delivery("m-1"), delivery("m-2"), delivery("m-1"), other, delivery("m-2")} {
		require.NoError(t, h(t.Context(), d))
	}
	require.Equal(t, []string{"billing m-1", "billing m-2", "shipping m-1"}, handled)
}

func TestOnceFailures(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	errs := []error{
		errors.New("failed"),
		messaging.Discard("not ours"),
		messaging.Permanent(errors.New("no such order")),
		messaging.RetryAfter(errors.New("bank is closed"), time.Hour),
		nil,
	}
	runs := 0
	h := g.Once(func(context.Context, *messaging.Delivery) error { runs++; return errs[runs-1] })
	for _, want := range errs {
		require.Equal(t, want, h(t.Context(), delivery("m-1")))
	}
	require.NoError(t, h(t.Context(), delivery("m-1")))
	require.Equal(t, len(errs), runs)

	require.PanicsWithValue(t, "boom", func() {
		_ = g.Once(func(context.Context, *messaging.Delivery) error { panic("boom") })(t.Context(), delivery("m-2"))
	})
	require.NoError(t, g.Once(func(context.Context, *messaging.Delivery) error { runs++; return nil })(t.Context(), delivery("m-2")))
	require.Equal(t, len(errs)+1, runs)
}

func TestOnceInProgressElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(NewMemoryStore(10), nil)
		done := make(chan error)
		h := g.Once(func(ctx context.Context, _ *messaging.Delivery) error {
			select {
			case <-time.After(25 * time.Second):
			case <-ctx.Done():
			}
			return ctx.Err()
		})
		go func() { done <- h(t.Context(), delivery("m-1")) }()
		time.Sleep(5 * time.Second)

		err := h(t.Context(), delivery("m-1"))
		require.ErrorIs(t, err, ErrInProgress)
		permanent, after := concurrency.Advice(err)
		require.False(t, permanent)
		require.Equal(t, 25*time.Second, after, "not until the lease of 30 s ends")

		require.NoError(t, <-done)
		require.NoError(t, h(t.Context(), delivery("m-1")))
	})
}

func TestOnceWithoutID(t *testing.T) {
	h := New(NewMemoryStore(10), nil).Once(func(context.Context, *messaging.Delivery) error { t.Fatal("handled"); return nil })
	err := h(t.Context(), delivery(""))
	require.ErrorIs(t, err, ErrKey)
	permanent, _ := concurrency.Advice(err)
	require.True(t, permanent)
}

func TestOnceStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		runs := 0
		handle := func(context.Context, *messaging.Delivery) error { runs++; return nil }

		store.onBegin = down
		err := New(store, nil).Once(handle)(t.Context(), delivery("m-1"))
		require.ErrorIs(t, err, errDown)
		permanent, _ := concurrency.Advice(err)
		require.False(t, permanent, "a store that is down made a dead letter")
		require.Zero(t, runs)
		require.NoError(t, New(store, &Options{FailOpen: true}).Once(handle)(t.Context(), delivery("m-1")))
		require.Equal(t, 1, runs)

		store.onBegin = func() error { return nil }
		store.onComplete = func([]byte) error { return errDown }
		require.NoError(t, New(store, nil).Once(handle)(t.Context(), delivery("m-2")), "handled, and to be handled again")
		require.Equal(t, 2, runs)
	})
}
