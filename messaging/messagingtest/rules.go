package messagingtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

func everyField(ctx context.Context, s *scene) error {
	full := driver.Message{
		ID: s.topic + "-full", Topic: s.topic, Key: "ключ 1", ContentType: "application/json; charset=utf-8", Schema: "v2",
		Body: []byte("{\"a\":\x00\xff}"), Time: time.Date(2011, 12, 9, 12, 50, 0, 123456789, time.UTC),
		Headers: driver.Headers{
			{Key: "traceparent", Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
			{Key: "twice", Value: []byte("first")}, {Key: "Case", Value: []byte{0, 255, 10}},
			{Key: "twice", Value: []byte("second")}, {Key: "empty", Value: []byte{}},
			{Key: "mainstay-attempts", Value: []byte("2")},
		},
	}
	bare := driver.Message{ID: s.topic + "-bare", Topic: s.topic, Time: time.Unix(1, 0)}
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	if err := s.send(ctx, []driver.Message{full, bare}); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	before := time.Now()
	ds, err := collect(ctx, r, 2)
	if err != nil {
		return err
	}
	want := map[string]driver.Message{full.ID: full, bare.ID: bare}
	for _, d := range ds {
		if err := same(d.Message, want[d.ID]); err != nil {
			return fmt.Errorf("message %q: %w", d.ID, err)
		}
		switch {
		case d.Attempt != 0 && d.Attempt != 1:
			return fmt.Errorf("message %q: the first delivery has Attempt %d, want 1, or 0 from a broker that does not count", d.ID, d.Attempt)
		case !d.FirstSeen.IsZero() && d.FirstSeen.Before(before.Add(-time.Minute)):
			return fmt.Errorf("message %q: the first delivery has FirstSeen %v, it is %v", d.ID, d.FirstSeen, before)
		case d.Lane == "" || d.Position == "":
			return fmt.Errorf("message %q: Lane is %q and Position %q: both must say where it is", d.ID, d.Lane, d.Position)
		}
	}
	return settle(ctx, r, driver.Ack, ds...)
}

// same compares what travels. Headers are compared in order; an empty value
// and nil are the same.
func same(got, want driver.Message) error {
	text := func(m driver.Message) (t [5]string) {
		return [5]string{m.ID, m.Topic, m.Key, m.ContentType, m.Schema}
	}
	if text(got) != text(want) {
		return fmt.Errorf("ID, topic, key, content type, schema are %q, want %q", text(got), text(want))
	}
	if !bytes.Equal(got.Body, want.Body) {
		return fmt.Errorf("body is %q, want %q", got.Body, want.Body)
	}
	if !got.Time.Equal(want.Time) {
		return fmt.Errorf("time is %v, want %v", got.Time, want.Time)
	}
	list := func(h driver.Headers) (l []string) {
		for _, x := range h {
			l = append(l, fmt.Sprintf("%s=%q", x.Key, x.Value))
		}
		return l
	}
	if g, w := list(got.Headers), list(want.Headers); !reflect.DeepEqual(g, w) {
		return fmt.Errorf("headers are\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
	return nil
}

// asPublished compares deliveries with what was published.
func asPublished(ds []driver.Delivery, msgs []driver.Message) error {
	by := make(map[string]driver.Message, len(msgs))
	for _, m := range msgs {
		by[m.ID] = m
	}
	for _, d := range ds {
		if err := same(d.Message, by[d.ID]); err != nil {
			return fmt.Errorf("message %q came again, and not as it was published: %w", d.ID, err)
		}
	}
	return nil
}

func bytesNotShared(ctx context.Context, s *scene) error {
	other := s.group + "-2"
	if err := s.declare(ctx, s.group, other); err != nil {
		return err
	}
	m := s.message(0, 1)
	m.Headers.Add("h", "header")
	want := string(m.Body)
	if err := s.send(ctx, []driver.Message{m}); err != nil {
		return err
	}
	spoil := func(m driver.Message) {
		copy(m.Body, "xxxxxxxxxxxx")
		copy(m.Headers[0].Value, "xxxxxxxxxxxx")
	}
	spoil(m)
	for _, g := range []string{s.group, other} {
		r, err := s.join(ctx, g)
		if err != nil {
			return err
		}
		ds, err := collect(ctx, r, 1)
		if err != nil {
			return err
		}
		if string(ds[0].Body) != want || ds[0].Headers.Get("h") != "header" {
			return fmt.Errorf("group %q got body %q and header %q: somebody else's bytes", g, ds[0].Body, ds[0].Headers.Get("h"))
		}
		spoil(ds[0].Message)
		if err := settle(ctx, r, driver.Ack, ds...); err != nil {
			return err
		}
	}
	return nil
}

func resultsAligned(ctx context.Context, s *scene) error {
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	msgs := []driver.Message{s.message(0, 1), s.message(1, 1), s.message(2, 1)}
	msgs[1].Body = make([]byte, s.Driver.Capabilities().MaxBytes+1)
	errs := s.Driver.Publish(ctx, msgs)
	if len(errs) != 3 {
		return fmt.Errorf("3 messages gave %d results", len(errs))
	}
	if errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], driver.ErrTooLarge) {
		return fmt.Errorf("the second of three messages is over MaxBytes; results are [%s | %s | %s], want [no error | ErrTooLarge | no error]", says(errs[0]), says(errs[1]), says(errs[2]))
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 2)
	if err != nil {
		return err
	}
	if ds[0].ID != msgs[0].ID || ds[1].ID != msgs[2].ID {
		return fmt.Errorf("delivered %s, want the first and the third message", names(ds))
	}
	return s.silence(ctx, r)
}

func missingTopics(ctx context.Context, s *scene) error {
	d := s.Driver.(driver.Declarer)
	sub := s.subscription(s.group)
	sub.DeadLetters = []string{s.topic + ".dead"}
	err := d.Verify(ctx, sub)
	if !errors.Is(err, driver.ErrUnroutable) {
		return fmt.Errorf("Verify of topics that do not exist, which must be ErrUnroutable, gave: %s", says(err))
	}
	for _, name := range []string{s.topic, s.topic + ".dead"} {
		if !strings.Contains(err.Error(), name) {
			return fmt.Errorf("Verify gave %q, which does not name %q", says(err), name)
		}
	}
	if r, err := s.Driver.Subscribe(ctx, sub); err == nil {
		ctx, cancel := context.WithTimeout(ctx, s.quiet)
		defer cancel()
		_, err = r.Receive(ctx, 1) // a driver may find out here
		if cerr := r.Close(context.WithoutCancel(ctx)); cerr != nil {
			return cerr
		}
		if !errors.Is(err, driver.ErrUnroutable) {
			return fmt.Errorf("Subscribe to a missing topic gave no error, and Receive %s, want ErrUnroutable", says(err))
		}
	} else if !errors.Is(err, driver.ErrUnroutable) || !strings.Contains(err.Error(), s.topic) {
		return fmt.Errorf("Subscribe to a missing topic gave %q, want ErrUnroutable and its name", says(err))
	}
	errs := s.Driver.Publish(ctx, []driver.Message{s.message(0, 1)})
	if len(errs) != 1 || !errors.Is(errs[0], driver.ErrUnroutable) || !strings.Contains(errs[0].Error(), s.topic) {
		return fmt.Errorf("publishing to a missing topic gave %q, want ErrUnroutable and its name", errs)
	}
	for range 2 {
		if err := d.Declare(ctx, sub); err != nil {
			return fmt.Errorf("declare: %w", err)
		}
	}
	if err := d.Verify(ctx, sub); err != nil {
		return fmt.Errorf("Verify after Declare: %w", err)
	}
	return nil
}

func orderPerKey(ctx context.Context, s *scene) error {
	const total, keys, batch = 300, 7, 30
	if err := s.declare(ctx, s.group); err != nil {
		return err
	}
	for from := 0; from < total; from += batch {
		msgs := make([]driver.Message, batch)
		for i := range msgs {
			msgs[i] = s.message(from+i, keys)
		}
		if err := s.send(ctx, msgs); err != nil {
			return err
		}
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, total)
	if err != nil {
		return err
	}
	return inOrder(ds)
}

// inOrder relies on IDs that sort in the order of publishing.
func inOrder(ds []driver.Delivery) error {
	last, lane := make(map[string]string), make(map[string]string)
	for _, d := range ds {
		if d.ID < last[d.Key] {
			return fmt.Errorf("of key %q, message %q came after %q", d.Key, d.ID, last[d.Key])
		}
		if l, ok := lane[d.Key]; ok && l != d.Lane {
			return fmt.Errorf("key %q came from lanes %q and %q: its order cannot be kept", d.Key, l, d.Lane)
		}
		last[d.Key], lane[d.Key] = d.ID, d.Lane
	}
	return nil
}

func limitBinding(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 20, 1); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	for total := 0; total < 20; {
		ds, err := r.Receive(ctx, 3)
		if err != nil {
			return err
		}
		if len(ds) < 1 || len(ds) > 3 {
			return fmt.Errorf("Receive with limit 3 returned %d deliveries", len(ds))
		}
		total += len(ds)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	ds, err := r.Receive(short, 3)
	if err == nil {
		return fmt.Errorf("with all 20 messages handed out, Receive returned %s", names(ds))
	}
	if took := time.Since(start); took > 10*time.Second {
		return fmt.Errorf("Receive returned %v after its context ended", took)
	}
	return nil
}

func ackedIsGone(ctx context.Context, s *scene) error {
	if _, err := s.publish(ctx, 20, 3); err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, 20)
	if err != nil {
		return err
	}
	for i := len(ds) - 1; i >= 0; i -= 2 { // in another order than they came
		if err := settle(ctx, r, driver.Ack, ds[i], ds[i-1]); err != nil {
			return err
		}
	}
	if err := s.silence(ctx, r); err != nil {
		return err
	}
	if err := r.Close(ctx); err != nil {
		return err
	}
	if r, err = s.join(ctx, s.group); err != nil {
		return err
	}
	return s.silence(ctx, r)
}

