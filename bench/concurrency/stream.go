package concurrency

import (
	"context"
	"slices"

	"github.com/destel/rill"
	"github.com/sourcegraph/conc/stream"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

func streams() []measure.Group {
	var groups []measure.Group
	for _, l := range loads() {
		groups = append(groups, group("stream in order", l, streamContenders()))
	}
	return append(groups, group("stream in order", waiting(), streamContenders()))
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

func streamed(l load) []int {
	out := make([]int, 0, len(l.in))
	src := concurrency.From(slices.Values(l.in))
	f := func(_ context.Context, i int) (int, error) { return l.task(i), nil }
	for v, err := range concurrency.Stream(context.Background(), l.limit, src, f) {
		must(err == nil)
		out = append(out, v)
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
	out := make([]int, 0, len(l.in))
	results := rill.OrderedMap(rill.FromSlice(l.in, nil), l.limit, func(i int) (int, error) { return l.task(i), nil })
	for v, err := range rill.ToSeq2(results) {
		must(err == nil)
		out = append(out, v)
	}
	return out
}
