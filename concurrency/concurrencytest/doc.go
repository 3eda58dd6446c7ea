// Package concurrencytest helps to test code that starts goroutines, and
// limiters that implement [concurrency.Limiter].
//
// [CheckLeaks] finds what outlives a test. [TestLimiter] is the contract of
// concurrency.Limiter as a test: a limiter of one's own passes it or breaks a
// promise its users rely on. [Simulate] shows what a limiter is worth: it puts it between calls
// that arrive at random and a callee that slows down or gets more than it can do, for minutes of
// virtual time, and reports how many calls were answered in time.
package concurrencytest
