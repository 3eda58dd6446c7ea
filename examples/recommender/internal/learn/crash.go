package learn

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/mainstay-go/mainstay/saga"
)

// crashing kills the process, as kill -9 does, right after a durable write.
type crashing struct {
	saga.Store

	at     int
	writes atomic.Int64
}

// Create implements saga.Store.
func (c *crashing) Create(ctx context.Context, r saga.Record) error {
	err := c.Store.Create(ctx, r)
	c.count()
	return err
}

// Commit implements saga.Store.
func (c *crashing) Commit(ctx context.Context, changes []saga.Change) ([]error, error) {
	errs, err := c.Store.Commit(ctx, changes)
	c.count()
	return errs, err
}

func (c *crashing) count() {
	if int(c.writes.Add(1)) == c.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
