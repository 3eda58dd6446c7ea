package messagingtest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/mainstay-go/mainstay/messaging"
)

// BenchmarkBroker measures what the front and a driver do together, with
// messages of 100 bytes over 100 keys: publishing one at a time, publishing
// 100 at a time, and publishing and handling. One operation is one message.
func BenchmarkBroker(b *testing.B, open func(*testing.B) Harness) {
	for _, c := range []struct {
		name   string
		batch  int
		handle bool
	}{{"publish-1", 1, false}, {"publish-100", 100, false}, {"publish-and-handle", 100, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := newScene(open(b))
			front := messaging.NewBroker(s.Driver, &messaging.Options{Topology: messaging.Declare})
			all, stop := s.consume(b, front, b.N) // also where it is not measured: a bounded broker needs room
			body := make([]byte, 100)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += c.batch {
				msgs := make([]*messaging.Message, 0, c.batch)
				for i := n; i < min(n+c.batch, b.N); i++ {
					msgs = append(msgs, &messaging.Message{Topic: s.topic, Key: fmt.Sprintf("key-%d", i%100), Body: body})
				}
				if err := front.Publisher().Publish(b.Context(), msgs...); err != nil {
					b.Fatal(err)
				}
			}
			if c.handle {
				<-all
			}
			b.StopTimer()
			stop()
			if err := s.end(); err != nil {
				b.Error(err)
			}
		})
	}
}

// consume handles everything; all is closed after n messages.
func (s *scene) consume(b *testing.B, front *messaging.Broker, n int) (all <-chan struct{}, stop func()) {
	b.Helper()
	var handled atomic.Int64
	done, reached := make(chan error, 1), make(chan struct{})
	c, err := front.Consumer(s.group, &messaging.ConsumerOptions{Prefetch: 512}, messaging.On(s.topic,
		func(context.Context, *messaging.Delivery) error {
			if handled.Add(1) == int64(n) {
				close(reached)
			}
			return nil
		}))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	if err := c.Declare(ctx); err != nil {
		b.Fatal(err)
	}
	go func() { done <- c.Run(ctx) }()
	return reached, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
