package concurrency_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// panics is a mistake that is told by a panic, which names the function.
func panics(f func(context.Context)) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		v := panicOf(func() { f(t.Context()) })
		if text, ok := v.(string); !ok || !strings.HasPrefix(text, "concurrency: "+name+": ") {
			t.Errorf("%s panics with %v", name, v)
		}
	}
}

// fails is a mistake that is told by an error, which no repetition would change.
func fails(f func(context.Context) error) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		err := f(t.Context())
		if permanent, _ := concurrency.Advice(err); !permanent {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refuses is an error that no repetition would change for each of these units.
func refuses(fresh func() concurrency.Limiter, units ...int64) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		l := fresh()
		for _, n := range units {
			_, err := l.Acquire(t.Context(), n)
			if permanent, _ := concurrency.Advice(err); !permanent || !errors.Is(err, concurrency.ErrRejected) {
				t.Errorf("%s of %d: %v", name, n, err)
			}
		}
		if st := l.(interface{ Stats() concurrency.Stats }).Stats(); st != (concurrency.Stats{Limit: st.Limit, Rejected: uint64(len(units))}) {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// harmless has nothing that could be wrong, or gives a wrong argument a meaning.
func harmless(f func(context.Context) bool) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		if !f(t.Context()) {
			t.Errorf("%s: not as documented", name)
		}
	}
}

func fine(context.Context) (int, error) { return 1, nil }

