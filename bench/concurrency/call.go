package concurrency

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"golang.org/x/sync/singleflight"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

// calls are what one policy costs around one call that succeeds at once.
func calls(ctx context.Context) []measure.Group {
	return []measure.Group{retries(ctx), timeouts(ctx), hedges(ctx), needed(ctx), flights(ctx)}
}

// caller makes one call of one and returns its result.
type caller struct {
	name string
	do   func(context.Context) (int, error)
}

func callGroup(ctx context.Context, name, base string, callers []caller, goals ...measure.Goal) measure.Group {
	g := measure.Group{Name: name, Base: base, Goals: goals}
	for _, c := range callers {
		g.Cases = append(g.Cases, measure.Case{Name: c.name, Run: func(n int) {
			for range n {
				v, err := c.do(ctx)
				must(err == nil && v == 1)
			}
		}})
	}
	return g
}

// withFailsafe sets the context once, on the executor: the cheapest way there
// is. With the context of each caller, as a service needs it, there is one more
// copy per call; see the stacks.
func withFailsafe(ctx context.Context, policies ...failsafe.Policy[int]) func(context.Context) (int, error) {
	e := failsafe.With(policies...).WithContext(ctx)
	called := func(x failsafe.Execution[int]) (int, error) { return one(x.Context()) }
	return func(context.Context) (int, error) { return e.GetWithExecution(called) }
}

func retries(ctx context.Context) measure.Group {
	op := concurrency.Idempotent(one)
	return callGroup(ctx, "retry, not needed", "failsafe-go retry", []caller{
		{"direct call", one},
		{"Retry", func(ctx context.Context) (int, error) { return concurrency.Retry(ctx, nil, op) }},
		{"backoff Retry", func(ctx context.Context) (int, error) {
			return backoff.Retry(ctx, func() (int, error) { return one(ctx) })
		}},
		{"failsafe-go without policy", withFailsafe(ctx)},
		{"failsafe-go retry", withFailsafe(ctx, retrypolicy.NewWithDefaults[int]())},
	})
}

func timeouts(ctx context.Context) measure.Group {
	var orphans concurrency.Orphans
	return callGroup(ctx, "timeout, not reached", "context.WithTimeout", []caller{
		{"context.WithTimeout", func(ctx context.Context) (int, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return one(ctx)
		}},
		{"WaitFor", func(ctx context.Context) (int, error) { return concurrency.WaitFor(ctx, time.Minute, one) }},
		{"failsafe-go timeout", withFailsafe(ctx, timeout.New[int](time.Minute))},
		{"Abandon", func(ctx context.Context) (int, error) { return concurrency.Abandon(ctx, &orphans, time.Minute, one) }},
		{"goroutine and channel, may leak", leaky},
	})
}

// leaky is what Abandon replaces: if one is late, nobody knows.
func leaky(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	type result struct {
		v   int
		err error
	}
	out := make(chan result, 1)
	go func() {
		v, err := one(ctx)
		out <- result{v, err}
	}()
	select {
	case r := <-out:
		return r.v, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

const failsafeHedge = "failsafe-go hedge"

func hedges(ctx context.Context) measure.Group {
	var hedger concurrency.Hedger
	op := concurrency.Idempotent(one)
	return callGroup(ctx, "hedge, not needed", failsafeHedge, []caller{
		{"direct call", one},
		{"Hedge", func(ctx context.Context) (int, error) { return concurrency.Hedge(ctx, &hedger, op) }},
		{failsafeHedge, withFailsafe(ctx, hedgepolicy.NewWithDelay[int](time.Minute))},
		{"failsafe-go hedge, live quantile", withFailsafe(ctx, hedgepolicy.NewWithDelayQuantile[int](0.95, 100, 20))},
	}, measure.Goal{Case: "Hedge", Against: failsafeHedge, AtMost: 0.25})
}

// needed is what a hedge is for. The time is the mean, most of which is the tail.
func needed(ctx context.Context) measure.Group {
	var hedger concurrency.Hedger
	op := concurrency.Idempotent(oftenStuck())
	plain := oftenStuck()
	hedged := func(policy failsafe.Policy[int]) func(context.Context) (int, error) {
		e, callee := failsafe.With(policy).WithContext(ctx), oftenStuck()
		called := func(x failsafe.Execution[int]) (int, error) { return callee(x.Context()) }
		return func(context.Context) (int, error) { return e.GetWithExecution(called) }
	}
	g := callGroup(ctx, "hedge, one call of fifty is stuck for 20 ms", "no hedge", []caller{
		{"no hedge", plain},
		{"Hedge", func(ctx context.Context) (int, error) { return concurrency.Hedge(ctx, &hedger, op) }},
		{"failsafe-go hedge after 1 ms", hedged(hedgepolicy.NewWithDelay[int](time.Millisecond))},
		{"failsafe-go hedge, live quantile", hedged(hedgepolicy.NewWithDelayQuantile[int](0.95, 100, 20))},
	})
	g.Units = 50 // or a measurement might have none that is stuck
	for i, c := range g.Cases {
		g.Cases[i].Run = func(n int) { c.Run(n * g.Units) }
	}
	return g
}

// oftenStuck answers at once, except every fiftieth time, when it takes 20 ms
// unless it is told to stop.
func oftenStuck() func(context.Context) (int, error) {
	var asked atomic.Int64
	return func(ctx context.Context) (int, error) {
		if asked.Add(1)%50 != 0 {
			return 1, nil
		}
		t := time.NewTimer(20 * time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			return 1, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func flights(ctx context.Context) measure.Group {
	var group singleflight.Group
	var flight concurrency.Flight[string, int]
	return callGroup(ctx, "one flight per key, alone", "singleflight Do", []caller{
		{"singleflight Do", func(ctx context.Context) (int, error) {
			v, err, _ := group.Do("key", func() (any, error) { return one(ctx) })
			return v.(int), err
		}},
		{"Flight, first caller cannot leave", func(context.Context) (int, error) {
			v, _, err := flight.Do(context.Background(), "key", one)
			return v, err
		}},
		{"Flight", func(ctx context.Context) (int, error) {
			v, _, err := flight.Do(ctx, "key", one)
			return v, err
		}},
		{"singleflight DoChan, caller can leave", func(ctx context.Context) (int, error) {
			select {
			case r := <-group.DoChan("key", func() (any, error) { return one(ctx) }):
				return r.Val.(int), r.Err
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}},
	})
}
