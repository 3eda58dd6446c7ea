package concurrencytest_test

import (
	"testing"

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
