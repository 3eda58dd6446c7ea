package concurrencytest_test

import (
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

func ExampleTestLimiter() {
	_ = func(t *testing.T) { // func TestMyLimiter
		concurrencytest.TestLimiter(t, func(size int64) concurrency.Limiter {
			return concurrency.NewSemaphore(size, concurrency.FIFO) // a limiter of one's own
		})
	}
	// Output:
}

func ExampleCheckLeaks() {
	_ = func(t *testing.T) { // func TestMyServer
		concurrencytest.CheckLeaks(t)
		// Start, use and stop what is tested.
	}
	// Output:
}

func ExampleSimulate() {
	_ = func(t *testing.T) { // func TestMyLimit
		calm := concurrencytest.Phase{
			Name: "calm", For: 20 * time.Second, Rate: 140,
			Service:  concurrencytest.Exponential(15*time.Millisecond, 5*time.Millisecond),
			Deadline: func(float64) time.Duration { return 200 * time.Millisecond },
		}
		slow := calm
		slow.Name, slow.Service = "slow", concurrencytest.Exponential(75*time.Millisecond, 25*time.Millisecond)
		reports := concurrencytest.Simulate(t, concurrencytest.Scenario{
			Seed: 1, Workers: 4, Phases: []concurrencytest.Phase{calm, slow, calm},
		}, func() concurrency.Limiter {
			return &concurrency.Admission{} // what is to be tried
		})
		for _, r := range reports {
			t.Log(r)
			if r.Goodput < 0.8 {
				t.Errorf("too few are answered in time: %v", r)
			}
		}
	}
	// Output:
}
