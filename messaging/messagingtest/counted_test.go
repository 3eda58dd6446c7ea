package messagingtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

type stub struct {
	driver.Broker
	driver.Receiver
	deliver []driver.Delivery
	refuse  error
}

func (s *stub) Close(context.Context) error { return nil }

func (s *stub) Subscribe(context.Context, driver.Subscription) (driver.Receiver, error) {
	return s, nil
}
func (s *stub) Receive(context.Context, int) ([]driver.Delivery, error) { return s.deliver, nil }
func (s *stub) Settle(context.Context, []driver.Settlement) error       { return s.refuse }

func TestWhatMayComeAgainIsCounted(t *testing.T) {
	ctx := t.Context()
	s := &stub{}
	lost := make(chan struct{})
	for i := range 4 {
		s.deliver = append(s.deliver, driver.Delivery{Position: fmt.Sprint("a/", i), Lane: "a", Lost: lost})
	}
	s.deliver = append(s.deliver, driver.Delivery{Position: "b/0", Lane: "b", Lost: lost})
	c := count(s)
	r, err := c.Subscribe(ctx, driver.Subscription{})
	if err != nil {
		t.Fatal(err)
	}
	ds, _ := r.Receive(ctx, 5)
	settle := func(want int, a driver.Action, which ...int) {
		t.Helper()
		var batch []driver.Settlement
		for _, i := range which {
			batch = append(batch, driver.Settlement{Delivery: ds[i], Action: a})
		}
		if err := r.Settle(ctx, batch); !errors.Is(err, s.refuse) {
			t.Fatal(err)
		}
		if got := c.unsettled(); got != want {
			t.Fatalf("%d may come again, want %d", got, want)
		}
	}
	settle(5, driver.Ack)
	settle(5, driver.Ack, 1, 2) // behind the first, which is open
	settle(4, driver.Requeue, 0)
	settle(3, driver.Ack, 4)
	settle(3, driver.Ack, 4) // again
	s.deliver = s.deliver[:1]
	if _, err := r.Receive(ctx, 1); err != nil {
		t.Fatal(err)
	}
	settle(4, driver.Ack)
	settle(1, driver.Ack, 0)
	s.refuse = errors.New("not told")
	settle(1, driver.Ack, 3)
	s.refuse = driver.ErrRevoked
	settle(0, driver.Ack, 3) // not of this one
	close(lost)
	s.refuse, s.deliver = nil, ds[:1]
	if _, err := r.Receive(ctx, 1); err != nil {
		t.Fatal(err)
	}
	s.refuse = driver.ErrRevoked
	settle(1, driver.Ack, 0)
}

// TestNothingIsSettledBehindWhatWasPutBack: a group whose position is one number
// stays there when its member dies.
func TestNothingIsSettledBehindWhatWasPutBack(t *testing.T) {
	ctx, s := t.Context(), &stub{}
	for i := range 3 {
		s.deliver = append(s.deliver, driver.Delivery{Position: fmt.Sprint(i), Lane: "a"})
	}
	c := count(s)
	r, err := c.Subscribe(ctx, driver.Subscription{})
	if err != nil {
		t.Fatal(err)
	}
	ds, _ := r.Receive(ctx, 3)
	for i, a := range []driver.Action{driver.Requeue, driver.Ack, driver.Ack} {
		if err := r.Settle(ctx, []driver.Settlement{{Delivery: ds[i], Action: a}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.unsettled(); got != 2 {
		t.Fatalf("%d may be handled again, want the 2 behind the first", got)
	}
}
