package loop_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/loop"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background()) // in a main: signal.NotifyContext
	l := loop.New(1024)
	scores := map[string]int{} // touched by the loop alone: no lock
	hit := func(player string) func() { return func() { scores[player]++ } }

	reader := func(ctx context.Context) error { // in a game: a connection per player
		for _, player := range []string{"ada", "joe", "ada"} {
			if err := l.Post(ctx, hit(player)); err != nil {
				return err
			}
		}
		return l.Post(ctx, stop)
	}
	fmt.Println(concurrency.Run(ctx, l.Run, reader), scores)
	// Output: <nil> map[ada:2 joe:1]
}

// A step of the world every 2 ms. Each time is computed from the one before,
// so what a step takes and how late it begins do not add up.
func ExampleLoop_At() {
	ctx, stop := context.WithCancel(context.Background())
	l := loop.New(16)
	l.Spin = 2 * time.Millisecond // a core for precision

	begin := time.Now()
	next, steps := begin, 0
	var tick func()
	tick = func() {
		if steps++; steps == 5 {
			stop()
			return
		}
		next = next.Add(2 * time.Millisecond)
		l.At(next, tick)
	}
	l.At(next, tick)
	err := l.Run(ctx)
	fmt.Println(steps, "steps,", next.Sub(begin), err)
	fmt.Println("lateness is known:", l.Stats().LateMax > 0)
	// Output:
	// 5 steps, 8ms <nil>
	// lateness is known: true
}

func ExampleLoop_After() {
	ctx, stop := context.WithCancel(context.Background())
	l := loop.New(16)
	giveUp := l.After(time.Hour, func() { fmt.Println("no answer") })
	l.After(time.Millisecond, func() {
		fmt.Println("an answer; gave up before:", !giveUp())
		stop()
	})
	fmt.Println(l.Run(ctx))
	// Output:
	// an answer; gave up before: false
	// <nil>
}
