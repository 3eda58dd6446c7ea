package loop

import (
	"container/heap"
	"time"
)

// After runs f on the loop when d has passed; a d that is not positive means
// as soon as possible, after what is running. It never waits. stop prevents it,
// and reports whether it did: false means that f has begun, was stopped before,
// or will never run because the loop has ended. Timers do not count against the
// queue. After panics if f is nil.
func (l *Loop) After(d time.Duration, f func()) (stop func() bool) {
	return l.At(time.Now().Add(max(d, 0)), f)
}

// At is [Loop.After] with the time itself; a time that has passed means as soon
// as possible. Timers fire in the order of their times, and in the order of the
// calls where those are equal.
func (l *Loop) At(due time.Time, f func()) (stop func() bool) {
	if f == nil {
		panic("loop: At: nil function")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &timer{due: due, seq: l.seq, f: f, index: -1}
	if l.state == ended {
		return func() bool { return false }
	}
	l.seq++
	heap.Push(&l.timers, t)
	if t.index == 0 {
		l.notify() // the loop may sleep for too long
	}
	return func() bool { return l.stop(t) }
}

func (l *Loop) stop(t *timer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&l.timers, t.index)
	return true
}

// fire runs the timers that are due. Those that are made meanwhile have to
// wait for the next turn, or a function that asks for itself again at once
// would keep posted ones from running.
func (l *Loop) fire() {
	l.mu.Lock()
	made := l.seq
	l.mu.Unlock()
	for {
		f := l.pop(made)
		if f == nil {
			return
		}
		l.call(f)
	}
}

// pop takes the first timer if it is due and was made before the given one.
func (l *Loop) pop(made uint64) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.timers) == 0 || l.timers[0].seq >= made {
		return nil
	}
	late := time.Since(l.timers[0].due)
	if late < 0 {
		return nil
	}
	t := heap.Pop(&l.timers).(*timer)
	l.stats.Fired++
	l.stats.LateMax = max(l.stats.LateMax, late)
	l.late.add(late)
	return t.f
}

// due is when the first timer is.
func (l *Loop) due() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.timers) == 0 {
		return time.Time{}, false
	}
	return l.timers[0].due, true
}

// drop forgets all timers. It is called with the lock held.
func (l *Loop) drop() {
	for _, t := range l.timers {
		t.index = -1
	}
	l.timers = nil
}

type timer struct {
	due   time.Time
	seq   uint64
	f     func()
	index int // in the heap; -1: not there
}

// timers is a heap, the earliest first.
type timers []*timer

func (h timers) Len() int { return len(h) }

func (h timers) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].seq < h[j].seq
	}
	return h[i].due.Before(h[j].due)
}

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}
