package concurrency

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Queue is what a [Semaphore] does with those it cannot admit at once.
type Queue int

const (
	// FIFO lets them wait until their context ends, first come, first served.
	// Nobody overtakes: a large request at the head holds up smaller ones
	// behind it, and is never starved by them. Under lasting overload a FIFO
	// queue serves only those whose time is nearly up; prefer LIFO or NoWait in
	// front of anything with a deadline.
	FIFO Queue = iota
	// LIFO serves the newest first, because the caller of the oldest is the
	// likeliest to have left. When the queue has not been empty for 100 ms,
	// those that have waited for 100 ms are refused, and so is who waits for
	// 5 ms after that, until it has been empty again. Refusing happens when the
	// semaphore is used, not by a timer.
	LIFO
	// NoWait refuses at once whatever is not free.
	NoWait
)

// How long a LIFO queue may stand before it counts as overload, and how long
// one may wait in it then. They are the values of Maurer, "Fail at Scale", ACM
// Queue 13(8), 2015, after the CoDel of Nichols and Jacobson, 2012.
const (
	standing = 100 * time.Millisecond
	sojourn  = 5 * time.Millisecond
)

// Semaphore is a [Limiter] of a fixed number of units. Make one with
// [NewSemaphore]. It is safe for concurrent use and starts no goroutine.
type Semaphore struct {
	size  int64
	queue Queue

	mu      sync.Mutex
	used    int64
	head    *waiter // the oldest
	tail    *waiter // the newest
	waiting int64
	empty   time.Time // when the queue was last seen empty
	slots   slots

	admitted, rejected, failed uint64
}

var _ Limiter = (*Semaphore)(nil)

// waiter is one blocked Acquire. Its links are guarded by the semaphore's
// mutex; answer is sent to once, by whoever unlinks it.
type waiter struct {
	n          int64
	since      time.Time
	answer     chan bool // true: the units are yours
	prev, next *waiter
}

// NewSemaphore returns a semaphore of size units. It panics if size is not
// positive or q is not one of the constants.
func NewSemaphore(size int64, q Queue) *Semaphore {
	if size <= 0 {
		panic(fmt.Sprintf("concurrency: NewSemaphore: size is %d, must be positive", size))
	}
	if q < FIFO || q > NoWait {
		panic(fmt.Sprintf("concurrency: NewSemaphore: unknown Queue %d", q))
	}
	return &Semaphore{size: size, queue: q}
}

// Acquire implements [Limiter]: it takes n units, waiting for them as the
// queue says. It fails at once, whatever is free, if ctx is done, and if n is
// not between 1 and the size; the latter error matches [ErrRejected] and is
// marked [Permanent]. So is that of a nested call for more than the permit in
// ctx ([Permit.Context]) holds, as waiting for the rest while holding a part is
// how deadlocks are made.
func (s *Semaphore) Acquire(ctx context.Context, n int64) (Permit, error) {
	if n <= 0 || n > s.size {
		return s.refuse("semaphore: cannot ever admit %d units of %d", n, s.size)
	}
	if held := lent(ctx, s.mark()); held > 0 {
		if n > held {
			return s.refuse("semaphore: cannot lend %d units from a permit of %d", n, held)
		}
		return Permit{}, nil
	}
	s.mu.Lock()
	if ctx.Err() != nil {
		s.rejected++
		s.mu.Unlock()
		return Permit{}, fmt.Errorf("concurrency: semaphore not asked: %w", endOf(ctx))
	}
	if s.head == nil && s.used+n <= s.size {
		s.used += n
		p := s.issue(ctx, n)
		s.mu.Unlock()
		return p, nil
	}
	if s.queue == NoWait {
		s.rejected++
		used := s.used
		s.mu.Unlock()
		return Permit{}, fmt.Errorf("%w: semaphore: %d of %d units in use, asked for %d", ErrRejected, used, s.size, n)
	}
	w := s.push(n)
	if s.queue == LIFO {
		s.dispatch() // the newest comes first, and may fit where the one before it did not
	}
	s.mu.Unlock()
	return s.wait(ctx, w)
}

func (s *Semaphore) refuse(format string, a, b int64) (Permit, error) {
	s.mu.Lock()
	s.rejected++
	s.mu.Unlock()
	return Permit{}, refusal(format, a, b)
}

func (s *Semaphore) wait(ctx context.Context, w *waiter) (Permit, error) {
	var admitted, answered bool
	select {
	case admitted = <-w.answer:
		answered = true
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !answered {
		select {
		case admitted = <-w.answer: // just before the lock was ours
			answered = true
		default:
			s.unlink(w)
		}
	}
	waited := time.Since(w.since).Round(time.Microsecond)
	if answered && !admitted {
		return Permit{}, fmt.Errorf("%w: semaphore: the queue stands, dropped after %v", ErrRejected, waited)
	}
	if admitted && ctx.Err() == nil {
		return s.issue(ctx, w.n), nil
	}
	if admitted {
		s.used -= w.n // nobody is left to use them
	}
	s.rejected++
	s.dispatch() // those behind may fit now
	return Permit{}, fmt.Errorf("concurrency: semaphore: waited %v: %w", waited, endOf(ctx))
}

// Stats returns the present state and the counts so far.
func (s *Semaphore) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Limit: s.size, InFlight: s.used, Waiting: s.waiting,
		Admitted: s.admitted, Rejected: s.rejected, Failed: s.failed,
	}
}

// issue makes the permit for n units that are already counted as used.
func (s *Semaphore) issue(ctx context.Context, n int64) Permit {
	s.admitted++
	return s.slots.issue(ctx, s, n)
}

// settle implements owner.
func (s *Semaphore) settle(sl *slot, n int64, known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known && err != nil {
		s.failed++
	}
	s.used -= n
	s.slots.put(sl)
	s.dispatch()
}

// mark implements owner.
func (s *Semaphore) mark() any { return semaphoreMark{s} }

type semaphoreMark struct{ *Semaphore }

// dispatch hands free units to those who wait, in the order of the queue.
func (s *Semaphore) dispatch() {
	if s.queue == LIFO && s.head != nil {
		s.shed(time.Now())
	}
	for s.head != nil {
		w := s.head
		if s.queue == LIFO {
			w = s.tail
		}
		if s.used+w.n > s.size {
			return
		}
		s.used += w.n
		s.unlink(w)
		w.answer <- true
	}
}

// shed drops the oldest while they have waited for too long.
func (s *Semaphore) shed(now time.Time) {
	allowed := standing
	if now.Sub(s.empty) >= standing {
		allowed = sojourn
	}
	for w := s.head; w != nil && now.Sub(w.since) >= allowed; w = s.head {
		s.unlink(w)
		s.rejected++
		w.answer <- false
	}
}

func (s *Semaphore) push(n int64) *waiter {
	w := &waiter{n: n, since: time.Now(), answer: make(chan bool, 1), prev: s.tail}
	if s.tail == nil {
		s.head, s.empty = w, w.since
	} else {
		s.tail.next = w
	}
	s.tail = w
	s.waiting++
	return w
}

func (s *Semaphore) unlink(w *waiter) {
	if w.prev == nil {
		s.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	s.waiting--
}
