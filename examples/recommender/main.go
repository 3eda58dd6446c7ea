// Command recommender is the whole picture in one program: a shop's purchases
// become features, a gateway answers recommendations from features, model and
// cache inside a deadline, drift is noticed, a retrained model is rolled out,
// and nothing is lost. Its README explains the parts and the output.
//
//	go run ./examples/recommender
//
// It exits with 0 if every invariant held, with 1 if one did not, and with 2
// if it could not run as it was told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, problems io.Writer) int {
	c, err := parse(args, problems)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case err != nil:
		fmt.Fprintln(problems, "recommender:", err)
		return 2
	}
	// Short pauses are worth some memory here: the peak stays far below 512 MiB.
	debug.SetGCPercent(300)
	debug.SetMemoryLimit(384 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := start(ctx, c, out)
	switch {
	case err != nil && ctx.Err() != nil && c.role != "all":
		return 0 // a role that was told to stop
	case err != nil:
		fmt.Fprintln(problems, "recommender:", err)
		if _, ok := errors.AsType[*setupError](err); ok {
			return 2
		}
		return 1
	case !ok:
		return 1
	}
	return 0
}

// setupError is the cause of exit status 2: nothing has run yet.
type setupError struct{ err error }

func (e *setupError) Error() string { return e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

func setup(err error) error {
	if err == nil {
		return nil
	}
	return &setupError{err}
}
