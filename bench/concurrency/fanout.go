package concurrency

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alitto/pond/v2"
	"github.com/destel/rill"
	"github.com/panjf2000/ants/v2"
	"github.com/sourcegraph/conc/iter"
	"github.com/sourcegraph/conc/pool"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

func fanOuts(ctx context.Context) []measure.Group {
	l := loads()
	return []measure.Group{
		group("fan-out", l[0], fanOutContenders(), measure.Goal{Case: "Map", Against: ideal, AtMost: 1.5}),
		group("fan-out", l[1], fanOutContenders(), measure.Goal{Case: "Map", Against: ideal, AtMost: 1}),
		group("fan-out", waiting(), fanOutContenders()),
		gather(ctx),
	}
}

func fanOutContenders() []contender {
	return []contender{
		{ideal, atomicIndex},
		{"Map", mapped},
		{"MapAll", mappedAll},
		{"Each", each},
		{"conc iter.MapErr", concIter},
		{"conc ResultErrorPool", concPool},
		{"x/sync errgroup", errGroup},
		{"x/sync semaphore", xsyncSemaphore},
		{"WaitGroup, channel as semaphore", goroutines},
		{"ants", antsPool},
		{"pond", pondPool},
		{"rill ForEach", rillForEach},
	}
}

// atomicIndex cannot be beaten without handing out several tasks at once: no
// context, no errors, no panics.
func atomicIndex(l load) []int {
	out := make([]int, len(l.in))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range l.limit {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(l.in) {
					return
				}
				out[i] = l.task(l.in[i])
			}
		})
	}
	wg.Wait()
	return out
}

func mapped(l load) []int {
	out, err := concurrency.Map(context.Background(), l.limit, l.in, func(_ context.Context, i int) (int, error) {
		return l.task(i), nil
	})
	must(err == nil)
	return out
}

// The results stay in their slots: copying them out is not what is compared.
func mappedAll(l load) []int {
	out := concurrency.MapAll(context.Background(), l.limit, l.in, func(_ context.Context, i int) (int, error) {
		return l.task(i), nil
	})
	must(len(out) == len(l.in) && out[0].Value == l.task(l.in[0]))
	return l.in
}

func each(l load) []int {
	out := make([]int, len(l.in))
	err := concurrency.Each(context.Background(), l.limit, l.in, func(_ context.Context, i int) error {
		out[i] = l.task(i)
		return nil
	})
	must(err == nil)
	return out
}

func concIter(l load) []int {
	out, err := iter.Mapper[int, int]{MaxGoroutines: l.limit}.MapErr(l.in, func(i *int) (int, error) {
		return l.task(*i), nil
	})
	must(err == nil)
	return out
}

// Its results are in no order, so each task writes its own.
func concPool(l load) []int {
	out := make([]int, len(l.in))
	p := pool.NewWithResults[int]().WithMaxGoroutines(l.limit).WithErrors()
	for _, i := range l.in {
		p.Go(func() (int, error) {
			out[i] = l.task(i)
			return out[i], nil
		})
	}
	_, err := p.Wait()
	must(err == nil)
	return out
}

func errGroup(l load) []int {
	out := make([]int, len(l.in))
	g, _ := errgroup.WithContext(context.Background())
	g.SetLimit(l.limit)
	for _, i := range l.in {
		g.Go(func() error {
			out[i] = l.task(i)
			return nil
		})
	}
	must(g.Wait() == nil)
	return out
}

func xsyncSemaphore(l load) []int {
	out := make([]int, len(l.in))
	ctx := context.Background()
	s := semaphore.NewWeighted(int64(l.limit))
	for _, i := range l.in {
		must(s.Acquire(ctx, 1) == nil)
		go func() {
			defer s.Release(1)
			out[i] = l.task(i)
		}()
	}
	must(s.Acquire(ctx, int64(l.limit)) == nil)
	return out
}

func goroutines(l load) []int {
	out := make([]int, len(l.in))
	sem := make(chan struct{}, l.limit)
	var wg sync.WaitGroup
	for _, i := range l.in {
		sem <- struct{}{}
		wg.Go(func() {
			out[i] = l.task(i)
			<-sem
		})
	}
	wg.Wait()
	return out
}

func antsPool(l load) []int {
	out := make([]int, len(l.in))
	p, err := ants.NewPool(l.limit)
	must(err == nil)
	var wg sync.WaitGroup
	wg.Add(len(l.in))
	for _, i := range l.in {
		err := p.Submit(func() {
			defer wg.Done()
			out[i] = l.task(i)
		})
		must(err == nil)
	}
	wg.Wait()
	must(p.ReleaseTimeout(time.Second) == nil)
	return out
}

func pondPool(l load) []int {
	p := pond.NewResultPool[int](l.limit)
	g := p.NewGroup()
	for _, i := range l.in {
		g.SubmitErr(func() (int, error) { return l.task(i), nil })
	}
	out, err := g.Wait()
	must(err == nil)
	p.StopAndWait()
	return out
}

func rillForEach(l load) []int {
	out := make([]int, len(l.in))
	err := rill.ForEach(rill.FromSlice(l.in, nil), l.limit, func(i int) error {
		out[i] = l.task(i)
		return nil
	})
	must(err == nil)
	return out
}

// gather is three calls at once, the everyday form.
func gather(ctx context.Context) measure.Group {
	return measure.Group{
		Name: "three empty calls at once", Base: "WaitGroup",
		Cases: []measure.Case{
			{Name: "WaitGroup", Run: func(n int) {
				for range n {
					var out [3]int
					var wg sync.WaitGroup
					for i := range out {
						wg.Go(func() { out[i], _ = one(ctx) })
					}
					wg.Wait()
					must(out[2] == 1)
				}
			}},
			{Name: "Gather", Run: func(n int) {
				for range n {
					out, err := concurrency.Gather(ctx, 3, one, one, one)
					must(err == nil && out[2] == 1)
				}
			}},
			{Name: "GatherAll", Run: func(n int) {
				for range n {
					must(concurrency.GatherAll(ctx, 3, one, one, one)[2].Value == 1)
				}
			}},
			{Name: "x/sync errgroup", Run: func(n int) {
				for range n {
					var out [3]int
					g, ctx := errgroup.WithContext(ctx)
					g.SetLimit(3)
					for i := range out {
						g.Go(func() (err error) { out[i], err = one(ctx); return err })
					}
					must(g.Wait() == nil && out[2] == 1)
				}
			}},
			{Name: "conc ResultContextPool", Run: func(n int) {
				for range n {
					p := pool.NewWithResults[int]().WithMaxGoroutines(3).WithContext(ctx).WithCancelOnError()
					for range 3 {
						p.Go(one)
					}
					out, err := p.Wait()
					must(err == nil && out[2] == 1)
				}
			}},
		},
	}
}
