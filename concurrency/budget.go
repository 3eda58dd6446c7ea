package concurrency

import (
	"context"
	"sync/atomic"
)

// Budget bounds repetition as a whole. Retries multiply otherwise: three
// layers that each run three times ask the lowest one 27 times, just when it
// is overloaded. Every [Retry] and [Hedge] below [WithBudget] takes its extra
// runs from the same budget, in whichever layer it stands.
//
// A first run adds Ratio to the budget, an extra run takes 1 from it, and where
// less than 1 is left there is none. First runs within an extra one add
// nothing. A budget begins with 10 extra runs, so that the first failures of a
// process may be repeated, and holds at most 100.
//
// The zero Budget is ready to use. Make one for the service, or one per
// dependency, and put it into the context of each request. It is safe for
// concurrent use and must not be copied after first use.
type Budget struct {
	// Ratio is how many extra runs there may be for each first run, in the
	// long run. 0 or less means 0.1. Set it before first use.
	Ratio float64

	spent    atomic.Int64 // micro-runs taken minus added; the beginning is 0
	admitted atomic.Uint64
	rejected atomic.Uint64
}

const (
	oneRun    = 1_000_000
	atFirst   = 10 * oneRun
	mostSaved = 100 * oneRun
)

type budgetKey struct{}

// scope is what a context knows of its budget.
type scope struct {
	budget *Budget
	extra  bool // within an extra run
}

// WithBudget returns a context below which every [Retry] and [Hedge] takes its
// extra runs from b. A budget further up is not asked any more. WithBudget
// panics if b is nil.
func WithBudget(ctx context.Context, b *Budget) context.Context {
	if b == nil {
		panic("concurrency: WithBudget: nil Budget")
	}
	return context.WithValue(ctx, budgetKey{}, scope{budget: b})
}

// firstRun books the first run of a [Retry] or [Hedge] with the budget of ctx,
// if there is one.
func firstRun(ctx context.Context) scope {
	s, _ := ctx.Value(budgetKey{}).(scope)
	if s.budget != nil && !s.extra {
		s.budget.add()
	}
	return s
}

// extraRun asks for one more run.
func (s scope) extraRun() bool { return s.budget == nil || s.budget.take() }

// mark returns the context for an extra run.
func (s scope) mark(ctx context.Context) context.Context {
	if s.budget == nil || s.extra {
		return ctx
	}
	return context.WithValue(ctx, budgetKey{}, scope{s.budget, true})
}

func (b *Budget) add() {
	ratio := b.Ratio
	if !(ratio > 0) {
		ratio = 0.1
	}
	earned := int64(min(ratio, 100) * oneRun)
	for {
		spent := b.spent.Load()
		next := max(spent-earned, atFirst-mostSaved)
		if next == spent || b.spent.CompareAndSwap(spent, next) {
			return
		}
	}
}

func (b *Budget) take() bool {
	for {
		spent := b.spent.Load()
		if spent+oneRun > atFirst {
			b.rejected.Add(1)
			return false
		}
		if b.spent.CompareAndSwap(spent, spent+oneRun) {
			b.admitted.Add(1)
			return true
		}
	}
}

// Stats returns what happened so far. Admitted counts extra runs, Rejected
// those for which nothing was left, and Limit is the whole extra runs that are
// left now; the others are 0.
func (b *Budget) Stats() Stats {
	return Stats{
		Limit:    (atFirst - b.spent.Load()) / oneRun,
		Admitted: b.admitted.Load(),
		Rejected: b.rejected.Load(),
	}
}
