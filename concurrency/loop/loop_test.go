package loop_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
	"github.com/mainstay-go/mainstay/concurrency/loop"
)

// start runs l and returns how to stop it, which gives what Run returned.
func start(l *loop.Loop) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// State that only the loop touches needs no lock: the race detector agrees.
func TestOneAtATimeAndInOrder(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	const posters, each = 8, 500
	l := loop.New(16)
	stop := start(l)
	last := make([]int, posters) // not locked
	sum := 0
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := 1; i <= each; i++ {
				err := l.Post(t.Context(), func() {
					if last[p] != i-1 {
						t.Errorf("poster %d: %d after %d", p, i, last[p])
					}
					last[p] = i
					sum++
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, stop())
	if st := l.Stats(); sum != posters*each || st.Posted != posters*each || st.Waiting != 0 {
		t.Errorf("%d of %d ran, stats %+v", sum, posters*each, st)
	}
}

func TestPostWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(2)
		var order []int
		add := func(i int) func() { return func() { order = append(order, i) } }
		must(t, l.Post(t.Context(), add(1))) // before Run
		must(t, l.Post(t.Context(), add(2)))
		late, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("too full"))
		defer cancel()
		if err := l.Post(late, add(0)); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "loop: not posted: context deadline exceeded: too full" {
			t.Errorf("%v", err)
		}
		if err := l.Post(late, add(0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ctx has ended: %v", err)
		}
		posted := make(chan error, 1)
		go func() { posted <- l.Post(t.Context(), add(3)) }()
		synctest.Wait()
		select {
		case err := <-posted:
			t.Fatalf("a third function in a queue of 2: %v", err)
		default:
		}
		if st := l.Stats(); st.Waiting != 2 {
			t.Errorf("stats %+v", st)
		}
		stop := start(l)
		must(t, <-posted)
		must(t, stop())
		if !slices.Equal(order, []int{1, 2, 3}) {
			t.Errorf("ran %v", order)
		}
	})
}

// A function that posts into a full queue would wait for itself to return.
func TestPostNeverWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		var inner, timer error
		later := false
		must(t, l.Post(t.Context(), func() {
			must(t, l.Post(t.Context(), func() {}))
			inner = l.Post(t.Context(), func() { t.Error("it was refused") })
			l.After(0, func() {
				later = true // the queue is still full
				timer = l.Post(t.Context(), func() { t.Error("it was refused") })
			})
		}))
		stop := start(l)
		synctest.Wait()
		must(t, stop())
		if !errors.Is(inner, concurrency.ErrRejected) || !errors.Is(timer, concurrency.ErrRejected) || !later {
			t.Errorf("%v; %v; After(0) ran: %v", inner, timer, later)
		}
	})
}

func TestTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		stop := start(l)
		began, release := make(chan struct{}), make(chan struct{})
		ran := false
		must(t, l.Post(t.Context(), func() { close(began); <-release }))
		<-began
		must(t, l.Post(t.Context(), func() {
			ran = true
			if err := l.Post(t.Context(), func() {}); !errors.Is(err, loop.ErrEnded) {
				t.Errorf("posted after the end: %v", err)
			}
		}))
		stopTimer := l.After(time.Second, func() { t.Error("a timer after the end") })
		blocked := make(chan error, 1)
		go func() { blocked <- l.Post(t.Context(), func() { t.Error("refused") }) }()
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run returned with a function in it")
		default:
		}
		close(release)
		must(t, <-ended)
		if err := <-blocked; !errors.Is(err, loop.ErrEnded) {
			t.Errorf("waited for room until the end: %v", err)
		}
		if !ran {
			t.Error("what was posted before the end did not run")
		}
		if err := l.Post(t.Context(), func() {}); !errors.Is(err, loop.ErrEnded) {
			t.Errorf("after the end: %v", err)
		}
		if stopTimer() || l.After(0, func() {})() {
			t.Error("there was nothing to stop")
		}
		if err := l.Run(t.Context()); err == nil {
			t.Error("a loop runs once")
		}
		time.Sleep(time.Minute) // of the bubble: the timer would have fired
	})
}

func TestPanicPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(1)
		must(t, l.Post(t.Context(), func() {
			time.Sleep(time.Nanosecond) // of the bubble: until one of the others has found room, and one waits
			panic("oh")
		}))
		var errs []error
		posted := make(chan error, 2)
		for range 2 {
			go func() { posted <- l.Post(t.Context(), func() { t.Error("after a panic") }) }()
		}
		synctest.Wait()
		func() {
			defer func() {
				if v := recover(); v != "oh" {
					t.Errorf("recovered %v", v)
				}
			}()
			_ = l.Run(t.Context())
		}()
		for range 2 {
			errs = append(errs, <-posted)
		}
		if errs[0] != nil || !errors.Is(errs[1], loop.ErrEnded) {
			t.Errorf("%v", errs)
		}
		if st := l.Stats(); st.Waiting != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestGoexitPasses(t *testing.T) {
	l := loop.New(1)
	must(t, l.Post(t.Context(), runtime.Goexit))
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(t.Context())
		returned = true
	}()
	<-done
	if err := l.Post(t.Context(), func() {}); returned || !errors.Is(err, loop.ErrEnded) {
		t.Errorf("returned: %v, %v", returned, err)
	}
}

func TestMistakes(t *testing.T) {
	l := loop.New(1)
	for name, f := range map[string]func(){
		"queue": func() { loop.New(0) },
		"post":  func() { _ = l.Post(t.Context(), nil) },
		"after": func() { l.After(0, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
