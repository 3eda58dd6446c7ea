package loop

import "testing"

// A queue that never runs empty must not grow, nor hold on to what has run.
func TestTheQueueIsBounded(t *testing.T) {
	const size = 4
	l := New(size)
	for range size - 1 {
		if err := l.Post(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if err := l.Post(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
		if f, _ := l.next(); f == nil {
			t.Fatal("nothing to run")
		}
	}
	if cap(l.queue) > 4*size {
		t.Errorf("%d places for %d functions", cap(l.queue), size)
	}
	held := 0
	for _, f := range l.queue[:cap(l.queue)] {
		if f != nil {
			held++
		}
	}
	if held != size-1 {
		t.Errorf("%d functions held, %d wait", held, size-1)
	}
}
