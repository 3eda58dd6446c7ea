package concurrency

import "testing"

// A ring is as large as the widest window, not as far as it has come, and does
// not move while it need not.
func TestRingIsAsLargeAsItsWindow(t *testing.T) {
	var r ring[int]
	*r.at(0, 0) = 0
	first := &r.buf[0]
	next := 1
	slide := func(width, upTo int) {
		for ; next < upTo; next++ {
			low := max(0, next-width+1)
			*r.at(low, next) = next
			for i := low; i <= next; i++ {
				if got := *r.at(low, i); got != i {
					t.Fatalf("[%d, %d] has %d for %d", low, next, got, i)
				}
			}
		}
	}
	slide(8, 100)
	if len(r.buf) != 8 || &r.buf[0] != first {
		t.Errorf("a window of 8 has become a ring of %d; moved: %v", len(r.buf), &r.buf[0] != first)
	}
	// What is in it stays in its place when it grows, by one or by far.
	*r.at(95, 103) = 103
	for i := 95; i < 100; i++ {
		if got := *r.at(95, i); len(r.buf) != 16 || got != i {
			t.Errorf("grown to %d, has %d for %d", len(r.buf), got, i)
		}
	}
	*r.at(95, 95+64) = 159
	for i := 95; i < 100; i++ {
		if got := *r.at(95, i); len(r.buf) != 128 || got != i {
			t.Errorf("grown to %d, has %d for %d", len(r.buf), got, i)
		}
	}
}
