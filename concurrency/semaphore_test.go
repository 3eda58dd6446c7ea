package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// queue starts a waiter for n units that says its name when admitted, and
// holds the units for a second.
func queue(ctx context.Context, s *concurrency.Semaphore, name string, n int64, said chan<- string) {
	go func() {
		p, err := s.Acquire(ctx, n)
		switch {
		case errors.Is(err, concurrency.ErrRejected):
			said <- name + " dropped"
			return
		case err != nil:
			said <- name + " left"
			return
		}
		said <- name
		time.Sleep(time.Second)
		p.Done(nil)
	}()
	synctest.Wait()
}

func hear(said <-chan string) []string {
	synctest.Wait()
	var all []string
	for len(said) > 0 {
		all = append(all, <-said)
	}
	return all
}

func acquire(t *testing.T, s *concurrency.Semaphore, n int64) concurrency.Permit {
	t.Helper()
	p, err := s.Acquire(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSemaphoreFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(3, concurrency.FIFO)
		said := make(chan string, 10)
		held := acquire(t, s, 2)
		queue(t.Context(), s, "large", 3, said)
		queue(t.Context(), s, "small", 1, said)
		if got := hear(said); got != nil {
			t.Errorf("%q overtook the head of the queue", got)
		}
		held.Done(nil)
		if got := hear(said); !slices.Equal(got, []string{"large"}) {
			t.Errorf("admitted %q", got)
		}
		time.Sleep(time.Second)
		if got := hear(said); !slices.Equal(got, []string{"small"}) {
			t.Errorf("admitted %q", got)
		}
		time.Sleep(time.Second)
		synctest.Wait() // the holder sleeps until this very instant, too
		if st := s.Stats(); st != (concurrency.Stats{Limit: 3, Admitted: 3}) {
			t.Errorf("stats %+v", st)
		}
	})
}

// When the head leaves, those behind it that fit must not wait for a release.
func TestSemaphoreHeadLeaves(t *testing.T) {
	for _, q := range []concurrency.Queue{concurrency.FIFO, concurrency.LIFO} {
		synctest.Test(t, func(t *testing.T) {
			s := concurrency.NewSemaphore(3, q)
			said := make(chan string, 10)
			held := acquire(t, s, 2)
			ctx, cancel := context.WithCancel(t.Context())
			if q == concurrency.FIFO {
				queue(ctx, s, "large", 3, said)
				queue(t.Context(), s, "small", 1, said)
			} else {
				// Newest first: it would fit, were the large one not before it.
				other := acquire(t, s, 1)
				queue(t.Context(), s, "small", 1, said)
				queue(ctx, s, "large", 3, said)
				other.Done(nil)
			}
			cancel()
			if got := hear(said); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"large left", "small"}) {
				t.Errorf("queue %d: %q", q, got)
			}
			held.Done(nil)
			time.Sleep(time.Second)
			synctest.Wait()
			if st := s.Stats(); st.InFlight != 0 || st.Waiting != 0 || st.Rejected != 1 {
				t.Errorf("queue %d: stats %+v", q, st)
			}
		})
	}
}

func TestSemaphoreLIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(1, concurrency.LIFO)
		said := make(chan string, 10)
		held := acquire(t, s, 1)
		queue(t.Context(), s, "old", 1, said)
		time.Sleep(50 * time.Millisecond)
		queue(t.Context(), s, "new", 1, said)
		held.Done(nil)
		if got := hear(said); !slices.Equal(got, []string{"new"}) {
			t.Errorf("admitted %q", got)
		}
		time.Sleep(time.Second) // the old one has waited too long by now
		if got := hear(said); !slices.Equal(got, []string{"old dropped"}) {
			t.Errorf("then %q", got)
		}
		if st := s.Stats(); st.Rejected != 1 || st.Admitted != 2 || st.Waiting != 0 || st.InFlight != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A queue that stands has its patience cut from 100 ms to 5 ms.
func TestSemaphoreLIFOUnderLastingOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(2, concurrency.LIFO)
		said := make(chan string, 10)
		a := acquire(t, s, 1)
		b := acquire(t, s, 1)
		queue(t.Context(), s, "first", 1, said)
		for i := range 3 { // the queue never gets empty
			time.Sleep(40 * time.Millisecond)
			queue(t.Context(), s, fmt.Sprint("later ", i), 1, said)
		}
		// 120 ms: pushing the last dropped all that had waited for 5 ms.
		if got := hear(said); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"first dropped", "later 0 dropped", "later 1 dropped"}) {
			t.Errorf("dropped %q", got)
		}
		a.Done(nil)
		b.Done(nil)
		if got := hear(said); !slices.Equal(got, []string{"later 2"}) {
			t.Errorf("then %q", got)
		}
		time.Sleep(time.Minute)
	})
}

// The limits of patience, to the nanosecond.
func TestSemaphoreLIFOPatience(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		arrive, look time.Duration // beside one that waits from the beginning
		dropped      []string
	}{
		"nobody has waited for long":            {50 * ms, 100*ms - 1, nil},
		"the queue stands, all lose patience":   {50 * ms, 100 * ms, []string{"first dropped", "second dropped"}},
		"5 ms of waiting are too long then":     {95 * ms, 100 * ms, []string{"first dropped", "second dropped"}},
		"who has waited for less is still here": {95*ms + 1, 100 * ms, []string{"first dropped"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := concurrency.NewSemaphore(2, concurrency.LIFO)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			said := make(chan string, 10)
			held, one := acquire(t, s, 1), acquire(t, s, 1)
			queue(ctx, s, "first", 2, said)
			time.Sleep(c.arrive)
			queue(ctx, s, "second", 2, said)
			time.Sleep(c.look - c.arrive)
			one.Done(nil) // room for neither, but somebody looks
			if got := slices.Sorted(slices.Values(hear(said))); !slices.Equal(got, c.dropped) {
				t.Errorf("%s: %q", name, got)
			}
			cancel()
			held.Done(nil)
			synctest.Wait()
			if st := s.Stats(); st != (concurrency.Stats{Limit: 2, Admitted: 2, Rejected: 2}) {
				t.Errorf("%s: %+v", name, st)
			}
		})
	}
}

// Who leaves at the very moment it is admitted has left, and takes nothing along.
func TestSemaphoreAdmittedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(1, concurrency.FIFO)
		for range 100 {
			held := acquire(t, s, 1)
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan error)
			go func() {
				p, err := s.Acquire(ctx, 1)
				p.Done(nil)
				got <- err
			}()
			synctest.Wait()
			cancel()
			held.Done(nil)
			if err := <-got; !errors.Is(err, context.Canceled) {
				t.Fatalf("want the end of the context, got %v", err)
			}
		}
		if st := s.Stats(); st != (concurrency.Stats{Limit: 1, Admitted: 100, Rejected: 100}) {
			t.Errorf("%+v", st)
		}
	})
}

// A holder that panics wakes the next one, and those who leave in numbers do not
// take its turn along.
func TestSemaphoreLosesNoTurn(t *testing.T) {
	for _, q := range []concurrency.Queue{concurrency.FIFO, concurrency.LIFO} {
		synctest.Test(t, func(t *testing.T) {
			s := concurrency.NewSemaphore(1, q)
			said := make(chan string, 200)
			ctx, cancel := context.WithCancel(t.Context())
			_ = panicOf(func() {
				_, _ = concurrency.Do(t.Context(), s, func(context.Context) (int, error) {
					queue(t.Context(), s, "next", 1, said)
					panic(errBoom)
				})
			})
			if got := hear(said); !slices.Equal(got, []string{"next"}) {
				t.Fatalf("queue %d: after a panic %q", q, got)
			}
			for range 100 {
				queue(ctx, s, "many", 1, said)
			}
			queue(t.Context(), s, "last", 1, said)
			cancel()
			if got := hear(said); len(got) != 100 || slices.Contains(got, "last") {
				t.Fatalf("queue %d: %d have left, %q", q, len(got), got)
			}
			time.Sleep(time.Minute)
			want := map[concurrency.Queue]string{concurrency.FIFO: "last", concurrency.LIFO: "last dropped"}[q]
			if got := hear(said); !slices.Equal(got, []string{want}) {
				t.Errorf("queue %d: %q, want %q", q, got, want)
			}
			if st := s.Stats(); st.InFlight != 0 || st.Waiting != 0 {
				t.Errorf("queue %d: %+v", q, st)
			}
		})
	}
}

