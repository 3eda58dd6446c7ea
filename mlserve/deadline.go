package mlserve

import (
	"context"
	"sync"
	"time"
)

// deadline is a context that ends at a time, like that of
// [context.WithDeadline], but starts its timer only when somebody asks for
// Done. A model of a few microseconds looks at Err at most, and the timer, its
// entry in the parent and their four allocations would cost more than all else
// the server does for a request.
type deadline struct {
	context.Context //nolint:containedctx // it is a context

	end time.Time

	mu     sync.Mutex
	real   context.Context //nolint:containedctx // likewise, once it is needed
	cancel context.CancelFunc
	ended  bool
}

// within bounds ctx, unless it ends by then anyway.
func within(ctx context.Context, end time.Time) (context.Context, context.CancelFunc) {
	if d, ok := ctx.Deadline(); ok && !end.Before(d) {
		return ctx, func() {}
	}
	c := &deadline{Context: ctx, end: end}
	return c, c.stop
}

// Deadline implements [context.Context].
func (c *deadline) Deadline() (time.Time, bool) { return c.end, true }

// Done implements [context.Context]; it starts the timer.
func (c *deadline) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arm().Done()
}

// Err implements [context.Context].
func (c *deadline) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil && !c.ended && c.Context.Err() == nil && time.Now().Before(c.end) {
		return nil
	}
	return c.arm().Err() // from here on the reason stays what it is
}

// Value asks the armed context where there is one, as it is there that the
// context package looks for what to attach children and causes to.
func (c *deadline) Value(key any) any {
	if c.Err() == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.real == nil {
			return c.Context.Value(key)
		}
	}
	return c.real.Value(key)
}

// arm makes the context that this one stands for. Under mu.
func (c *deadline) arm() context.Context {
	if c.real == nil {
		c.real, c.cancel = context.WithDeadline(c.Context, c.end)
		if c.ended {
			c.cancel()
		}
	}
	return c.real
}

func (c *deadline) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
