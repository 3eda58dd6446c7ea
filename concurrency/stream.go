package concurrency

import (
	"context"
	"errors"
	"iter"
	"math"
	"runtime"
	"sync/atomic"
)

// Stream calls f for the elements of src, at most limit at a time, and yields
// the results in the order of src. It is [Map] for what has no length, does not
// fit into memory, or is wanted as it comes:
//
//	for page, err := range concurrency.Stream(ctx, 8, urls, fetch) {
//
// Stages nest: a stream, or a [Batch], is the source of the next; [From] makes
// one of a plain sequence.
//
// Errors are results. One of f is yielded in its place, with the value f
// returned, and one of src in its place, with the zero R and without a call of
// f; the stream goes on after both. To end it at an error, leave the loop.
//
// At most 2*limit elements are alive: read from src and not yet through the
// loop. Within that window reading and working go on while the loop's body runs,
// and a result is yielded as soon as it is its turn, whatever src does meanwhile.
//
// Leaving the loop, by break, return or panic, cancels the context of the calls
// that run, starts nothing more, and returns when all have ended and src has
// returned. src is read on a goroutine of its own, which can be told to stop
// only when it yields: so a source that can block must obey ctx, and if it may
// be blocked when the loop is left, ctx is to be cancelled first. Where src is
// itself a stream or a Batch, leaving the loop ends that one too, at once.
//
// The end of ctx stops the reading and the starting. What was already started is
// yielded, except for errors that only say that ctx has ended; after that, when
// nothing is alive any more, context.Cause(ctx) is yielded, once and last. It is not
// if src had ended by itself and all its elements have their results: then the
// stream is complete.
//
// A panic in f or src cancels the calls that run, waits for them and goes on in
// the loop's goroutine as a [*PanicError]; runtime.Goexit likewise. f is called
// concurrently, and must not use its context after returning; src and the loop's
// body may run at the same time.
//
// Stream panics if limit is not positive, or src or f is nil. Nothing happens
// before the sequence is ranged over, which may be done again, also concurrently,
// if src allows that.
func Stream[T, R any](ctx context.Context, limit int, src iter.Seq2[T, error], f func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	return stream(ctx, "Stream", true, limit, src, f)
}

// StreamUnordered is [Stream] with the results in the order in which they become
// known, so that a slow element holds up no other. An error of src is known when
// it is read.
func StreamUnordered[T, R any](ctx context.Context, limit int, src iter.Seq2[T, error], f func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	return stream(ctx, "StreamUnordered", false, limit, src, f)
}

func stream[T, R any](ctx context.Context, name string, ordered bool, limit int, src iter.Seq2[T, error], f func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	mustLimit(name, limit)
	mustCall(name, src != nil && f != nil)
	return func(yield func(R, error) bool) {
		s := &flow[T, R]{f: f, ordered: ordered, limit: limit, window: 2 * min(limit, math.MaxInt/4)}
		s.begin(ctx)
		defer s.share()
		defer s.end()
		if greet(&s.stage, yield) {
			read(&s.stage, src, s.put)
			s.deliver(ctx, yield)
		}
	}
}

// flow is one range over a stream.
//
// An element is read, started, finished, taken and yielded. The place of its
// result is, in order, that in which it was read, and otherwise that in which it
// finished.
type flow[T, R any] struct {
	stage
	f       func(context.Context, T) (R, error)
	ordered bool
	limit   int
	window  int

	// Guarded by mu.
	queue         ring[job[T]]  // elements to be started
	head, tail    int           // the first of them, and the place for the next
	done          ring[done[R]] // results
	read          int           // elements read
	finished      int           // elements with a result
	taken         int           // results taken out of done
	running       int           // calls of f
	workers, idle int           // goroutines that call f, and those of them that wait
	waking        bool          // a worker is on its way to the queue
	wanting       bool          // the loop's goroutine waits for the next result

	yielded atomic.Int64 // results that are through the loop
	full    atomic.Bool  // the source waits for room
}

type job[T any] struct {
	v     T
	place int
}

