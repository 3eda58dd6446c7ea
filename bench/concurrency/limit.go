package concurrency

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"
	"github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/mainstay-go/mainstay/bench/measure"
	"github.com/mainstay-go/mainstay/concurrency"
)

func limiters(ctx context.Context) []measure.Group {
	return []measure.Group{
		semaphores(ctx, "semaphore, one goroutine", false),
		semaphores(ctx, "semaphore, all cores", true),
		rates(ctx),
		breakers(ctx, "breaker, one goroutine", false),
		breakers(ctx, "breaker, all cores", true),
		admissions(ctx),
	}
}

// roomy is a size that never makes anybody wait.
const roomy = 1 << 20

func semaphores(ctx context.Context, name string, parallel bool) measure.Group {
	mine := concurrency.NewSemaphore(roomy, concurrency.FIFO)
	xsync := semaphore.NewWeighted(roomy)
	channel := make(chan struct{}, 64)
	failsafe := bulkhead.New[int](roomy)
	return measure.Group{
		Name: name, Base: "x/sync semaphore",
		Cases: []measure.Case{
			{Name: "channel", Parallel: parallel, Run: func(n int) {
				for range n {
					channel <- struct{}{}
					<-channel
				}
			}},
			{Name: "Semaphore", Parallel: parallel, Run: func(n int) {
				for range n {
					p, err := mine.Acquire(ctx, 1)
					must(err == nil)
					p.Done(&err)
				}
			}},
			{Name: "Semaphore, with Do", Parallel: parallel, Run: func(n int) {
				for range n {
					_, err := concurrency.Do(ctx, mine, one)
					must(err == nil)
				}
			}},
			{Name: "x/sync semaphore", Parallel: parallel, Run: func(n int) {
				for range n {
					must(xsync.Acquire(ctx, 1) == nil)
					xsync.Release(1)
				}
			}},
			{Name: "failsafe-go bulkhead alone", Parallel: parallel, Run: func(n int) {
				for range n {
					must(failsafe.AcquirePermit(ctx) == nil)
					failsafe.ReleasePermit()
				}
			}},
		},
	}
}

// A rate that is never used up: what is measured is the asking.
func rates(ctx context.Context) measure.Group {
	mine := concurrency.NewRate(1e12, 1<<40)
	keyed := concurrency.NewRates[int](1e12, 1<<40, 1000)
	xtime := rate.NewLimiter(1e12, 1<<40)
	failsafe := ratelimiter.NewBursty[int](roomy*roomy, time.Second)
	return measure.Group{
		Name: "rate limit", Base: "x/time/rate Wait",
		Goals: []measure.Goal{{Case: "Rate", Against: "x/time/rate Wait", AtMost: 1, NoAllocs: true}},
		Cases: []measure.Case{
			{Name: "Rate", Run: func(n int) {
				for range n {
					_, err := mine.Acquire(ctx, 1)
					must(err == nil)
				}
			}},
			{Name: "Rates, one of a thousand keys", Run: func(n int) {
				for i := range n {
					_, err := keyed.For(i%1000).Acquire(ctx, 1)
					must(err == nil)
				}
			}},
			{Name: "x/time/rate Allow", Run: func(n int) {
				for range n {
					must(xtime.Allow())
				}
			}},
			{Name: "x/time/rate Wait", Run: func(n int) {
				for range n {
					must(xtime.Wait(ctx) == nil)
				}
			}},
			{Name: "failsafe-go rate limiter alone", Run: func(n int) {
				for range n {
					must(failsafe.AcquirePermit(ctx) == nil)
				}
			}},
		},
	}
}

const (
	failsafeBreaker = "failsafe-go breaker alone"
	window          = 10 * time.Second
)

func breakers(ctx context.Context, name string, parallel bool) measure.Group {
	var mine concurrency.Breaker
	counted := circuitbreaker.NewWithDefaults[int]()
	timed := circuitbreaker.NewBuilder[int]().WithFailureRateThreshold(0.5, 20, window).Build()
	fixed := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{})
	rolling := gobreaker.NewCircuitBreaker[int](gobreaker.Settings{Interval: window, BucketPeriod: window / 10})
	alone := func(b circuitbreaker.CircuitBreaker[int]) func(int) {
		return func(n int) {
			for range n {
				must(b.TryAcquirePermit())
				b.RecordSuccess()
			}
		}
	}
	sony := func(b *gobreaker.CircuitBreaker[int]) func(int) {
		return func(n int) {
			for range n {
				_, err := b.Execute(func() (int, error) { return 1, nil })
				must(err == nil)
			}
		}
	}
	return measure.Group{
		Name: name, Base: failsafeBreaker,
		Goals: []measure.Goal{{Case: "Breaker", Against: failsafeBreaker, AtMost: 1.7, NoAllocs: true}},
		Cases: []measure.Case{
			{Name: "Breaker", Parallel: parallel, Run: func(n int) {
				for range n {
					p, err := mine.Acquire(ctx, 1)
					must(err == nil)
					p.Done(&err)
				}
			}},
			{Name: "Breaker, with Do", Parallel: parallel, Run: func(n int) {
				for range n {
					_, err := concurrency.Do(ctx, &mine, one)
					must(err == nil)
				}
			}},
			{Name: failsafeBreaker, Parallel: parallel, Run: alone(counted)},
			{Name: "failsafe-go breaker alone, rate over time", Parallel: parallel, Run: alone(timed)},
			{Name: "gobreaker", Parallel: parallel, Run: sony(fixed)},
			{Name: "gobreaker, rolling window", Parallel: parallel, Run: sony(rolling)},
		},
	}
}

func admissions(ctx context.Context) measure.Group {
	var mine concurrency.Admission
	failsafe := adaptivelimiter.NewWithDefaults[int]()
	gradient, err := newGradient2()
	must(err == nil)
	return measure.Group{
		Name: "adaptive admission", Base: "failsafe-go adaptive limiter alone",
		Cases: []measure.Case{
			{Name: "Admission", Run: func(n int) {
				for range n {
					p, err := mine.Acquire(ctx, 1)
					must(err == nil)
					p.Done(&err)
				}
			}},
			{Name: "failsafe-go adaptive limiter alone", Run: func(n int) {
				for range n {
					p, ok := failsafe.TryAcquirePermit()
					must(ok)
					p.Record()
				}
			}},
			{Name: "go-concurrency-limits Gradient2", Run: func(n int) {
				for range n {
					l, ok := gradient.Acquire(ctx)
					must(ok)
					l.OnSuccess()
				}
			}},
		},
	}
}

func newGradient2() (core.Limiter, error) {
	g, err := limit.NewGradient2Limit("bench", 20, 200, 20, nil, 0.2, 600, limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
	if err != nil {
		return nil, errors.Join(errWrong, err)
	}
	return limiter.NewDefaultLimiter(g, 1e9, 1e9, 1e5, 100, strategy.NewSimpleStrategy(20), limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
}
