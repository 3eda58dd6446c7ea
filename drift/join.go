package drift

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// joinShards is how many locks the writers of a join share.
const joinShards = 16

// join holds predictions and labels until the other side comes, the oldest
// forgotten first. IDs are known by a seeded hash of 64 bits: of 100,000 that
// wait, two are taken for one with a chance of 1 in 3.7 thousand million.
type join struct {
	seed   maphash.Seed
	age    time.Duration
	shards [joinShards]joinShard

	joined, expired, orphaned, repeated atomic.Uint64
}

func newJoin(most int, age time.Duration) *join {
	j := &join{seed: maphash.MakeSeed(), age: age}
	for i := range j.shards {
		j.shards[i].most = max(1, most/joinShards)
	}
	return j
}

// waitState is what is known of an ID.
type waitState uint8

const (
	predicted waitState = iota + 1
	labelOnly
	done // both came; kept to know a repetition
)

type outcome uint8

const (
	kept outcome = iota + 1
	joined
	repeated
)

// waiting is one side of a pair.
type waiting struct {
	key   uint64
	at    int64 // UnixMicro
	ref   *Reference
	score float64
	cell  int32
	state waitState
	label bool
}

// joinShard is a queue in the order of arrival, and where in it each key is.
// Places are counted from the first there ever was; place p is at ring[p % len(ring)].
type joinShard struct {
	mu          sync.Mutex
	most        int
	place       map[uint64]uint64
	ring        []waiting
	first, next uint64
	predicted   int // of those in the queue, how many wait for a label
}

// put brings one side of a pair. It is kept, or joined with the other, which is
// returned, or known already.
func (j *join) put(id string, e waiting, now time.Time) (other waiting, what outcome) {
	e.key = maphash.String(j.seed, id)
	e.at = now.UnixMicro() // nanoseconds would not reach back to a clock that was not set
	s := &j.shards[e.key%joinShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.first < s.next && e.at-s.at(s.first).at > j.age.Microseconds() {
		j.forget(s)
	}
	if p, ok := s.place[e.key]; ok {
		known := s.at(p)
		switch {
		case known.state == predicted && e.state == labelOnly:
			s.predicted--
		case known.state == labelOnly && e.state == predicted:
		default:
			j.repeated.Add(1)
			return waiting{}, repeated
		}
		other = *known
		known.state, known.ref = done, nil
		return other, joined
	}
	if int(s.next-s.first) == s.most {
		j.forget(s)
	}
	s.push(e)
	return waiting{}, kept
}

func (s *joinShard) at(p uint64) *waiting { return &s.ring[p%uint64(len(s.ring))] }

func (s *joinShard) push(e waiting) {
	if n := int(s.next - s.first); n == len(s.ring) {
		bigger := make([]waiting, min(max(16, 2*n), s.most))
		for p := s.first; p < s.next; p++ {
			bigger[p%uint64(len(bigger))] = *s.at(p)
		}
		s.ring = bigger
	}
	if s.place == nil {
		s.place = make(map[uint64]uint64)
	}
	*s.at(s.next) = e
	s.place[e.key] = s.next
	s.next++
	if e.state == predicted {
		s.predicted++
	}
}

// forget gives up the oldest.
func (j *join) forget(s *joinShard) {
	e := s.at(s.first)
	switch e.state {
	case predicted:
		s.predicted--
		j.expired.Add(1)
	case labelOnly:
		j.orphaned.Add(1)
	case done:
	}
	delete(s.place, e.key)
	*e = waiting{}
	s.first++
}

func (j *join) stats() PerformanceStats {
	out := PerformanceStats{Joined: j.joined.Load(), Expired: j.expired.Load(), Orphaned: j.orphaned.Load(), Repeated: j.repeated.Load()}
	for i := range j.shards {
		s := &j.shards[i]
		s.mu.Lock()
		out.Waiting += s.predicted
		s.mu.Unlock()
	}
	return out
}
