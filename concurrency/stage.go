package concurrency

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"runtime"
	"sync"
)

// errLeft is the cause that f of a stream sees when the loop over its results
// has ended.
var errLeft = errors.New("concurrency: nobody takes the results of the stream any more")

// stage is one range over a stream or over batches, and what its goroutines
// share: one reads the source, the caller's takes the results, and others may
// work in between.
//
// They wait for each other on conditions of one mutex, which is not held while
// the source, f or the loop's body runs. Who waits for a condition also looks
// at ctx; its end wakes them all.
type stage struct {
	ctx    context.Context //nolint:containedctx // made for this range, and ends with it
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	unhook func() bool

	mu      sync.Mutex
	room    sync.Cond // the source may be read further
	work    sync.Cond // something is there to be worked on
	results sync.Cond // something is there to be taken, or nothing will be

	source func() // ends the stage that is the source, if one is
	closed bool   // the source has returned
	cut    bool   // ctx was done by then, so it may have been the source's reason
	fate
}

// begin lets the stage live until ctx ends or end is called.
func (s *stage) begin(ctx context.Context) {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.room.L, s.work.L, s.results.L = &s.mu, &s.mu, &s.mu
	s.wg.Add(1)
	s.unhook = context.AfterFunc(s.ctx, func() {
		defer s.wg.Done()
		s.mu.Lock()
		source := s.source
		s.wake()
		s.mu.Unlock()
		if source != nil {
			source()
		}
	})
}

// end returns when nothing of the stage is alive.
func (s *stage) end() {
	if s.settled() && s.unhook() {
		s.wg.Done()
	}
	s.cancel(errLeft)
	s.wg.Wait()
}

func (s *stage) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *stage) wake() {
	s.room.Broadcast()
	s.work.Broadcast()
	s.results.Broadcast()
}

// over reports whether nothing further is to be started. Its cost is an atomic
// load.
func (s *stage) over() bool { return s.ctx.Err() != nil }

// fallen reports whether something did not return, which ends the range.
func (s *stage) fallen() bool { return s.panicked != nil || s.goexit }

// fall is deferred by every goroutine of the stage. It must be deferred itself.
func (s *stage) fall(returned *bool) {
	if *returned {
		return
	}
	v := recover()
	s.mu.Lock()
	cause := s.meet(v)
	s.wake()
	s.mu.Unlock()
	s.cancel(cause)
}

// read starts to read src, and hands every element to put until that says no.
func read[T any](s *stage, src iter.Seq2[T, error], put func(T, error) bool) {
	s.wg.Go(func() {
		returned := false
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.closed, s.cut = true, s.over()
			s.wake()
		}()
		defer s.fall(&returned)
		src(into(s, put))
		returned = true
	})
}

// A stage whose source is another stage reads it on a goroutine of its own. When
// its loop ends, that goroutine may be waiting within the other stage, for a slow
// f perhaps, and the other stage cannot see that nobody wants the result. So the
// upper of two stages greets the lower one before its first result, through the
// yield it was given, and with the greeting says how to end it.

// greeting passes through yield like an error, from stage to stage only.
type greeting struct{ end func() }

func (*greeting) Error() string { return "concurrency: one stage greets the next" }

// into returns the yield of a stage. All of them are this one function literal,
// which must not be inlined elsewhere: its name is how greet knows a stage.
//
//go:noinline
func into[T any](s *stage, put func(T, error) bool) func(T, error) bool {
	return func(v T, err error) bool {
		if g, ok := err.(*greeting); ok { //nolint:errorlint // it is passed as it is
			s.mu.Lock()
			s.source = g.end
			s.mu.Unlock()
			return !s.over()
		}
		return put(v, err)
	}
}

// greet reports whether results are wanted. If yield is that of a stage, it says
// how to end this one.
func greet[T any](s *stage, yield func(T, error) bool) bool {
	if nameOf(yield) != nameOf(into[T](nil, nil)) {
		return true
	}
	var none T
	return yield(none, &greeting{func() { s.cancel(errLeft) }})
}

// nameOf is equal for all instances of a generic function.
func nameOf[T any](f func(T, error) bool) string {
	return runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
}
