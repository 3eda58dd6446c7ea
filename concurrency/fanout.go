package concurrency

import (
	"context"
	"errors"
	"fmt"
)

// Result is the outcome of one item of [MapAll] or [GatherAll].
type Result[R any] struct {
	// Value is what the function returned. It is the zero R if the function
	// panicked or was never started.
	Value R
	// Err is what the function returned, a [*PanicError] if it panicked, and
	// the [context.Cause] of the context if it was never started.
	Err error
}

// Map calls f for every element of in, at most limit at a time, and returns
// the results in the order of in. The first error cancels the context of the
// calls that run, with that error as [context.Cause], prevents further ones
// from starting, and is returned, with nil results, when all have returned. If
// ctx ends before every element was started, the error is context.Cause(ctx).
//
// An empty in returns an empty, non-nil slice and a nil error. Map panics if
// limit is not positive or f is nil, and with a [*PanicError] if f panics. f is
// called concurrently and must not use its context after returning; in is only
// read.
func Map[T, R any](ctx context.Context, limit int, in []T, f func(context.Context, T) (R, error)) ([]R, error) {
	mustCall("Map", f != nil)
	out := make([]R, len(in))
	_, err := fan(ctx, "Map", limit, len(in), func(ctx context.Context, i int) (err error) {
		out[i], err = f(ctx, in[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// MapAll calls f for every element of in, at most limit at a time, and returns
// one [Result] per element, in the order of in. An element that fails or
// panics does not disturb the others. Once ctx is done no further element is
// started; the slots of those that never were carry context.Cause(ctx).
//
// An empty in returns an empty, non-nil slice. MapAll panics if limit is not
// positive or f is nil. f is called concurrently and must not use its context
// after returning; in is only read.
func MapAll[T, R any](ctx context.Context, limit int, in []T, f func(context.Context, T) (R, error)) []Result[R] {
	mustCall("MapAll", f != nil)
	return all(ctx, "MapAll", limit, in, f)
}

func all[T, R any](ctx context.Context, name string, limit int, in []T, f func(context.Context, T) (R, error)) []Result[R] {
	out := make([]Result[R], len(in))
	started, _ := fan(ctx, name, limit, len(in), func(fctx context.Context, i int) error {
		defer func() {
			if v := recover(); v != nil {
				out[i] = Result[R]{Err: newPanicError(v)}
			}
		}()
		v, err := f(fctx, in[i])
		out[i] = Result[R]{Value: v, Err: withCause(ctx, err)}
		return nil
	})
	for i := started; i < len(out); i++ {
		out[i].Err = context.Cause(ctx)
	}
	return out
}

// Each is [Map] for functions without a result.
func Each[T any](ctx context.Context, limit int, in []T, f func(context.Context, T) error) error {
	mustCall("Each", f != nil)
	_, err := fan(ctx, "Each", limit, len(in), func(ctx context.Context, i int) error {
		return f(ctx, in[i])
	})
	return err
}

// Gather calls every function of fs, at most limit at a time, and returns their
// results in the order of fs. Errors, panics, the end of ctx and an empty fs
// are as in [Map]; a nil function panics before any is called.
func Gather[R any](ctx context.Context, limit int, fs ...func(context.Context) (R, error)) ([]R, error) {
	mustCall("Gather", noneNil(fs))
	out := make([]R, len(fs))
	_, err := fan(ctx, "Gather", limit, len(fs), func(ctx context.Context, i int) (err error) {
		out[i], err = fs[i](ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GatherAll calls every function of fs, at most limit at a time, and returns
// one [Result] per function, in the order of fs. Errors, panics, the end of ctx
// and an empty fs are as in [MapAll]; a nil function panics before any is
// called.
func GatherAll[R any](ctx context.Context, limit int, fs ...func(context.Context) (R, error)) []Result[R] {
	mustCall("GatherAll", noneNil(fs))
	return all(ctx, "GatherAll", limit, fs, func(ctx context.Context, f func(context.Context) (R, error)) (R, error) {
		return f(ctx)
	})
}

// errLost is the cause the losers of First see.
var errLost = errors.New("concurrency: First: another function succeeded")

// First calls the functions of fs, at most limit at a time and started in
// order, and returns the first success. The others are then cancelled and
// joined; what they return is dropped, except for a panic, which panics in the
// caller as in [Map].
//
// If none succeeds the error joins those of all functions in the order of fs,
// and context.Cause(ctx) if ctx ended before every function was started.
// First panics if limit is not positive, or fs is empty or holds nil.
func First[R any](ctx context.Context, limit int, fs ...func(context.Context) (R, error)) (R, error) {
	mustCall("First", len(fs) > 0 && noneNil(fs))
	errs := make([]error, len(fs))
	started, err := fan(ctx, "First", limit, len(fs), func(ctx context.Context, i int) error {
		v, err := fs[i](ctx)
		if err != nil {
			errs[i] = err
			return nil //nolint:nilerr // a failure does not end First, a success does
		}
		return &won[R]{v}
	})
	if w, ok := errors.AsType[*won[R]](err); ok {
		return w.value, nil
	}
	for i, e := range errs {
		errs[i] = withCause(ctx, e)
	}
	err = errors.Join(errs...)
	if started < len(fs) {
		err = errors.Join(err, context.Cause(ctx))
	}
	var zero R
	return zero, err
}

// won stops the fan-out of First the way an error stops that of Map.
type won[R any] struct{ value R }

func (*won[R]) Error() string { return errLost.Error() }
func (*won[R]) Unwrap() error { return errLost }

// Join2 runs a and b at the same time and returns both results. An error of
// one cancels the other; Join2 returns when both have, with zero values if
// there was an error. Errors, panics and the end of ctx are as in [Map]; a nil
// function panics before either is called.
func Join2[A, B any](ctx context.Context, a func(context.Context) (A, error), b func(context.Context) (B, error)) (A, B, error) {
	mustCall("Join2", a != nil && b != nil)
	var (
		va A
		vb B
	)
	_, err := fan(ctx, "Join2", 2, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			va, err = a(ctx)
		} else {
			vb, err = b(ctx)
		}
		return err
	})
	if err != nil {
		var (
			zeroA A
			zeroB B
		)
		return zeroA, zeroB, err
	}
	return va, vb, nil
}

// Join3 is [Join2] for three functions.
func Join3[A, B, C any](ctx context.Context, a func(context.Context) (A, error), b func(context.Context) (B, error), c func(context.Context) (C, error)) (A, B, C, error) {
	mustCall("Join3", a != nil && b != nil && c != nil)
	var (
		va A
		vb B
		vc C
	)
	_, err := fan(ctx, "Join3", 3, 3, func(ctx context.Context, i int) (err error) {
		switch i {
		case 0:
			va, err = a(ctx)
		case 1:
			vb, err = b(ctx)
		default:
			vc, err = c(ctx)
		}
		return err
	})
	if err != nil {
		var (
			zeroA A
			zeroB B
			zeroC C
		)
		return zeroA, zeroB, zeroC, err
	}
	return va, vb, vc, nil
}

// withCause adds the reason of a cancellation to an error that says only that
// there was one, which is all that ctx.Err() tells the function returning it.
func withCause(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	cause := context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func mustCall(name string, ok bool) {
	if !ok {
		panic("concurrency: " + name + ": nothing to call: nil function")
	}
}

func noneNil[R any](fs []func(context.Context) (R, error)) bool {
	for _, f := range fs {
		if f == nil {
			return false
		}
	}
	return true
}
