package concurrency

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/destel/rill"
	"github.com/sourcegraph/conc/stream"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

func streams() []measure.Group {
	var groups []measure.Group
	for _, l := range loads() {
		groups = append(groups, group("stream in order", l, streamContenders(),
			measure.Goal{Case: "Stream", Against: "conc stream", AtMost: 0.4},
			measure.Goal{Case: "Stream", Against: "rill OrderedMap", AtMost: 0.4}))
	}
	groups = append(groups, group("stream in order", waiting(), streamContenders()))
	for _, l := range append(loads(), waiting()) {
		groups = append(groups, group("stream as it comes", l, unorderedContenders()))
	}
	all := load{name: "100 000 elements, 100 at a time", in: upTo(100_000)}
	batches := group("batches", all, batchContenders())
	batches.Base = "a loop"
	return append(groups, batches)
}

// streamContenders deliver the results in order, one by one, to one consumer.
func streamContenders() []contender {
	return []contender{
		{ideal, atomicIndex},
		{"Stream", streamed},
		{"conc stream", concStream},
		{"rill OrderedMap", rillOrderedMap},
	}
}

// unorderedContenders deliver them as they become known.
func unorderedContenders() []contender {
	return []contender{
		{ideal, atomicIndex},
		{"StreamUnordered", streamedUnordered},
		{"rill Map", rillMap},
	}
}

// batchContenders collect, with a wait that is never reached.
func batchContenders() []contender {
	return []contender{
		{"a loop", chunks},
		{"Batch", batched},
		{"rill Batch", rillBatch},
	}
}

func streamed(l load) []int {
	return collect(l, concurrency.Stream(context.Background(), l.limit, concurrency.From(slices.Values(l.in)), task(l)))
}

func streamedUnordered(l load) []int {
	return collect(l, concurrency.StreamUnordered(context.Background(), l.limit, concurrency.From(slices.Values(l.in)), task(l)))
}

func task(l load) func(context.Context, int) (int, error) {
	return func(_ context.Context, i int) (int, error) { return l.task(i), nil }
}

func collect(l load, results iter.Seq2[int, error]) []int {
	out := make([]int, 0, len(l.in))
	for v, err := range results {
		must(err == nil)
		out = append(out, v)
	}
	return out
}

func rillMap(l load) []int {
	return collect(l, rill.ToSeq2(rill.Map(rill.FromSlice(l.in, nil), l.limit, func(i int) (int, error) { return l.task(i), nil })))
}

const perBatch = 100

// chunks are batches without goroutines and without time.
func chunks(l load) []int {
	out := make([]int, 0, len(l.in))
	var b []int
	for v := range slices.Values(l.in) {
		if b = append(b, v); len(b) == perBatch {
			out = append(out, b...)
			b = make([]int, 0, perBatch)
		}
	}
	return append(out, b...)
}

func batched(l load) []int {
	out := make([]int, 0, len(l.in))
	for b, err := range concurrency.Batch(context.Background(), concurrency.From(slices.Values(l.in)), perBatch, time.Hour) {
		must(err == nil)
		out = append(out, b...)
	}
	return out
}

func rillBatch(l load) []int {
	out := make([]int, 0, len(l.in))
	for b, err := range rill.ToSeq2(rill.Batch(rill.FromSlice(l.in, nil), perBatch, time.Hour)) {
		must(err == nil)
		out = append(out, b...)
	}
	return out
}

func concStream(l load) []int {
	out := make([]int, 0, len(l.in))
	s := stream.New().WithMaxGoroutines(l.limit)
	for _, i := range l.in {
		s.Go(func() stream.Callback {
			v := l.task(i)
			return func() { out = append(out, v) }
		})
	}
	s.Wait()
	return out
}

func rillOrderedMap(l load) []int {
	return collect(l, rill.ToSeq2(rill.OrderedMap(rill.FromSlice(l.in, nil), l.limit, func(i int) (int, error) { return l.task(i), nil })))
}
