package concurrency_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

func TestRateAdmitsBurstThenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := concurrency.NewRate(10, 3)
		start := time.Now()
		for i, millis := range []int{0, 0, 0, 100, 200, 300} {
			want := time.Duration(millis) * time.Millisecond
			p, err := r.Acquire(t.Context(), 1)
			if got := time.Since(start); err != nil || got != want || p != (concurrency.Permit{}) {
				t.Fatalf("unit %d: after %v, %v; want %v", i+1, got, err, want)
			}
		}
		time.Sleep(150 * time.Millisecond) // 1.5 units
		start = time.Now()
		if _, err := r.Acquire(t.Context(), 3); err != nil || time.Since(start) != 150*time.Millisecond {
			t.Fatalf("3 units with 1.5 there: after %v, %v", time.Since(start), err)
		}
		time.Sleep(time.Hour) // no more than the burst is saved
		start = time.Now()
		for range 4 {
			if _, err := r.Acquire(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got != 100*time.Millisecond {
			t.Errorf("4 units after a pause take %v", got)
		}
		if st := r.Stats(); st != (concurrency.Stats{Limit: 3, Admitted: 11}) {
			t.Errorf("%+v", st)
		}
	})
}

func TestRateReadsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := concurrency.NewRate(1, 1)
		if _, err := r.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Acquire(ctx, 1)
		permanent, after := concurrency.Advice(err)
		if !errors.Is(err, concurrency.ErrRejected) || permanent || after != time.Second || time.Since(start) != 0 {
			t.Errorf("after %v: %v (%v, %v)", time.Since(start), err, permanent, after)
		}
		enough, cancel2 := context.WithTimeout(t.Context(), time.Second+1)
		defer cancel2()
		if _, err := r.Acquire(enough, 1); err != nil {
			t.Errorf("the refused one took something: %v", err)
		}
	})
}

// Order is kept, and who leaves gives its place to those behind.
func TestRateQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := concurrency.NewRate(1, 4)
		if _, err := r.Acquire(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var log []string
		said := make(chan string, 10)
		enter := func(ctx context.Context, name string, n int64) {
			go func() {
				_, err := r.Acquire(ctx, n)
				said <- fmt.Sprint(name, " ", time.Since(start), " ", err == nil)
			}()
			synctest.Wait()
		}
		first, cancel := context.WithCancel(t.Context())
		middle, cancel2 := context.WithCancel(t.Context())
		enter(first, "a", 4)
		enter(middle, "b", 2)
		enter(t.Context(), "c", 1)
		enter(t.Context(), "d", 1)
		if st := r.Stats(); st.Waiting != 4 {
			t.Errorf("%+v", st)
		}
		soon, cancel3 := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel3()
		if _, err := r.Acquire(soon, 1); !errors.Is(err, concurrency.ErrRejected) {
			t.Errorf("behind 8 units, with 8 s: %v", err)
		}
		time.Sleep(time.Second)
		cancel2()
		synctest.Wait()
		time.Sleep(time.Second)
		cancel()
		time.Sleep(time.Minute)
		for len(said) > 0 {
			log = append(log, <-said)
		}
		// The head's 2 s of saved units serve those behind it at once.
		slices.Sort(log)
		want := []string{"a 2s false", "b 1s false", "c 2s true", "d 2s true"}
		if !slices.Equal(log, want) {
			t.Errorf("%q, want %q", log, want)
		}
		if st := r.Stats(); st != (concurrency.Stats{Limit: 4, Admitted: 3, Rejected: 3}) {
			t.Errorf("%+v", st)
		}
	})
}

// Over any time, no more than burst + rate × time is admitted, and with enough
// demand no less than rate × time.
func TestRateKeepsItsPromise(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			perSecond, burst := 1+100*rnd.Float64(), 1+rnd.IntN(20)
			r := concurrency.NewRate(perSecond, burst)
			start := time.Now()
			type admitted struct {
				at time.Duration
				n  int64
			}
			units := make(chan admitted, 10_000)
			var workers sync.WaitGroup
			for w := range 8 {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)))
				workers.Go(func() {
					for time.Since(start) < time.Minute {
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(2000))*time.Millisecond)
						time.AfterFunc(time.Duration(rnd.IntN(4000))*time.Millisecond, cancel)
						n := 1 + rnd.Int64N(int64(burst))
						if _, err := r.Acquire(ctx, n); err == nil {
							units <- admitted{time.Since(start), n}
						} else {
							time.Sleep(time.Millisecond)
						}
						cancel()
					}
				})
			}
			workers.Wait()
			close(units)
			var all []admitted
			sum := int64(0)
			for u := range units {
				all = append(all, u)
				sum += u.n
			}
			for i := range all {
				n := int64(0)
				for _, u := range all[i:min(i+300, len(all))] {
					n += u.n
					if most := float64(burst) + perSecond*(u.at-all[i].at).Seconds() + 1e-3; float64(n) > most {
						t.Fatalf("seed %d: %d units within %v, at most %.1f", seed, n, u.at-all[i].at, most)
					}
				}
			}
			if least := perSecond * 60 * 0.8; float64(sum) < least {
				t.Errorf("seed %d: %d units in a minute, want %.0f at least", seed, sum, least)
			}
		})
	}
}

