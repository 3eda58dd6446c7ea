// Package frontier finds how far a log may be committed when its messages
// finish out of order: up to the first that is not done, and no further.
package frontier

import (
	"fmt"
	"iter"
	"sort"
	"time"
)

// Tracker follows the messages of one partition in one assignment. Offsets
// must rise but may skip, as in compacted and transactional topics. It is not
// safe for concurrent use.
type Tracker struct {
	ring  []slot // a power of two long
	head  int    // the oldest that is not done; older ones have left
	n     int
	limit int
	next  int64
}

type slot struct {
	offset int64
	since  time.Time
	done   bool
}

// New returns a tracker that begins at offset start: everything below is done.
// It holds at most limit messages between the frontier and the newest begun; 0
// or less is no limit. A bounded gap is what keeps one stuck message from
// making a restart replay the world.
func New(start int64, limit int) *Tracker {
	return &Tracker{next: start, limit: limit, ring: make([]slot, 16)}
}

// Begin notes that the message at offset was handed out at time now. It
// returns false, and notes nothing, if the tracker is full. It panics if
// offset is not above all before: the caller has mixed up two assignments.
func (t *Tracker) Begin(offset int64, now time.Time) bool {
	if t.Full() {
		return false
	}
	if offset < t.next {
		panic(fmt.Sprintf("frontier: offset %d begun after %d", offset, t.next-1))
	}
	if t.n == len(t.ring) {
		grown := make([]slot, 2*len(t.ring))
		for i := range t.n {
			grown[i] = *t.at(i)
		}
		t.ring, t.head = grown, 0
	}
	t.n++
	*t.at(t.n - 1) = slot{offset: offset, since: now}
	t.next = offset + 1
	return true
}

// Done notes that the message at offset is done, and reports whether that
// moved the frontier. What was never begun, or is done, changes nothing.
func (t *Tracker) Done(offset int64) (moved bool) {
	i := sort.Search(t.n, func(i int) bool { return t.at(i).offset >= offset })
	if i == t.n || t.at(i).offset != offset || t.at(i).done {
		return false
	}
	t.at(i).done = true
	for t.n > 0 && t.at(0).done {
		*t.at(0) = slot{}
		t.head = (t.head + 1) & (len(t.ring) - 1)
		t.n--
		moved = true
	}
	return moved
}

// Frontier returns the offset to commit: that of the first message which is
// not done, or one above the newest if all are.
func (t *Tracker) Frontier() int64 {
	if t.n > 0 {
		return t.at(0).offset
	}
	return t.next
}

// Pending reports whether offset was begun and is not done.
func (t *Tracker) Pending(offset int64) bool {
	i := sort.Search(t.n, func(i int) bool { return t.at(i).offset >= offset })
	return i < t.n && t.at(i).offset == offset && !t.at(i).done
}

// Spans returns what is done above the frontier, in order: from the first offset to before the
// second, everything that was begun is done.
func (t *Tracker) Spans() iter.Seq2[int64, int64] {
	return func(yield func(from, to int64) bool) {
		for i := 0; i < t.n; i++ {
			if !t.at(i).done {
				continue
			}
			from := t.at(i).offset
			for i+1 < t.n && t.at(i+1).done {
				i++
			}
			if !yield(from, t.at(i).offset+1) {
				return
			}
		}
	}
}

// Full reports whether Begin would return false.
func (t *Tracker) Full() bool { return t.limit > 0 && t.n >= t.limit }

// Gap returns the number of messages from the frontier to the newest, done or
// not: how many a restart replays at most.
func (t *Tracker) Gap() int { return t.n }

// Oldest returns the message the frontier waits for and when it was begun; ok
// is false if there is none.
func (t *Tracker) Oldest() (offset int64, since time.Time, ok bool) {
	if t.n == 0 {
		return 0, time.Time{}, false
	}
	return t.at(0).offset, t.at(0).since, true
}

func (t *Tracker) at(i int) *slot { return &t.ring[(t.head+i)&(len(t.ring)-1)] }
