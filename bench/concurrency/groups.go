// Package concurrency holds the contenders of package concurrency: what people
// use today, and the least that the work can cost.
//
// Each contender is written as its documentation shows it, with its defaults,
// and does the whole of the work; a test of this package checks that. Pools are
// made inside the operation, as a request would make them.
package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/mainstay-go/mainstay/bench/measure"
)

// Groups returns all comparisons of the area. Calls are made with ctx, which
// should be one that can be cancelled, as that of a request.
func Groups(ctx context.Context) []measure.Group {
	var all []measure.Group
	all = append(all, fanOuts(ctx)...)
	all = append(all, streams()...)
	all = append(all, limiters(ctx)...)
	all = append(all, calls(ctx)...)
	return append(all, stacks(ctx)...)
}

const ideal = "ideal: atomic index"

// load is tasks to be done at most limit at a time.
type load struct {
	name  string
	limit int
	in    []int
	task  func(int) int
}

func loads() []load {
	return []load{
		{"10 000 empty tasks, 64 at a time", 64, upTo(10_000), func(i int) int { return i }},
		{"100 000 tasks that sum 100 numbers, 2 at a time", 2, upTo(100_000), sum100},
	}
}

func waiting() load {
	return load{"1000 tasks that wait 1 ms, 100 at a time", 100, upTo(1000), func(i int) int {
		time.Sleep(time.Millisecond)
		return i
	}}
}

func upTo(n int) []int {
	in := make([]int, n)
	for i := range in {
		in[i] = i
	}
	return in
}

func sum100(i int) int {
	s := 0
	for k := range 100 {
		s += i ^ k
	}
	return s
}

// contender does a load and returns the results in order.
type contender struct {
	name string
	do   func(load) []int
}

func group(name string, l load, contenders []contender, goals ...measure.Goal) measure.Group {
	g := measure.Group{Name: name + ": " + l.name, Units: len(l.in), Base: ideal, Goals: goals}
	for _, c := range contenders {
		g.Cases = append(g.Cases, measure.Case{Name: c.name, Run: func(n int) {
			for range n {
				must(len(c.do(l)) == len(l.in))
			}
		}})
	}
	return g
}

var errWrong = errors.New("bench: a contender did not do its work")

// must stops the program: figures of work that was not done are worth nothing.
func must(ok bool) {
	if !ok {
		panic(errWrong)
	}
}

// one is what the policies are put around.
func one(context.Context) (int, error) { return 1, nil }
