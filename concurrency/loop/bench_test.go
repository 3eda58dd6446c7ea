package loop_test

import (
	"context"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency/loop"
)

func BenchmarkPost(b *testing.B) {
	l := loop.New(1024)
	stop := start(l)
	ctx := context.Background()
	n := 0
	f := func() { n++ }
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Post(ctx, f)
	}
	_ = stop()
}

// BenchmarkLateness says how late timers fire, which is what Spin is for; ns/op
// says nothing.
func BenchmarkLateness(b *testing.B) {
	for _, spin := range []time.Duration{0, 2 * time.Millisecond} {
		b.Run("spin="+spin.String(), func(b *testing.B) {
			l := loop.New(1)
			l.Spin = spin
			stop := start(l)
			fired := make(chan struct{})
			for b.Loop() {
				l.After(3*time.Millisecond, func() { fired <- struct{}{} })
				<-fired
			}
			_ = stop()
			st := l.Stats()
			b.ReportMetric(float64(st.Late50.Microseconds()), "us-late-p50")
			b.ReportMetric(float64(st.Late99.Microseconds()), "us-late-p99")
			b.ReportMetric(float64(st.LateMax.Microseconds()), "us-late-max")
		})
	}
}
