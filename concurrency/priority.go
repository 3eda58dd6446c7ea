package concurrency

import "context"

// WithPriority returns ctx marked with a priority, for limiters that choose
// whom to refuse: a higher one is refused later. Any number will do. A context
// without the mark has priority 0.
func WithPriority(ctx context.Context, priority int) context.Context {
	return context.WithValue(ctx, priorityKey{}, priority)
}

type priorityKey struct{}