type done[R any] struct {
	Result[R]
	ok bool // there is one
}

// put takes an element of the source, and returns when there is room for one
// more: false if none is wanted.
func (s *flow[T, R]) put(v T, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return false
	}
	place := s.read
	s.read++
	if err != nil {
		var none R
		s.finish(place, none, err)
	} else {
		*s.queue.at(s.head, s.tail) = job[T]{v, place}
		s.tail++
		s.call()
	}
	for patience := 3; s.crowded(); patience-- {
		if patience > 0 { // on busy cores the others make room, and need not wake this one
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
			continue
		}
		s.full.Store(true)
		if s.crowded() { // seen after the store: who makes room now sees full
			s.room.Wait()
		}
		s.full.Store(false)
	}
	return !s.over()
}

func (s *flow[T, R]) crowded() bool {
	return s.read-int(s.yielded.Load()) >= s.window && !s.over()
}

// call brings a worker to the elements that wait. One is on its way at a time,
// and calls the next when it has found work itself: for tiny tasks a few
// workers are enough, and it costs more to wake one than to do the task.
func (s *flow[T, R]) call() {
	switch {
	case s.waking || s.head == s.tail:
	case s.idle > 0:
		s.waking = true
		s.work.Signal()
	case s.workers < s.limit:
		s.waking = true
		s.workers++
		s.wg.Go(s.worker)
	}
}

func (s *flow[T, R]) worker() {
	returned := false
	defer s.fall(&returned)
	s.mu.Lock()
	s.waking = false
	for {
		for s.head == s.tail && !s.closed && !s.over() {
			s.idle++
			s.work.Wait()
			s.idle--
			s.waking = false
		}
		if s.head == s.tail || s.over() {
			break
		}
		j := take(s.queue.at(s.head, s.head))
		s.head++
		s.running++
		s.call()
		s.mu.Unlock()
		v, err := s.f(s.ctx, j.v)
		s.mu.Lock()
		s.running--
		s.finish(j.place, v, err)
	}
	s.results.Signal() // perhaps nothing more will come
	s.mu.Unlock()
	returned = true
}

func (s *flow[T, R]) finish(place int, v R, err error) {
	if !s.ordered {
		place = s.finished
	}
	s.finished++
	*s.done.at(s.taken, place) = done[R]{Result[R]{v, err}, true}
	if s.wanting && place == s.taken {
		s.wanting = false
		s.results.Signal()
	}
}

// deliver yields the results, and the end of ctx if that left anything out.
func (s *flow[T, R]) deliver(ctx context.Context, yield func(R, error) bool) {
	var (
		some []Result[R]
		none R
		cut  bool
	)
	for more := true; more; {
		some, more = s.next(some[:0])
		for i, r := range some {
			some[i] = Result[R]{} // it may be large, and the loop may take long
			if r.Err != nil && ended(ctx, r.Err) {
				cut = true
			} else if !yield(r.Value, r.Err) {
				return
			}
			s.yielded.Add(1)
			if s.full.Load() && s.full.CompareAndSwap(true, false) {
				s.mu.Lock()
				s.room.Signal()
				s.mu.Unlock()
			}
		}
	}
	s.end()
	if !s.fallen() && ctx.Err() != nil && (cut || s.cut || s.read != s.finished) {
		yield(none, context.Cause(ctx))
	}
}

// next waits for results, appends to buf all whose turn it is, and reports whether
// there may be more.
func (s *flow[T, R]) next(buf []Result[R]) (_ []Result[R], more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.fallen() {
			return buf, false
		}
		over := s.closed && s.running == 0 && (s.head == s.tail || s.over())
		for s.taken < s.read {
			d := s.done.at(s.taken, s.taken)
			if d.ok {
				buf = append(buf, take(d).Result)
			} else if !over {
				break
			}
			s.taken++
		}
		if over {
			return buf, false
		}
		if len(buf) > 0 {
			return buf, true
		}
		s.wanting = true
		s.results.Wait()
	}
}

// ended reports whether err says no more than that ctx has ended.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}
