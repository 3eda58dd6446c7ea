package concurrency

import (
	"context"
	"errors"
	"runtime"
	"slices"
)

// Run runs the services of a program, each on its own goroutine, and returns
// when all have returned. The end of ctx, or an error of one service, stops
// the others in reverse order: the last argument's context is cancelled, and
// only when that service has returned, that of the one before it. List what
// others depend on first. Drains therefore add up.
//
//   - A service that returns nil has finished; the others go on. Run returns
//     nil when all have.
//   - A service that returns an error before it was told to stop makes Run stop
//     all and return that error, joined with those of services that failed
//     while stopping.
//   - After the end of ctx Run returns nil, or what services returned in place
//     of nil while stopping. An error that only reports the cancellation
//     ([context.Canceled] or the cause) counts as nil then.
//   - A panic of a service stops all the others, and then panics in the caller
//     with a [*PanicError]; [runtime.Goexit] likewise ends the caller.
//
// A service's context carries the values of ctx. It ends when the service's
// turn to stop has come, not when ctx ends, and its [context.Cause] is that of
// ctx or the error that stopped everything. If ctx is done already no service
// is started. Without services Run returns nil at once. Run panics if a service
// is nil. A service that ignores its context keeps Run from returning.
func Run(ctx context.Context, services ...func(context.Context) error) error {
	for _, s := range services {
		mustCall("Run", s != nil)
	}
	if ctx.Err() != nil || len(services) == 0 {
		return nil //nolint:nilerr // stopping is not a failure
	}
	running := make([]*service, len(services))
	ended := make(chan *service, len(services)) // each sends once, and never blocks
	for i, f := range services {
		running[i] = start(ctx, f, ended)
	}
	var first, cause error
	for left := len(running); left > 0 && cause == nil; left-- {
		select {
		case s := <-ended:
			first, cause = s.err, s.reason()
		case <-ctx.Done():
			cause = context.Cause(ctx)
		}
	}
	for _, s := range slices.Backward(running) {
		s.stop(cause)
		<-s.done
	}
	return outcome(running, first, cause)
}

// service is one argument of Run. Its fields below done are written before
// done is closed.
type service struct {
	stop context.CancelCauseFunc
	done chan struct{}

	err      error
	panicked *PanicError
	goexit   bool
}

func start(ctx context.Context, f func(context.Context) error, ended chan<- *service) *service {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &service{stop: cancel, done: make(chan struct{}), goexit: true}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.panicked, s.goexit = newPanicError(v), false
			}
			ended <- s
			close(s.done) // last: nothing of this goroutine outlives Run
		}()
		s.err = f(own)
		s.goexit = false
	}()
	return s
}

// reason is why the others have to stop; nil if they need not.
func (s *service) reason() error {
	switch {
	case s.panicked != nil:
		return s.panicked
	case s.goexit:
		return errGoexit
	}
	return s.err
}

// outcome puts together what Run returns. All services have returned; cause is
// why, and nil only if none failed and ctx goes on.
func outcome(all []*service, first, cause error) error {
	var later []error
	exit := false
	for _, s := range all {
		if s.panicked != nil {
			panic(s.panicked)
		}
		exit = exit || s.goexit
		if s.err != nil && !onlyStopped(s.err, cause) {
			later = append(later, s.err)
		}
	}
	if exit {
		runtime.Goexit()
	}
	switch {
	case len(later) == 0:
		return first
	case first == nil && len(later) == 1:
		return later[0]
	}
	return errors.Join(append([]error{first}, later...)...)
}

// onlyStopped reports whether err, of a service that was stopped because of
// cause, says no more than that. What started it all does not count twice.
func onlyStopped(err, cause error) bool {
	if err == cause || errors.Is(err, context.Canceled) { //nolint:errorlint // the very value
		return true
	}
	// Where a deadline ended ctx, one of the service's own must not be taken for
	// it: a drain that ran out of time is a failure.
	return errors.Is(err, cause) && !errors.Is(cause, context.DeadlineExceeded)
}
