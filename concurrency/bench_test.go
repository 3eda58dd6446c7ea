package concurrency_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// The fan-out benchmarks report ns/task. "Ideal" is what cannot be beaten
// without chunks: limit goroutines that pull an atomic index and write into a
// slice, with no context, no errors and no recovered panics.

func ideal(limit, n int, f func(i int) int) []int {
	out := make([]int, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range limit {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				out[i] = f(i)
			}
		})
	}
	wg.Wait()
	return out
}

// goroutines is one goroutine per task behind a channel semaphore, what most
// programs do.
func goroutines(limit, n int, f func(i int) int) []int {
	out := make([]int, n)
	sem := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		sem <- struct{}{}
		wg.Go(func() {
			out[i] = f(i)
			<-sem
		})
	}
	wg.Wait()
	return out
}

func mapped(limit, n int, f func(i int) int) []int {
	in := upTo(n)
	out, _ := concurrency.Map(context.Background(), limit, in, func(_ context.Context, i int) (int, error) { return f(i), nil })
	return out
}

func mappedAll(limit, n int, f func(i int) int) []int {
	in := upTo(n)
	_ = concurrency.MapAll(context.Background(), limit, in, func(_ context.Context, i int) (int, error) { return f(i), nil })
	return in
}

func sum100(i int) int {
	s := 0
	for k := range 100 {
		s += i ^ k
	}
	return s
}

func BenchmarkFanOut(b *testing.B) {
	for _, load := range []struct {
		name     string
		limit, n int
		f        func(int) int
	}{
		{"Empty/limit=64", 64, 10_000, func(i int) int { return i }},
		{"Sum100/limit=2", 2, 100_000, sum100},
		{"1ms/limit=100", 100, 1000, func(i int) int { time.Sleep(time.Millisecond); return i }},
	} {
		for _, c := range []struct {
			name string
			run  func(limit, n int, f func(int) int) []int
		}{{"Ideal", ideal}, {"Map", mapped}, {"MapAll", mappedAll}, {"Goroutines", goroutines}} {
			b.Run(load.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.run(load.limit, load.n, load.f)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(load.n), "ns/task")
			})
		}
	}
}

func BenchmarkGather3(b *testing.B) {
	f := func(context.Context) (int, error) { return 1, nil }
	b.ReportAllocs()
	for b.Loop() {
		_, _ = concurrency.Gather(b.Context(), 3, f, f, f)
	}
}

func BenchmarkSemaphore(b *testing.B) {
	s := concurrency.NewSemaphore(1<<20, concurrency.FIFO)
	ctx := context.Background()
	b.Run("AcquireDone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, err := s.Acquire(ctx, 1)
			p.Done(&err)
		}
	})
	b.Run("AcquireDone/parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, err := s.Acquire(ctx, 1)
				p.Done(&err)
			}
		})
	})
	b.Run("Do", func(b *testing.B) {
		f := func(context.Context) (int, error) { return 1, nil }
		b.ReportAllocs()
		for b.Loop() {
			_, _ = concurrency.Do(ctx, s, f)
		}
	})
	b.Run("Reject", func(b *testing.B) {
		full := concurrency.NewSemaphore(1, concurrency.NoWait)
		p, err := full.Acquire(ctx, 1)
		defer p.Done(&err)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := full.Acquire(ctx, 1); !errors.Is(err, concurrency.ErrRejected) {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkTimeouts(b *testing.B) {
	f := func(context.Context) (int, error) { return 1, nil }
	ctx := context.Background()
	b.Run("WaitFor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = concurrency.WaitFor(ctx, time.Minute, f)
		}
	})
	b.Run("Abandon", func(b *testing.B) {
		var o concurrency.Orphans
		b.ReportAllocs()
		for b.Loop() {
			_, _ = concurrency.Abandon(ctx, &o, time.Minute, f)
		}
	})
	b.Run("Retry", func(b *testing.B) {
		op := concurrency.Idempotent(f)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = concurrency.Retry(ctx, nil, op)
		}
	})
}

// BenchmarkStream reports ns/task beside the fan-out that does the same work.
func BenchmarkStream(b *testing.B) {
	for _, load := range []struct {
		name     string
		limit, n int
		f        func(int) int
	}{
		{"Empty/limit=64", 64, 10_000, func(i int) int { return i }},
		{"Sum100/limit=2", 2, 100_000, sum100},
		{"1ms/limit=100", 100, 1000, func(i int) int { time.Sleep(time.Millisecond); return i }},
	} {
		for _, c := range []struct {
			name string
			run  func(limit, n int, f func(int) int) []int
		}{{"Map", mapped}, {"Stream", streamed(concurrency.Stream)}, {"StreamUnordered", streamed(concurrency.StreamUnordered)}} {
			b.Run(load.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.run(load.limit, load.n, load.f)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(load.n), "ns/task")
			})
		}
	}
}

type streamFunc func(context.Context, int, iter.Seq2[int, error], func(context.Context, int) (int, error)) iter.Seq2[int, error]

func streamed(stream streamFunc) func(limit, n int, f func(int) int) []int {
	return func(limit, n int, f func(int) int) []int {
		out := make([]int, 0, n)
		call := func(_ context.Context, i int) (int, error) { return f(i), nil }
		for v := range stream(context.Background(), limit, concurrency.From(slices.Values(upTo(n))), call) {
			out = append(out, v)
		}
		return out
	}
}
