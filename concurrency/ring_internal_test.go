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
	// What is in it stays in its place when it grows, and it grows no further than to
	// the next power of two.
	for _, c := range []struct{ width, size int }{{9, 16}, {17, 32}, {128, 128}} {
		*r.at(95, 95+c.width-1) = 95 + c.width - 1
		for i := 95; i < 100; i++ {
			if got := *r.at(95, i); len(r.buf) != c.size || got != i {
				t.Errorf("a window of %d has become a ring of %d, with %d for %d", c.width, len(r.buf), got, i)
			}
		}
	}
}