// Only what failed counts as failed.
func TestSemaphoreCountsFailures(t *testing.T) {
	s := concurrency.NewSemaphore(1, concurrency.FIFO)
	for _, outcome := range []error{nil, errBoom, nil} {
		if err := through(t.Context(), s, outcome); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st != (concurrency.Stats{Limit: 1, Admitted: 3, Failed: 1}) {
		t.Errorf("%+v", st)
	}
}

func TestSemaphoreNoWait(t *testing.T) {
	s := concurrency.NewSemaphore(2, concurrency.NoWait)
	p := acquire(t, s, 2)
	if _, err := s.Acquire(t.Context(), 1); !errors.Is(err, concurrency.ErrRejected) {
		t.Errorf("got %v", err)
	} else if permanent, _ := concurrency.Advice(err); permanent {
		t.Error("a full semaphore will have room again, the error must not be permanent")
	}
	p.Done(nil)
	acquire(t, s, 2).Done(nil)
	if st := s.Stats(); st != (concurrency.Stats{Limit: 2, Admitted: 2, Rejected: 1}) {
		t.Errorf("stats %+v", st)
	}
}

// An impossible Acquire must not wait for the deadline.
func TestSemaphoreImpossible(t *testing.T) {
	s := concurrency.NewSemaphore(4, concurrency.FIFO)
	for _, n := range []int64{-1, 0, 5, 1<<63 - 1} {
		_, err := s.Acquire(t.Context(), n)
		if permanent, _ := concurrency.Advice(err); !permanent || !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("%d of 4: %v", n, err)
		}
	}
	for _, size := range []int64{0, -1} {
		if panicOf(func() { concurrency.NewSemaphore(size, concurrency.FIFO) }) == nil {
			t.Errorf("size %d is taken", size)
		}
	}
	for _, q := range []concurrency.Queue{-1, 3} {
		if panicOf(func() { concurrency.NewSemaphore(1, q) }) == nil {
			t.Errorf("queue %d is taken", q)
		}
	}
}

func TestSemaphoreTellsWhyItStoppedWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(1, concurrency.FIFO)
		p := acquire(t, s, 1)
		reason := errors.New("user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(reason) })
		if _, err := s.Acquire(ctx, 1); !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
			t.Errorf("while waiting: %v", err)
		}
		p.Done(nil)
		if _, err := s.Acquire(ctx, 1); !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
			t.Errorf("a free unit, but nobody to use it: %v", err)
		}
		if st := s.Stats(); st != (concurrency.Stats{Limit: 1, Admitted: 1, Rejected: 2}) {
			t.Errorf("stats %+v", st)
		}
	})
}

// Nested use of one limit must not deadlock.
func TestSemaphoreReentry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := concurrency.NewSemaphore(2, concurrency.FIFO)
		other := concurrency.NewSemaphore(1, concurrency.FIFO)
		p := acquire(t, s, 2)
		ctx := p.Context(t.Context())
		for n := range int64(2) {
			nested, err := s.Acquire(ctx, n+1)
			if err != nil || nested != (concurrency.Permit{}) {
				t.Fatalf("nested: %+v, %v", nested, err)
			}
			nested.Done(nil)
		}
		if st := s.Stats(); st.InFlight != 2 || st.Admitted != 1 {
			t.Errorf("borrowing is not counted: %+v", st)
		}
		q, err := other.Acquire(ctx, 1)
		if err != nil || other.Stats().InFlight != 1 {
			t.Fatalf("another semaphore is asked as usual: %v", err)
		}
		if _, err := s.Acquire(q.Context(ctx), 1); err != nil {
			t.Errorf("the mark is lost below that of another semaphore: %v", err)
		}
		q.Done(nil)
		p.Done(nil)

		// A part of a permit is no right to wait for more.
		p = acquire(t, s, 1)
		if _, err := s.Acquire(p.Context(t.Context()), 2); !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("2 units on a permit of 1: %v", err)
		}
		late := p.Context(t.Context())
		p.Done(nil)
		// Whoever comes when the permit has been returned asks for one of their own.
		fresh, err := s.Acquire(late, 1)
		if err != nil || s.Stats().InFlight != 1 {
			t.Errorf("%v, stats %+v", err, s.Stats())
		}
		fresh.Done(nil)
		if ctx := t.Context(); (concurrency.Permit{}).Context(ctx) != ctx {
			t.Error("the zero permit marks a context")
		}
	})
}

