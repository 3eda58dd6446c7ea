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
	failed := make(chan *service, len(services)) // never blocks: one send each at most
	idle := make(chan struct{})
	for i, f := range services {
		running[i] = start(ctx, f, failed)
	}
	go func() {
		for _, s := range running {
			<-s.done
		}
		close(idle)
	}()

	var cause, first error
	select {
	case <-idle:
		// Unless one failed, as the last of them, all is well.
		select {
		case s := <-failed:
			first, cause = s.err, s.reason()
		default:
		}
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case s := <-failed:
		first, cause = s.err, s.reason()
	}
	for _, s := range slices.Backward(running) {
		s.stop(cause)
		<-s.done
	}
	<-idle
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

func start(ctx context.Context, f func(context.Context) error, failed chan<- *service) *service {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &service{stop: cancel, done: make(chan struct{}), goexit: true}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.panicked, s.goexit = newPanicError(v), false
			}
			if s.reason() != nil {
				failed <- s
			}
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

func outcome(all []*service, first, cause error) error {
	errs := []error{first}
	exit := false
	for _, s := range all {
		s.stop(nil) // frees the context of those that finished by themselves
		if s.panicked != nil {
			panic(s.panicked)
		}
		exit = exit || s.goexit
		if s.err == nil || s.err == first { //nolint:errorlint // the very value, not its like
			continue
		}
		if errors.Is(s.err, context.Canceled) || errors.Is(s.err, cause) {
			continue // it says only that it was stopped
		}
		errs = append(errs, s.err)
	}
	if exit {
		runtime.Goexit()
	}
	if errs = dropNil(errs); len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func dropNil(errs []error) []error {
	kept := errs[:0]
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	return kept
}