func unsettledAgain(ctx context.Context, s *scene) error {
	const total = 30
	msgs, err := s.publish(ctx, total, 4)
	if err != nil {
		return err
	}
	r, err := s.join(ctx, s.group)
	if err != nil {
		return err
	}
	ds, err := collect(ctx, r, total)
	if err != nil {
		return err
	}
	open := make(map[string]bool)
	for i, d := range ds {
		if i%3 == 1 {
			open[d.ID] = true
		} else if err := settle(ctx, r, driver.Ack, d); err != nil {
			return err
		}
	}
	if err := r.Close(ctx); err != nil {
		return err
	}
	if r, err = s.join(ctx, s.group); err != nil {
		return err
	}
	for len(open) > 0 {
		ds, err := r.Receive(ctx, total)
		if err != nil {
			return fmt.Errorf("%d messages that were never settled did not come again: %w", len(open), err)
		}
		for _, d := range ds {
			if !open[d.ID] {
				return fmt.Errorf("message %q was acked before the receiver was closed, and came again", d.ID)
			}
			if d.Attempt == 1 {
				return fmt.Errorf("message %q was handed out before and left, and has Attempt 1 again, want 2, or 0 from a broker that does not count", d.ID)
			}
			delete(open, d.ID)
		}
		if err := asPublished(ds, msgs); err != nil {
			return err
		}
		if err := settle(ctx, r, driver.Ack, ds...); err != nil {
			return err
		}
	}
	return s.silence(ctx, r)
}
