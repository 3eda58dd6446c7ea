package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

const ms = time.Millisecond

func TestAdmissionKeepsTheContract(t *testing.T) {
	for _, waiting := range []int{0, 1, 100} {
		t.Run(fmt.Sprint(waiting, " may wait"), func(t *testing.T) {
			concurrencytest.TestLimiter(t, func(size int64) concurrency.Limiter { return concurrency.NewBoundedAdmission(size, waiting) })
		})
	}
}

// serve has n calls admitted and answered by workers that take 10 ms for each,
// so that a is told a rate.
func serve(t *testing.T, a *concurrency.Admission, n, workers int) {
	t.Helper()
	for range n / workers {
		held := make([]concurrency.Permit, workers)
		for i := range held {
			held[i] = admitted(t, a, t.Context())
		}
		time.Sleep(10 * ms)
		for _, p := range held {
			answer(p, nil)
		}
	}
}

func answer(p concurrency.Permit, err error) { p.Done(&err) }

func admitted(t *testing.T, a *concurrency.Admission, ctx context.Context) concurrency.Permit { //nolint:revive // t goes first in helpers
	t.Helper()
	p, err := a.Acquire(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fill admits calls with ctx until one is refused, and returns them.
func fill(t *testing.T, a *concurrency.Admission, ctx context.Context) []concurrency.Permit { //nolint:revive // t goes first in helpers
	t.Helper()
	var all []concurrency.Permit
	for range 100_000 {
		p, err := a.Acquire(ctx, 1)
		if err != nil {
			if permanent, _ := concurrency.Advice(err); !errors.Is(err, concurrency.ErrRejected) || permanent {
				t.Fatalf("an Admission that is full says %v", err)
			}
			return all
		}
		all = append(all, p)
	}
	t.Fatal("nobody is ever refused")
	return nil
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// 4 at a time in 10 ms are 400 a second; a quarter of that may be in flight
// for each second a call has left.
func TestAdmissionRoomFollowsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &concurrency.Admission{NoDeadline: 2 * time.Second}
		if n := len(fill(t, a, t.Context())); n != 10 {
			t.Errorf("before anything is known %d are admitted", n)
		}
		a = &concurrency.Admission{NoDeadline: 2 * time.Second}
		serve(t, a, 400, 4)
		if got := a.Stats().Limit; got < 190 || got > 210 {
			t.Errorf("the limit for 2 s is %d, want a quarter of 800", got)
		}
		short := fill(t, a, within(t, 200*ms))
		if n := len(short); n < 19 || n > 21 {
			t.Errorf("%d are admitted with 200 ms left, want 20", n)
		}
		long := fill(t, a, within(t, time.Second))
		if n := len(short) + len(long); n < 95 || n > 105 {
			t.Errorf("%d are in flight with 1 s left, want 100", n)
		}
		none := fill(t, a, t.Context())
		if n := len(short) + len(long) + len(none); n < 190 || n > 210 {
			t.Errorf("%d are in flight without a deadline, want 200", n)
		}
		if st := a.Stats(); int(st.InFlight) != len(short)+len(long)+len(none) || st.Rejected != 3 || st.Waiting != 0 {
			t.Errorf("stats %+v", st)
		}
		for _, p := range slices.Concat(short, long, none) {
			answer(p, nil)
		}
		if st := a.Stats(); st.InFlight != 0 || st.Failed != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A callee that has time to spare gets more while somebody is refused: the room
// grows from a quarter of the time calls have to two fifths. It is told a window late.
func TestAdmissionRoomGrowsWhileMoreIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 400, 4)
		var held []concurrency.Permit
		for range 8000 { // 20 s of a callee that answers 400 a second, in order
			held = append(held, fill(t, &a, t.Context())...)
			time.Sleep(5 * ms / 2)
			answer(held[0], nil)
			held = held[1:]
		}
		if got := a.Stats().Limit; got < 150 || got > 215 {
			t.Errorf("the limit is %d, want two fifths of 400, and two steps of a tenth at most", got)
		}
		for _, p := range held {
			answer(p, nil)
		}
	})
}

func TestAdmissionAsksWhenNothingIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 16, 1)
		heavy, err := a.Acquire(within(t, 20*ms), 1000)
		if err != nil {
			t.Fatalf("with nothing in flight a call of any weight is admitted: %v", err)
		}
		if _, err := a.Acquire(within(t, 20*ms), 1); !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("beside it: %v", err)
		}
		answer(heavy, nil)
		for _, n := range []int64{0, -1, 1 << 62} {
			_, err := a.Acquire(t.Context(), n)
			if permanent, _ := concurrency.Advice(err); !permanent || !errors.Is(err, concurrency.ErrRejected) {
				t.Errorf("%d units: %v", n, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Acquire(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := a.Acquire(within(t, 0), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("expired: %v", err)
		}
	})
}

// Who leaves at its deadline leaves the callee with the work: it counts until
// a later call shows that the callee has come past it.
func TestAdmissionRemembersAbandonedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 400, 4)
		ctx := within(t, 200*ms)
		held := fill(t, &a, ctx)
		older := held[0]
		time.Sleep(200 * ms)
		for _, p := range held[1:] {
			answer(p, context.DeadlineExceeded)
		}
		if n := len(fill(t, &a, within(t, 200*ms))); n > 1 {
			t.Errorf("%d are admitted though the callee has all the others still", n)
		}
		answer(older, nil) // as old as the youngest of them
		if n := len(fill(t, &a, within(t, 200*ms))); n < 5 {
			t.Errorf("%d are admitted after the callee has come back", n)
		}
	})
}

// Results that say nothing about the callee change nothing.
func TestAdmissionNeutralResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 400, 4)
		before := a.Stats().Limit
		for range 200 { // fast enough to raise the limit, did they count
			ctx, cancel := context.WithCancel(t.Context())
			p, q, r := admitted(t, &a, ctx), admitted(t, &a, ctx), admitted(t, &a, ctx)
			time.Sleep(ms)
			cancel()
			answer(p, context.Canceled)
			answer(q, fmt.Errorf("inner: %w", concurrency.ErrRejected))
			r.Done(nil)
		}
		if st := a.Stats(); st.Limit != before || st.InFlight != 0 || st.Failed != 200 {
			t.Errorf("the limit was %d, and now %+v", before, st)
		}
	})
}

// A callee that fails at once is not a fast one.
func TestAdmissionFailuresAreNotSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 400, 4)
		before := a.Stats().Limit
		for range 10_000 {
			p := admitted(t, &a, t.Context())
			time.Sleep(ms / 10)
			answer(p, errors.New("connection refused"))
		}
		if st := a.Stats(); st.Limit > before || st.Failed != 10_000 {
			t.Errorf("the limit was %d, and now %+v", before, st)
		}
	})
}

// ask starts a call that says its name when admitted, and ends after 10 ms.
func ask(ctx context.Context, a *concurrency.Admission, name string, said chan<- string) {
	go func() {
		p, err := a.Acquire(ctx, 1)
		switch {
		case errors.Is(err, concurrency.ErrRejected):
			said <- name + " refused"
		case err != nil:
			said <- name + " left"
		default:
			said <- name
			time.Sleep(10 * ms)
			answer(p, nil)
		}
	}()
	synctest.Wait()
}

func TestAdmissionWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := concurrency.NewBoundedAdmission(1, 4)
		a.NoDeadline = time.Minute
		said := make(chan string, 10)
		high := concurrency.WithPriority(t.Context(), 1)
		held := admitted(t, a, high)
		ctx, cancel := context.WithCancel(t.Context())
		ask(t.Context(), a, "low", said)
		ask(high, a, "high", said)
		ask(high, a, "high too", said)
		ask(ctx, a, "impatient", said)
		ask(high, a, "one too many", said)
		if st := a.Stats(); st.Waiting != 4 || st.InFlight != 1 || st.Rejected != 1 {
			t.Errorf("stats %+v", st)
		}
		cancel()
		if got := hear(said); !slices.Equal(got, []string{"one too many refused", "impatient left"}) {
			t.Errorf("at once: %q", got)
		}
		answer(held, nil)
		var got []string
		for range 4 {
			got = append(got, hear(said)...)
			time.Sleep(10 * ms)
		}
		if !slices.Equal(got, []string{"high", "high too", "low"}) {
			t.Errorf("then %q", got)
		}
		time.Sleep(time.Second)
		if st := a.Stats(); st.Waiting != 0 || st.InFlight != 0 || st.Admitted != 4 || st.Rejected != 2 {
			t.Errorf("stats %+v", st)
		}
	})
}

