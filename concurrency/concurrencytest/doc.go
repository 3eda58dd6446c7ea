// Package concurrencytest helps to test code that starts goroutines, and
// limiters that implement [concurrency.Limiter].
//
// [CheckLeaks] finds what outlives a test. [TestLimiter] is the contract of
// concurrency.Limiter as a test: a limiter of one's own passes it or breaks a
// promise its users rely on.
package concurrencytest
