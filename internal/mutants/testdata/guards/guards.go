// Package guards has a mutant of each kind that its tests notice, and one that they do not.
package guards

import "time"

const size = 2 + 1 // in no function: gremlins calls it not covered

// Level is a named number, of which there are sums.
type Level float64

// Diff is generic, of numbers.
func Diff[T int | float64](a, b T) T { return a - b }

// Sum is of strings too, and they have no difference.
func Sum[T int | string](a, b T) T {
	return a + b
}

// Noticed has its tests.
func Noticed(a, b int, f Level, named bool) (int, Level, bool) {
	var buffer [4 - 1]byte
	n := len(buffer) + 10*a
	n -= b % 7
	f = -f / 2
	for i := 0; i < a; i++ {
		n++
	}
	ok := named && a > 1 || b <= 3
	if a != b && !ok {
		n = 0
	}
	return n, f, ok
}

// Overlooked has tests that assert nothing, but that it returns.
func Overlooked(a, b int, f Level) (int, Level) {
	n := 10*a + b - a%7
	wait := 2*time.Second + time.Duration(n)
	if a >= 0 || wait < 1<<a {
		n--
	}
	return n, -f * 1e3
}

// Until ends because it counts.
func Until(n int) int {
	for i := 0; i != n; {
		i++
	}
	return n
}

// Wait ends because somebody sends.
func Wait(n int) int {
	c := make(chan int)
	go func() {
		if n > 0 {
			c <- n
		}
	}()
	return <-c
}

// Lazy must not look at the second where the first decides.
func Lazy(p *int) bool { return p != nil && *p > 0 || p == nil }

// Name is joined: there is no difference of strings.
func Name(s string) string { return s + "!" }

// Half is computed by the compiler, exactly: 1/3.0 is no constant of a float.
func Half() float64 {
	const third = 1 / 3.0
	return third + 1/6.0
}

// Never is called by no test.
func Never(a int) int { return a * size }
