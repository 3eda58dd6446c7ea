package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

const failsafeStack = "failsafe-go, context of the executor"

// stacks are retry, breaker, limiter and timeout together, in this order from
// the outside, around a callee that succeeds at once. What a timeout costs
// depends on what the callee does with it: one that selects on Done needs a
// channel, one that reads the deadline, to send it on or to set it on a
// connection, does not.
func stacks(ctx context.Context) []measure.Group {
	return []measure.Group{
		stack(ctx, "retry, breaker, limiter and timeout together, the callee selects on Done", 1.0/2, selects),
		stack(ctx, "retry, breaker, limiter and timeout together, the callee reads the deadline", 1.0/3, reads),
	}
}

var errEnded = errors.New("bench: the context has ended")

func selects(ctx context.Context) (int, error) {
	select {
	case <-ctx.Done():
		return 0, errEnded
	default:
		return 1, nil
	}
}

func reads(ctx context.Context) (int, error) {
	if deadline, ok := ctx.Deadline(); ok && deadline.IsZero() {
		return 0, errEnded
	}
	return 1, nil
}

func stack(ctx context.Context, name string, goal float64, callee func(context.Context) (int, error)) measure.Group {
	called := func(x failsafe.Execution[int]) (int, error) { return callee(x.Context()) }
	executor := failsafe.With[int](
		retrypolicy.NewWithDefaults[int](),
		circuitbreaker.NewWithDefaults[int](),
		bulkhead.New[int](roomy),
		timeout.New[int](time.Minute),
	).WithContext(ctx)
	semaphore := concurrency.NewSemaphore(roomy, concurrency.FIFO)
	limited := func(ctx context.Context) (int, error) { return concurrency.WaitFor(ctx, time.Minute, callee) }
	admitted := func(ctx context.Context) (int, error) { return concurrency.Do(ctx, semaphore, limited) }
	var breaker concurrency.Breaker
	guarded := func(ctx context.Context) (int, error) { return concurrency.Do(ctx, &breaker, admitted) }
	op := concurrency.Idempotent(guarded)
	return callGroup(ctx, name, failsafeStack, []caller{
		{"direct call", callee},
		{"context.WithTimeout alone", func(ctx context.Context) (int, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return callee(ctx)
		}},
		{"Mainstay", func(ctx context.Context) (int, error) { return concurrency.Retry(ctx, nil, op) }},
		{failsafeStack, func(context.Context) (int, error) { return executor.GetWithExecution(called) }},
		{"failsafe-go, context of the caller", func(ctx context.Context) (int, error) {
			return executor.WithContext(ctx).GetWithExecution(called)
		}},
	}, measure.Goal{Case: "Mainstay", Against: failsafeStack, AtMost: goal})
}