// Who would fit does not pass over an equal who waits, but over one of less priority.
func TestAdmissionWaitingIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := concurrency.NewBoundedAdmission(3, 4)
		a.NoDeadline = time.Minute
		said := make(chan string, 10)
		held, err := a.Acquire(concurrency.WithPriority(t.Context(), 1), 2)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			p, err := a.Acquire(concurrency.WithPriority(t.Context(), 1), 2)
			said <- fmt.Sprint("large ", err)
			answer(p, nil)
		}()
		synctest.Wait()
		ask(concurrency.WithPriority(t.Context(), 1), a, "equal", said)
		if got := hear(said); got != nil {
			t.Errorf("%q overtook the one that waits", got)
		}
		ask(concurrency.WithPriority(t.Context(), 2), a, "more important", said)
		if got := hear(said); !slices.Equal(got, []string{"more important"}) {
			t.Errorf("there is room for one: %q", got)
		}
		time.Sleep(20 * ms)
		answer(held, nil)
		if got := hear(said); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"equal", "large <nil>"}) {
			t.Errorf("then %q", got)
		}
		time.Sleep(time.Second)
	})
}

// When the first in the queue leaves, those behind it who fit need not wait for a result.
func TestAdmissionWaitingMovesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := concurrency.NewBoundedAdmission(3, 4)
		a.NoDeadline = time.Minute
		said := make(chan string, 10)
		held, err := a.Acquire(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := a.Acquire(ctx, 2)
			said <- fmt.Sprint("large: ", errors.Is(err, context.Canceled))
		}()
		synctest.Wait()
		ask(t.Context(), a, "small", said)
		if got := hear(said); got != nil {
			t.Errorf("%q is before its turn", got)
		}
		cancel()
		synctest.Wait()
		if got := hear(said); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"large: true", "small"}) {
			t.Errorf("at once: %q", got)
		}
		time.Sleep(10 * ms)
		answer(held, nil)
	})
}

// What would not fit if it were alone is not kept waiting for that.
func TestAdmissionWaitingInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := concurrency.Admission{MaxWaiting: 1}
		serve(t, &a, 400, 4)
		held := admitted(t, &a, t.Context())
		start := time.Now()
		if _, err := a.Acquire(within(t, 200*ms), 30); !errors.Is(err, concurrency.ErrRejected) || time.Since(start) != 0 {
			t.Errorf("30 units where there is room for 20, after %v: %v", time.Since(start), err)
		}
		answer(held, nil)
	})
}

// Without a deadline one waits as long as NoDeadline.
func TestAdmissionWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := concurrency.NewBoundedAdmission(1, 1)
		a.NoDeadline = 3 * time.Second
		held := admitted(t, a, t.Context())
		start := time.Now()
		_, err := a.Acquire(t.Context(), 1)
		if !errors.Is(err, concurrency.ErrRejected) || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		start = time.Now()
		if _, err = a.Acquire(within(t, time.Second), 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		start = time.Now()
		if _, err = a.Acquire(held.Context(t.Context()), 1); err != nil || time.Since(start) != 0 {
			t.Errorf("below its own permit, after %v: %v", time.Since(start), err)
		}
		if _, err = a.Acquire(held.Context(t.Context()), 2); !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("more than that: %v", err)
		}
		answer(held, nil)
		if st := a.Stats(); st.Waiting != 0 || st.InFlight != 0 || st.Admitted != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestAdmissionPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a concurrency.Admission
		serve(t, &a, 400, 4) // priority 0
		if n := len(fill(t, &a, concurrency.WithPriority(within(t, time.Second), 5))); n < 95 || n > 105 {
			t.Errorf("the first fills %d of 100", n)
		}
		a2 := &concurrency.Admission{}
		serve(t, a2, 400, 4)
		ctx := within(t, time.Second)
		low := fill(t, a2, concurrency.WithPriority(ctx, -5))
		if n := len(low); n < 47 || n > 53 {
			t.Errorf("the second has room for %d of 50", n)
		}
		if n := len(low) + len(fill(t, a2, ctx)); n < 95 || n > 105 {
			t.Errorf("the first fills %d of 100", n)
		}
	})
}

func TestAdmissionAllocates(t *testing.T) {
	var a concurrency.Admission
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	ctx = concurrency.WithPriority(ctx, 1)
	if n := testing.AllocsPerRun(1000, func() {
		p, err := a.Acquire(ctx, 1)
		p.Done(&err)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdmission(b *testing.B) {
	var a concurrency.Admission
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		p, err := a.Acquire(ctx, 1)
		p.Done(&err)
	}
}