func TestRateRefusesBadInput(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int
	}{{0, 1}, {-1, 1}, {math.NaN(), 1}, {math.Inf(1), 1}, {1, 0}, {1, -1}} {
		if panicOf(func() { concurrency.NewRate(c.rate, c.burst) }) == nil {
			t.Errorf("NewRate(%v, %d)", c.rate, c.burst)
		}
		if panicOf(func() { concurrency.NewRates[int](c.rate, c.burst, 1) }) == nil {
			t.Errorf("NewRates(%v, %d)", c.rate, c.burst)
		}
	}
	if panicOf(func() { concurrency.NewRates[int](1, 1, 0) }) == nil {
		t.Error("NewRates without keys")
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errBoom)
	rates := concurrency.NewRates[int](1, 5, 1)
	rate := concurrency.NewRate(1, 5)
	for name, l := range map[string]concurrency.Limiter{"Rate": rate, "Rates": rates.For(1)} {
		for _, n := range []int64{-1, 0, 6, math.MaxInt64} {
			_, err := l.Acquire(t.Context(), n)
			if permanent, _ := concurrency.Advice(err); !permanent || !errors.Is(err, concurrency.ErrRejected) {
				t.Errorf("%s, %d units: %v", name, n, err)
			}
		}
		if _, err := l.Acquire(gone, 1); !errors.Is(err, errBoom) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
	}
	for _, st := range []concurrency.Stats{rate.Stats(), rates.Stats()} {
		if st != (concurrency.Stats{Limit: 5, Rejected: 5}) {
			t.Errorf("%+v", st)
		}
	}
	// Extremes neither overflow nor wait for ever.
	if _, err := concurrency.NewRate(1e12, 1).Acquire(t.Context(), 1); err != nil {
		t.Error(err)
	}
	slow := concurrency.NewRate(1e-12, 1)
	_, _ = slow.Acquire(t.Context(), 1)
	soon, cancel2 := context.WithTimeout(t.Context(), time.Hour)
	defer cancel2()
	if _, err := slow.Acquire(soon, 1); !errors.Is(err, concurrency.ErrRejected) {
		t.Error(err)
	}
}

func TestRatesPerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := concurrency.NewRates[string](10, 2, 3)
		got := func(key string, want int) {
			t.Helper()
			n := 0
			for through(t.Context(), r.For(key), nil) == nil {
				n++
			}
			if n != want {
				t.Errorf("%q got %d units, want %d", key, n, want)
			}
		}
		got("a", 2)
		got("b", 2)
		time.Sleep(100 * time.Millisecond)
		got("a", 1)
		got("c", 2)
		// Three keys are known. The others share one bucket, and take nothing from the three.
		got("d", 2)
		got("e", 0)
		_, err := r.For("e").Acquire(t.Context(), 1)
		if permanent, after := concurrency.Advice(err); !errors.Is(err, concurrency.ErrRejected) || permanent || after != 100*time.Millisecond {
			t.Errorf("%v: %v, %v", err, permanent, after)
		}
		time.Sleep(100 * time.Millisecond)
		got("e", 1)
		got("d", 0)
		got("a", 1)
		got("b", 2)
		// Keys that are full again are forgotten, and their room is free.
		time.Sleep(200 * time.Millisecond)
		got("x", 2)
		time.Sleep(200 * time.Millisecond)
		got("y", 2)
		got("z", 2)
		got("a", 2)
	})
}

// A key gets what a Rate of its own would give it, whatever the others do.
func TestRatesAreAsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(7, 7))
		const keys = 20
		r := concurrency.NewRates[int](5, 3, keys)
		alone := make([]*concurrency.Rate, keys)
		for i := range alone {
			alone[i] = concurrency.NewRate(5, 3)
		}
		now, cancel := context.WithDeadline(t.Context(), time.Now().Add(24*time.Hour))
		defer cancel()
		for i := range 20_000 {
			if rnd.IntN(3) == 0 {
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
			}
			k, n := rnd.IntN(keys), 1+rnd.Int64N(3)
			_, err := r.For(k).Acquire(now, n)
			ctx, cancel := context.WithTimeout(t.Context(), 1) // does not wait
			_, want := alone[k].Acquire(ctx, n)
			cancel()
			if (err == nil) != (want == nil) {
				t.Fatalf("step %d: key %d: %v, alone: %v", i, k, err, want)
			}
		}
	})
}

func TestRatesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := concurrency.NewRates[string](1, 2, 10)
		for _, key := range []string{"a", "a", "a", "b"} { // a third of one key is too many
			_, _ = r.For(key).Acquire(t.Context(), 1)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = r.For("b").Acquire(gone, 1)
		if st := r.Stats(); st != (concurrency.Stats{Limit: 2, Admitted: 3, Rejected: 2}) {
			t.Errorf("%+v", st)
		}
	})
}

func TestRateAllocatesNothing(t *testing.T) {
	r := concurrency.NewRate(1e9, 1_000_000)
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(1000, func() { _, _ = r.Acquire(ctx, 1) }); allocs != 0 {
		t.Errorf("%v allocations per unit", allocs)
	}
	// The whole burst is there at once, too.
	whole := concurrency.NewRate(1e12, 1)
	if allocs := testing.AllocsPerRun(1000, func() { _, _ = whole.Acquire(ctx, 1) }); allocs != 0 {
		t.Errorf("%v allocations for the whole burst", allocs)
	}
}
