package memory

import (
	"slices"
	"time"

	"github.com/mainstay-go/mainstay/messaging/internal/frontier"
)

// group is one consumer group of one topic: a cursor for each partition, and
// the members that share them.
type group struct {
	topic   *topic
	cursors []*cursor
	members []*receiver
}

func (t *topic) group(name string) *group {
	g := t.groups[name]
	if g == nil {
		g = &group{topic: t}
		for _, p := range t.parts {
			g.cursors = append(g.cursors, &cursor{
				part: p, next: p.base, done: frontier.New(p.base, 0),
				queues: make(map[string]*queue), out: make(map[int64]*ticket),
			})
		}
		t.groups[name] = g
	}
	return g
}

// rebalance gives each partition an owner, so that the members' shares differ
// by one at most, and moves as few as that takes.
func (g *group) rebalance(now time.Time) {
	share := make(map[*receiver]int, len(g.members))
	for _, c := range g.cursors {
		if c.owner != nil && slices.Contains(g.members, c.owner.to) {
			share[c.owner.to]++
		} else if c.owner != nil {
			c.revoke(now)
		}
	}
	if len(g.members) == 0 {
		return
	}
	least := func() *receiver {
		return slices.MinFunc(g.members, func(a, b *receiver) int { return share[a] - share[b] })
	}
	for _, c := range g.cursors {
		if c.owner == nil {
			r := least()
			c.assign(r)
			share[r]++
		}
	}
	for {
		from := slices.MaxFunc(g.members, func(a, b *receiver) int { return share[a] - share[b] })
		to := least()
		if share[from]-share[to] <= 1 {
			return
		}
		for _, c := range slices.Backward(g.cursors) {
			if c.owner.to == from {
				c.revoke(now)
				c.assign(to)
				break
			}
		}
		share[from]--
		share[to]++
	}
}

func (g *group) lag(now time.Time) (messages int64, oldest time.Duration) {
	for _, c := range g.cursors {
		low := c.done.Frontier()
		messages += c.part.end() - low - int64(c.settled)
		if low < c.part.end() {
			oldest = max(oldest, now.Sub(c.part.log[low-c.part.base].at))
		}
	}
	return messages, oldest
}
