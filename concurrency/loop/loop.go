package loop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// ErrEnded is matched by the error of [Loop.Post] once the loop has ended: the
// function will not run.
var ErrEnded = errors.New("loop: ended")

// Loop runs functions one at a time. Make one with [New]. All methods are safe
// for concurrent use, also from functions that the loop runs. A Loop starts no
// goroutine.
type Loop struct {
	// Spin is for how long before a timer is due the loop polls instead of
	// sleeping: a core is busy for that long, per timer. 0 or less means that it
	// only sleeps. Set it before Run. In a bubble of [testing/synctest], where
	// time stands still while somebody polls, leave it at 0.
	Spin time.Duration

	size int
	wake chan struct{} // holds one token if the loop is to look again

	mu     sync.Mutex
	state  state
	id     string   // of the goroutine that runs
	queue  []func() // posted, from head on
	head   int
	room   chan struct{} // closed when there is room in the queue; nil if nobody waits
	timers timers
	seq    uint64 // of the next timer
	stats  Stats
	late   histogram
}

type state int

const (
	waiting state = iota // for Run
	running
	ended
)

// New returns a loop in whose queue at most queue posted functions wait. It
// panics if queue is not positive.
func New(queue int) *Loop {
	if queue <= 0 {
		panic(fmt.Sprintf("loop: New: queue is %d, must be positive", queue))
	}
	return &Loop{size: queue, wake: make(chan struct{}, 1)}
}

// Run runs functions on the calling goroutine until ctx ends. Those that have
// been posted by then still run; timers that have not fired are dropped; then
// Run returns nil. Functions are not told of the end of ctx, and one that does
// not return keeps Run from returning.
//
// A panic or [runtime.Goexit] of a function passes through Run and ends the
// loop; what was posted is dropped then. A loop runs once: a second call
// returns an error at once.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.begin(); err != nil {
		return err
	}
	defer l.abort() // if a function panics nobody may wait for the loop
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			l.end()
		default:
		}
		l.fire()
		f, over := l.next()
		switch {
		case f != nil:
			l.call(f)
		case over:
			return nil
		default:
			l.sleep(ctx, pause)
		}
	}
}

// Post hands f to the loop. It waits while the queue is full. Nil means that f
// will run, unless a function before it panics; functions posted by one
// goroutine run in its order. Post may be called before Run.
//
// The error matches [ErrEnded] if the loop has ended, and ctx.Err() and its
// cause if ctx ended first. Post never waits for itself: called by a function
// of the loop while the queue is full, it returns an error that matches
// [concurrency.ErrRejected]; [Loop.After] with no delay does not need room.
// Post panics if f is nil.
func (l *Loop) Post(ctx context.Context, f func()) error {
	if f == nil {
		panic("loop: Post: nil function")
	}
	for {
		if ctx.Err() != nil {
			return endOf(ctx)
		}
		done, room, err := l.post(f)
		if done {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

// post is done unless there is no room; then room is what to wait for.
func (l *Loop) post(f func()) (done bool, room <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state == ended:
		return true, nil, ErrEnded
	case len(l.queue)-l.head < l.size:
		l.queue = append(l.queue, f)
		l.notify()
		return true, nil, nil
	case l.id == goroutine():
		return true, nil, fmt.Errorf("%w: loop: the queue is full, and a function of the loop would wait for itself", concurrency.ErrRejected)
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return false, l.room, nil
}

// Stats returns the present state and what happened so far.
func (l *Loop) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Waiting = len(l.queue) - l.head
	s.Timers = len(l.timers)
	s.Late50, s.Late99 = l.late.quantile(0.50), l.late.quantile(0.99)
	return s
}

// notify makes the loop look again. It is called with the lock held.
func (l *Loop) notify() {
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (l *Loop) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != waiting {
		return errors.New("loop: Run: a loop runs once, and this one has been started before")
	}
	l.state, l.id = running, goroutine()
	return nil
}

// end refuses what comes from now on.
func (l *Loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = ended
	l.drop()
	l.release()
}

// abort is the end without those that wait in the queue; after a drained end
// there are none.
func (l *Loop) abort() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue, l.head = nil, 0
}

// release lets those who wait for room look again.
func (l *Loop) release() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

// next takes the oldest posted function. over means that none is to come.
func (l *Loop) next() (f func(), over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == len(l.queue) {
		return nil, l.state == ended
	}
	f = l.queue[l.head]
	l.queue[l.head] = nil // what it holds must not outlive it
	l.head++
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head >= l.size { // the array grows to twice the size at most
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.stats.Posted++
	l.release()
	return f, false
}

// call runs f and remembers how long it took.
func (l *Loop) call(f func()) {
	start := time.Now()
	f()
	took := time.Since(start)
	l.mu.Lock()
	l.stats.Longest = max(l.stats.Longest, took)
	l.mu.Unlock()
}

// sleep returns when there may be something to do.
func (l *Loop) sleep(ctx context.Context, pause *time.Timer) {
	due, ok := l.due()
	if !ok {
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
		return
	}
	if d := time.Until(due) - max(l.Spin, 0); d > 0 {
		pause.Reset(d)
		select {
		case <-l.wake:
			return
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
	if l.Spin <= 0 {
		return
	}
	for time.Now().Before(due) {
		select {
		case <-l.wake:
			return
		case <-ctx.Done():
			return
		default:
		}
	}
}

// goroutine identifies the calling goroutine. It is used only where one would
// wait for itself otherwise: if the format of stacks ever changes, that trap
// is back, and nothing else is lost.
func goroutine() string {
	var buf [64]byte
	id, _, ok := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte(" ["))
	if !ok {
		return ""
	}
	return string(id)
}

func endOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("loop: not posted: %w", cause)
	}
	return fmt.Errorf("loop: not posted: %w: %w", err, cause)
}
