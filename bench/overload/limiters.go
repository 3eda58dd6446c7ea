package main

import (
	"context"
	"errors"
	"testing"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"
	"github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"

	"github.com/mainstay-go/mainstay/concurrency"
)

// contender is a limiter with the settings of its documentation. What has to
// be told the capacity is told the truth.
type contender struct {
	name    string
	limiter func(*testing.T, cell) func() concurrency.Limiter
}

func contenders() []contender {
	return []contender{
		{"no limiter", fixed(func(cell) concurrency.Limiter { return everything{} })},
		{"semaphore FIFO, told", fixed(func(c cell) concurrency.Limiter { return concurrency.NewSemaphore(int64(c.workers), concurrency.FIFO) })},
		{"semaphore NoWait, told", fixed(func(c cell) concurrency.Limiter {
			return concurrency.NewSemaphore(int64(c.workers), concurrency.NoWait)
		})},
		{"semaphore LIFO, told", fixed(func(c cell) concurrency.Limiter { return concurrency.NewSemaphore(int64(c.workers), concurrency.LIFO) })},
		{"Gradient2", limits(func() core.Limit {
			return limit.NewDefaultGradient2Limit("", limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
		}, 20, false)},
		{"Gradient2, told", func(t *testing.T, c cell) func() concurrency.Limiter {
			return limits(func() core.Limit {
				l, err := limit.NewGradient2Limit("", c.workers, 1000, c.workers, nil, 0.2, 600, limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
				if err != nil {
					t.Error(err)
				}
				return l
			}, c.workers, false)(t, c)
		}},
		{"Vegas", limits(func() core.Limit {
			return limit.NewDefaultVegasLimit("", limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
		}, 20, false)},
		{"AIMD", limits(func() core.Limit { return limit.NewDefaultAIMDLimit("", core.EmptyMetricRegistryInstance) }, 10, true)},
		{"failsafe adaptive", fixed(func(cell) concurrency.Limiter { return &failsafe{adaptivelimiter.NewWithDefaults[int]()} })},
		{"Admission", fixed(func(cell) concurrency.Limiter { return &concurrency.Admission{} })},
	}
}

func fixed(l func(cell) concurrency.Limiter) func(*testing.T, cell) func() concurrency.Limiter {
	return func(_ *testing.T, c cell) func() concurrency.Limiter {
		return func() concurrency.Limiter { return l(c) }
	}
}

type everything struct{}

func (everything) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	return concurrency.Permit{}, ctx.Err()
}

// limits is a limiter of go-concurrency-limits. A call that was late is a sample
// like any other, which is the kinder reading: dropped ones do not count towards
// a window, so that nothing is learned while everything is late. AIMD learns
// from nothing else.
func limits(l func() core.Limit, initial int, drops bool) func(*testing.T, cell) func() concurrency.Limiter {
	return func(t *testing.T, _ cell) func() concurrency.Limiter {
		return func() concurrency.Limiter {
			d, err := limiter.NewDefaultLimiter(l(), 1e9, 1e9, 1e5, 100, strategy.NewSimpleStrategy(initial),
				limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
			if err != nil {
				t.Error(err)
			}
			return &gcl{d, drops}
		}
	}
}

type gcl struct {
	limiter core.Limiter
	drops   bool
}

func (g *gcl) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	l, ok := g.limiter.Acquire(ctx)
	if !ok {
		return concurrency.Permit{}, concurrency.ErrRejected
	}
	return concurrency.NewPermit(ctx, func(known bool, err error) {
		late := errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil
		switch {
		case g.drops && late:
			l.OnDropped()
		case known:
			l.OnSuccess()
		default:
			l.OnIgnore()
		}
	}), nil
}

type failsafe struct {
	limiter adaptivelimiter.AdaptiveLimiter[int]
}

func (f *failsafe) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	p, ok := f.limiter.TryAcquirePermit()
	if !ok {
		return concurrency.Permit{}, concurrency.ErrRejected
	}
	return concurrency.NewPermit(ctx, func(bool, error) { p.Record() }), nil
}