// mistakes are the wrong arguments of everything exported that has arguments.
// What is new belongs here, too: TestEveryMistakeIsTold says so.
var mistakes = map[string][]func(*testing.T, string){
	"Map": {
		panics(func(ctx context.Context) { _, _ = concurrency.Map(ctx, 0, upTo(3), square) }),
		panics(func(ctx context.Context) { _, _ = concurrency.Map(ctx, -1, []int(nil), square) }),
		panics(func(ctx context.Context) { _, _ = concurrency.Map[int, int](ctx, 1, nil, nil) }),
	},
	"MapAll": {
		panics(func(ctx context.Context) { concurrency.MapAll(ctx, 0, upTo(3), square) }),
		panics(func(ctx context.Context) { concurrency.MapAll[int, int](ctx, 1, nil, nil) }),
	},
	"From": {
		panics(func(context.Context) { concurrency.From[int](nil) }),
	},
	"Stream": {
		panics(func(ctx context.Context) { concurrency.Stream(ctx, 0, numbers(1), square) }),
		panics(func(ctx context.Context) { concurrency.Stream(ctx, 1, nil, square) }),
		panics(func(ctx context.Context) { concurrency.Stream[int, int](ctx, 1, numbers(1), nil) }),
	},
	"StreamUnordered": {
		panics(func(ctx context.Context) { concurrency.StreamUnordered(ctx, -1, numbers(1), square) }),
		panics(func(ctx context.Context) { concurrency.StreamUnordered(ctx, 1, nil, square) }),
		panics(func(ctx context.Context) { concurrency.StreamUnordered[int, int](ctx, 1, numbers(1), nil) }),
	},
	"Batch": {
		panics(func(ctx context.Context) { concurrency.Batch(ctx, numbers(1), 0, time.Second) }),
		panics(func(ctx context.Context) { concurrency.Batch(ctx, numbers(1), -1, time.Second) }),
		panics(func(ctx context.Context) { concurrency.Batch[int](ctx, nil, 1, time.Second) }),
		harmless(func(ctx context.Context) bool { // a wait of no length: none waits
			for b, err := range concurrency.Batch(ctx, numbers(1), 2, -time.Second) {
				return err == nil && len(b) == 1
			}
			return false
		}),
	},
	"Each": {
		panics(func(ctx context.Context) {
			_ = concurrency.Each(ctx, 0, []int{}, func(context.Context, int) error { return nil })
		}),
		panics(func(ctx context.Context) { _ = concurrency.Each[int](ctx, 1, nil, nil) }),
	},
	"Gather": {
		panics(func(ctx context.Context) { _, _ = concurrency.Gather(ctx, 0, fine) }),
		panics(func(ctx context.Context) { _, _ = concurrency.Gather(ctx, 2, fine, nil) }),
	},
	"GatherAll": {
		panics(func(ctx context.Context) { concurrency.GatherAll(ctx, 0, fine) }),
		panics(func(ctx context.Context) { concurrency.GatherAll(ctx, 2, fine, nil) }),
	},
	"First": {
		panics(func(ctx context.Context) { _, _ = concurrency.First(ctx, 0, fine) }),
		panics(func(ctx context.Context) { _, _ = concurrency.First(ctx, 2, fine, nil) }),
		panics(func(ctx context.Context) { _, _ = concurrency.First[int](ctx, 1) }),
	},
	"Join2": {
		panics(func(ctx context.Context) { _, _, _ = concurrency.Join2[int, int](ctx, nil, fine) }),
		panics(func(ctx context.Context) { _, _, _ = concurrency.Join2[int, int](ctx, fine, nil) }),
	},
	"Join3": {
		panics(func(ctx context.Context) { _, _, _, _ = concurrency.Join3[int, int, int](ctx, nil, fine, fine) }),
		panics(func(ctx context.Context) { _, _, _, _ = concurrency.Join3[int, int, int](ctx, fine, nil, fine) }),
		panics(func(ctx context.Context) { _, _, _, _ = concurrency.Join3[int, int, int](ctx, fine, fine, nil) }),
	},
	"Run": {
		panics(func(ctx context.Context) {
			_ = concurrency.Run(ctx, func(context.Context) error { panic("runs") }, nil)
		}),
	},
	"Do": {
		panics(func(ctx context.Context) { _, _ = concurrency.Do(ctx, nil, fine) }),
		panics(func(ctx context.Context) { _, _ = concurrency.Do[int](ctx, new(concurrency.Breaker), nil) }),
	},
	"NewSemaphore": {
		panics(func(context.Context) { concurrency.NewSemaphore(0, concurrency.FIFO) }),
		panics(func(context.Context) { concurrency.NewSemaphore(-1, concurrency.FIFO) }),
		panics(func(context.Context) { concurrency.NewSemaphore(1, -1) }),
		panics(func(context.Context) { concurrency.NewSemaphore(1, concurrency.NoWait+1) }),
	},
	"Semaphore.Acquire": {
		refuses(func() concurrency.Limiter { return concurrency.NewSemaphore(4, concurrency.FIFO) }, 0, -1, 5, math.MaxInt64, math.MinInt64),
		refuses(func() concurrency.Limiter { return concurrency.NewSemaphore(4, concurrency.LIFO) }, 0, -1, 5, math.MaxInt64, math.MinInt64),
		refuses(func() concurrency.Limiter { return concurrency.NewSemaphore(4, concurrency.NoWait) }, 0, -1, 5, math.MaxInt64, math.MinInt64),
	},
	"NewRate": {
		panics(func(context.Context) { concurrency.NewRate(0, 1) }),
		panics(func(context.Context) { concurrency.NewRate(-1, 1) }),
		panics(func(context.Context) { concurrency.NewRate(math.NaN(), 1) }),
		panics(func(context.Context) { concurrency.NewRate(math.Inf(1), 1) }),
		panics(func(context.Context) { concurrency.NewRate(1, 0) }),
		panics(func(context.Context) { concurrency.NewRate(1, -1) }),
	},
	"Rate.Acquire": {refuses(func() concurrency.Limiter { return concurrency.NewRate(1, 4) }, 0, -1, 5, math.MaxInt64, math.MinInt64)},
	"NewRates": {
		panics(func(context.Context) { concurrency.NewRates[int](0, 1, 1) }),
		panics(func(context.Context) { concurrency.NewRates[int](1, 0, 1) }),
		panics(func(context.Context) { concurrency.NewRates[int](1, 1, 0) }),
		panics(func(context.Context) { concurrency.NewRates[int](1, 1, -1) }),
	},
	"Rates.For": {refuses(func() concurrency.Limiter {
		rates := concurrency.NewRates[int](1, 4, 1)
		return withStats{rates.For(1), rates.Stats}
	}, 0, -1, 5, math.MaxInt64, math.MinInt64)},
	"Admission.Acquire": {
		refuses(func() concurrency.Limiter { return new(concurrency.Admission) }, 0, -1, math.MaxInt64, math.MinInt64),
		refuses(func() concurrency.Limiter { return &concurrency.Admission{MaxWaiting: 10} }, 0, -1, math.MaxInt64, math.MinInt64),
		refuses(func() concurrency.Limiter { return &concurrency.Admission{MaxWaiting: -1, NoDeadline: -1} }, 0, -1, math.MaxInt64, math.MinInt64),
	},
	"WithPriority": {harmless(func(ctx context.Context) bool {
		var a concurrency.Admission
		for _, priority := range []int{math.MinInt, 0, math.MaxInt} { // each the highest so far
			p, err := a.Acquire(concurrency.WithPriority(ctx, priority), 10)
			if p.Done(&err); err != nil {
				return false
			}
		}
		return true
	})},
	"Breaker.Acquire": {refuses(func() concurrency.Limiter { return new(concurrency.Breaker) }, 0, -1, math.MinInt64)},
	"NewPermit": {harmless(func(ctx context.Context) bool {
		concurrency.NewPermit(ctx, nil).Done(nil)
		return true
	})},
	"Permit.Done": {harmless(func(context.Context) bool {
		concurrency.Permit{}.Done(nil)
		return true
	})},
	"Permit.Context": {harmless(func(ctx context.Context) bool { return concurrency.Permit{}.Context(ctx) == ctx })},
	"WaitFor": {
		panics(func(ctx context.Context) { _, _ = concurrency.WaitFor[int](ctx, 1, nil) }),
		inVain(func(ctx context.Context, d time.Duration) error {
			_, err := concurrency.WaitFor(ctx, d, func(context.Context) (int, error) { panic("runs") })
			return err
		}),
	},
	"Abandon": {
		panics(func(ctx context.Context) { _, _ = concurrency.Abandon(ctx, nil, time.Second, fine) }),
		panics(func(ctx context.Context) { _, _ = concurrency.Abandon[int](ctx, new(concurrency.Orphans), 1, nil) }),
		inVain(func(ctx context.Context, d time.Duration) error {
			_, err := concurrency.Abandon(ctx, new(concurrency.Orphans), d, func(context.Context) (int, error) { panic("runs") })
			return err
		}),
	},
	"Orphans.Wait": {harmless(func(ctx context.Context) bool { return new(concurrency.Orphans).Wait(ctx) == nil })},
	"Idempotent":   {panics(func(context.Context) { concurrency.Idempotent[int](nil) })},
	"Keyed": {
		panics(func(context.Context) { concurrency.Keyed[int]("key", nil) }),
		panics(func(context.Context) { concurrency.Keyed[int]("", nil) }),
		fails(func(ctx context.Context) error {
			_, err := concurrency.Retry(ctx, nil, concurrency.Keyed("", func(context.Context, string) (int, error) { panic("runs") }))
			return err
		}),
	},
	"Retry": {fails(func(ctx context.Context) error {
		_, err := concurrency.Retry(ctx, nil, concurrency.Op[int]{})
		return err
	})},
	"Hedge": {
		panics(func(ctx context.Context) { _, _ = concurrency.Hedge(ctx, nil, concurrency.Idempotent(fine)) }),
		fails(func(ctx context.Context) error {
			_, err := concurrency.Hedge(ctx, new(concurrency.Hedger), concurrency.Op[int]{})
			return err
		}),
	},
	"WithBudget": {panics(func(ctx context.Context) { concurrency.WithBudget(ctx, nil) })},
	"Backoff.Delay": {harmless(func(context.Context) bool {
		b := concurrency.Backoff{Min: 1, Max: -1}
		return b.Delay(math.MinInt) <= 1 && b.Delay(math.MaxInt) <= 5*time.Second
	})},
	"Permanent":  {harmless(func(context.Context) bool { return concurrency.Permanent(nil) == nil })},
	"RetryAfter": {harmless(func(context.Context) bool { return concurrency.RetryAfter(nil, time.Second) == nil })},
	"Advice": {harmless(func(context.Context) bool {
		permanent, after := concurrency.Advice(concurrency.RetryAfter(errBoom, -1))
		nothing, never := concurrency.Advice(nil)
		return !permanent && after == 0 && !nothing && never == 0
	})},
	"Flight.Do": {panics(func(ctx context.Context) { _, _, _ = new(concurrency.Flight[string, int]).Do(ctx, "", nil) })},
	"Flight.Forget": {harmless(func(context.Context) bool {
		new(concurrency.Flight[string, int]).Forget("never seen")
		return true
	})},
}

