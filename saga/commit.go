package saga

import (
	"context"
	"errors"
	"sync"
	"time"
)

// committer writes the changes of many sagas in few calls of the store: whoever
// comes first writes for all who come while the store is busy. It needs no
// goroutine of its own.
type committer struct {
	store Store
	lead  chan struct{} // holds a token while somebody writes

	mu    sync.Mutex
	queue []*pendingChange
}

type pendingChange struct {
	change Change
	done   chan struct{}
	err    error
}

// maxBatch bounds one call of Store.Commit.
const maxBatch = 256

var errMisaligned = errors.New("the store's Commit returned another number of results than it got changes")

// apply returns the result of one change. It waits for the store as long as
// limit allows, whatever the caller's context says: a write in flight has to be
// known.
func (c *committer) apply(ctx context.Context, change Change, limit time.Duration) error {
	p := &pendingChange{change: change, done: make(chan struct{})}
	c.mu.Lock()
	c.queue = append(c.queue, p)
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case c.lead <- struct{}{}:
	}
	defer func() { <-c.lead }()
	for {
		select {
		case <-p.done:
			return p.err
		default:
			c.write(context.WithoutCancel(ctx), limit)
		}
	}
}

func (c *committer) write(ctx context.Context, limit time.Duration) {
	c.mu.Lock()
	n := min(len(c.queue), maxBatch)
	batch := c.queue[:n:n]
	c.queue = c.queue[n:]
	c.mu.Unlock()
	changes := make([]Change, n)
	for i, p := range batch {
		changes[i] = p.change
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results, err := c.store.Commit(ctx, changes)
	if err == nil && len(results) != n {
		err = errMisaligned
	}
	for i, p := range batch {
		if p.err = err; err == nil {
			p.err = results[i]
		}
		close(p.done)
	}
}