func TestPermitOutcome(t *testing.T) {
	live := t.Context()
	gone, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("user left")
	cancel(reason)
	expired, cancel2 := context.WithTimeout(t.Context(), -1)
	defer cancel2()
	of := func(err error) *error { return &err }
	for name, c := range map[string]struct {
		ctx   context.Context
		err   *error
		known bool
		want  error
	}{
		"success":                     {live, of(nil), true, nil},
		"failure":                     {live, of(errBoom), true, errBoom},
		"nil pointer":                 {live, nil, false, nil},
		"caller left":                 {gone, of(context.Canceled), false, nil},
		"caller left, wrapped":        {gone, of(fmt.Errorf("get: %w", context.Canceled)), false, nil},
		"caller left, cause":          {gone, of(reason), false, nil},
		"failed before caller left":   {gone, of(errBoom), true, errBoom},
		"cancelled, but not by us":    {live, of(context.Canceled), true, context.Canceled},
		"deadline":                    {expired, of(context.DeadlineExceeded), true, context.DeadlineExceeded},
		"deadline reported as cancel": {expired, of(context.Canceled), true, context.Canceled},
		"success though caller left":  {gone, of(nil), true, nil},
	} {
		calls := 0
		var known bool
		var got error
		p := concurrency.NewPermit(c.ctx, func(k bool, err error) { calls++; known, got = k, err })
		duplicate := p
		p.Done(c.err)
		p.Done(of(errors.New("second")))
		duplicate.Done(nil)
		if calls != 1 || known != c.known || got != c.want {
			t.Errorf("%s: %d calls, known %v, %v; want %v, %v", name, calls, known, got, c.known, c.want)
		}
	}
	concurrency.NewPermit(live, nil).Done(nil)
}

func TestPermitOfAPanic(t *testing.T) {
	var got error
	v := panicOf(func() {
		var err error
		p := concurrency.NewPermit(t.Context(), func(_ bool, err error) { got = err })
		defer p.Done(&err)
		panic(errBoom)
	})
	if v != errBoom {
		t.Errorf("the panic must pass on as it is, recovered %v", v)
	}
	if !errors.Is(got, errBoom) {
		t.Errorf("the limiter learned %v", got)
	}
}

// A permit is one however many goroutines return it.
func TestPermitDoneIsConcurrent(t *testing.T) {
	s := concurrency.NewSemaphore(2, concurrency.FIFO)
	for range 200 {
		p := acquire(t, s, 1)
		_ = concurrency.Each(t.Context(), 8, upTo(8), func(_ context.Context, _ int) (err error) {
			p.Done(&err)
			return nil
		})
		if n := s.Stats().InFlight; n != 0 {
			t.Fatalf("%d units in flight", n)
		}
	}
}

func TestDoReports(t *testing.T) {
	s := concurrency.NewSemaphore(1, concurrency.NoWait)
	v, err := concurrency.Do(t.Context(), s, func(context.Context) (int, error) { return 7, errBoom })
	if v != 7 || err != errBoom || s.Stats().Failed != 1 {
		t.Errorf("%d, %v, %+v", v, err, s.Stats())
	}
	held := acquire(t, s, 1)
	ran := false
	_, err = concurrency.Do(t.Context(), s, func(context.Context) (int, error) { ran = true; return 0, nil })
	if ran || !errors.Is(err, concurrency.ErrRejected) {
		t.Errorf("ran %v, %v", ran, err)
	}
	held.Done(nil)
}

func TestPermitAllocatesNothing(t *testing.T) {
	s := concurrency.NewSemaphore(1, concurrency.FIFO)
	ctx := t.Context()
	var failed atomic.Bool
	allocs := testing.AllocsPerRun(1000, func() {
		p, err := s.Acquire(ctx, 1)
		if err != nil {
			failed.Store(true)
		}
		p.Done(&err)
	})
	if allocs != 0 || failed.Load() {
		t.Errorf("%v allocations per Acquire and Done", allocs)
	}
}