type withStats struct {
	concurrency.Limiter

	stats func() concurrency.Stats
}

func (w withStats) Stats() concurrency.Stats { return w.stats() }

// inVain is a time that is over before it has begun.
func inVain(f func(context.Context, time.Duration) error) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		for _, d := range []time.Duration{0, -1, math.MinInt64} {
			if err := f(t.Context(), d); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s with %v: %v", name, d, err)
			}
		}
	}
}

// Wrong arguments panic or fail at once, as documented. In a bubble what hangs
// is found at once, and what waits has taken time.
func TestEveryMistakeIsTold(t *testing.T) {
	for name, all := range mistakes {
		for _, mistake := range all {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				mistake(t, name)
				if waited := time.Since(start); waited != 0 {
					t.Errorf("%s: told after %v", name, waited)
				}
			})
		}
	}
	exported := withArguments(t)
	for _, name := range exported {
		if mistakes[name] == nil {
			t.Errorf("%s has arguments: what if they are wrong? Say so in mistakes", name)
		}
	}
	if len(exported) != len(mistakes) {
		t.Errorf("%d functions and methods with arguments are exported, %d are in mistakes", len(exported), len(mistakes))
	}
}

// withArguments returns what the package exports that has arguments, methods as
// Type.Method.
func withArguments(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() || f.Type.Params.NumFields() == 0 {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				of := receiver(f.Recv.List[0].Type)
				if !ast.IsExported(of) {
					continue
				}
				name = of + "." + name
			}
			names = append(names, name)
		}
	}
	return names
}

// receiver is the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
