package concurrency

import (
	"context"
	"time"
)

// WithPriority returns ctx marked with a priority, for limiters that choose
// whom to refuse: a higher one is refused later. Any number will do. A context
// without the mark has priority 0.
//
// An [Admission] compares it with what it has seen in the last 10 s: the highest
// may use all room there is, the next half of it, the one after that a quarter, and so on
// to an eighth. The priorities it tells apart are at most 8; with more of
// them those seen last count. Under lasting overload by the higher ones the lower ones get
// nothing.
func WithPriority(ctx context.Context, priority int) context.Context {
	return context.WithValue(ctx, priorityKey{}, priority)
}

type priorityKey struct{}

func priorityOf(ctx context.Context) int {
	p, _ := ctx.Value(priorityKey{}).(int)
	return p
}

// recently is how long a priority is remembered.
const recently = 10 * time.Second

// ranks are the priorities that were seen recently. The zero value has seen none.
type ranks struct {
	levels [8]level
	used   int
}

type level struct {
	priority int
	seen     time.Duration
}

// see notes a call.
func (r *ranks) see(priority int, now time.Duration) {
	oldest := 0
	for i := range r.levels[:r.used] {
		l := &r.levels[i]
		if l.priority == priority {
			l.seen = now
			return
		}
		if l.seen < r.levels[oldest].seen {
			oldest = i
		}
	}
	if r.used < len(r.levels) {
		oldest = r.used
		r.used++
	}
	r.levels[oldest] = level{priority, now}
}

// share is the part of the room that calls of this priority may fill.
func (r *ranks) share(priority int, now time.Duration) float64 {
	share := 1.0
	for _, l := range r.levels[:r.used] {
		if l.priority > priority && now-l.seen <= recently && share > 1.0/8 {
			share /= 2
		}
	}
	return share
}
