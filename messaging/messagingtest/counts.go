package messagingtest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Counts are a ledger's results.
type Counts struct {
	// Published is the number of messages whose publishing succeeded.
	Published int
	// Unknown is the number of messages whose publishing ended with an
	// unknown outcome, and did not succeed later: they may be handled or not.
	Unknown int
	// Delivered is the number of handlings that were begun.
	Delivered int
	// Lost is the number of published messages that no handling has
	// succeeded for.
	Lost int
	// Duplicate is the number of successes beyond the first of a message.
	Duplicate int
	// Inverted is the number of published messages whose first success came
	// after that of a message of the same key which was published later.
	Inverted int
	// Overlapping is the number of handlings that began while another one of
	// the same key was under way.
	Overlapping int
	// Rekeyed is the number of handlings with another key than that which the
	// message was published with, or was first handled with if it was not.
	Rekeyed int
}

// Counts returns what there is so far. It looks at every message.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	for _, m := range l.messages {
		switch {
		case m.sent > 0 && m.successes == 0:
			c.Lost++
		case m.sent == 0 && m.unknown:
			c.Unknown++
		}
	}
	c.Inverted = len(l.inverted())
	for _, n := range l.overlaps() {
		c.Overlapping += n
	}
	for _, n := range l.rekeyed() {
		c.Rekeyed += n
	}
	return c
}

// inverted returns the messages that were handled after a later one.
func (l *Ledger) inverted() (out []*booked) {
	var sent []*booked
	for _, m := range l.messages {
		if m.sent > 0 && m.first > 0 && m.key != "" {
			sent = append(sent, m)
		}
	}
	slices.SortFunc(sent, func(a, b *booked) int { return a.sent - b.sent })
	earliest := make(map[string]int) // first success of what was published later, by key
	for _, m := range slices.Backward(sent) {
		if e, ok := earliest[m.key]; ok && m.first > e {
			out = append(out, m)
		} else {
			earliest[m.key] = m.first
		}
	}
	return out
}

// overlaps returns, by key, how many handlings began while another one was under
// way.
func (l *Ledger) overlaps() map[string]int {
	byKey := make(map[string][]handling)
	for _, m := range l.messages {
		if m.key != "" {
			byKey[m.key] = append(byKey[m.key], m.handled...)
		}
	}
	out := make(map[string]int)
	for key, all := range byKey {
		slices.SortFunc(all, func(a, b handling) int { return a.begin - b.begin })
		last := 0 // when the last of those before ended
		for _, h := range all {
			if h.begin < last {
				out[key]++
			}
			if h.end == 0 {
				h.end = math.MaxInt
			}
			last = max(last, h.end)
		}
	}
	return out
}

// rekeyed returns, by message, how many handlings had another key than its own.
func (l *Ledger) rekeyed() map[string]int {
	out := make(map[string]int)
	for id, m := range l.messages {
		for _, h := range m.handled {
			if h.key != m.key {
				out[id]++
			}
		}
	}
	return out
}

// lost is Counts.Lost alone.
func (l *Ledger) lost() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.messages {
		if m.sent > 0 && m.successes == 0 {
			n++
		}
	}
	return n
}

// delivered is Counts.Delivered alone.
func (l *Ledger) delivered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts.Delivered
}

// successes returns, by message, how often it was handled with success.
func (l *Ledger) successes() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]int, len(l.messages))
	for id, m := range l.messages {
		out[id] = m.successes
	}
	return out
}

// twice returns the messages that were handled more than once.
func (l *Ledger) twice() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, m := range l.messages {
		if m.successes > 1 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// String returns the counts and the first few messages that are to blame, for
// a failing test.
func (l *Ledger) String() string {
	c, twice := l.Counts(), l.twice()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost, inverted, overlapping []string
	for _, m := range l.messages {
		if m.sent > 0 && m.successes == 0 {
			lost = append(lost, m.id)
		}
	}
	for _, m := range l.inverted() {
		inverted = append(inverted, m.id)
	}
	for key := range l.overlaps() {
		overlapping = append(overlapping, "key "+key)
	}
	rekeyed := slices.Collect(maps.Keys(l.rekeyed()))
	var text strings.Builder
	fmt.Fprintf(&text, "%d published, %d unknown, %d delivered", c.Published, c.Unknown, c.Delivered)
	for _, x := range []struct {
		n    int
		name string
		ids  []string
	}{
		{c.Lost, "lost", lost}, {c.Duplicate, "duplicate", twice}, {c.Inverted, "inverted", inverted},
		{c.Overlapping, "overlapping", overlapping}, {c.Rekeyed, "rekeyed", rekeyed},
	} {
		fmt.Fprintf(&text, ", %d %s", x.n, x.name)
		if len(x.ids) == 0 {
			continue
		}
		slices.Sort(x.ids)
		more := ""
		if len(x.ids) > 5 {
			more = ", …"
		}
		fmt.Fprintf(&text, " (%s%s)", strings.Join(x.ids[:min(len(x.ids), 5)], ", "), more)
	}
	return text.String()
}
