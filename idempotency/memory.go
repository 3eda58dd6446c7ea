package idempotency

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// MemoryStore is a [Store] in this process's memory: for tests, for a single
// process, and for effects that live no longer than the process does. Its keys
// are gone when the process ends.
//
// It measures time by the monotonic clock, so a clock that is set does not move
// leases. A key without fingerprint and result takes about 150 bytes, whatever
// the length of the key, so that an inbox of a million messages takes 150 MB;
// a fingerprint or a result adds about 60 bytes and the result's own.
type MemoryStore struct {
	limit int
	epoch time.Time

	mu      sync.Mutex
	fence   int64 // the highest given out, over all keys: survives forgotten records
	records map[digest]*record
	expiry  expiryHeap
}

// digest stands for the identity of a key. 128 bits of SHA-256 keep a record
// small, and no two of a billion keys meet but with a chance of 1 in 10^20.
type digest [16]byte

// record is what is known of one key; times are since the store's epoch.
type record struct {
	digest   digest
	fence    int64 // the latest token's; once given back, still the latest given out
	seen     int64 // the highest Claim.Fence
	lease    time.Duration
	expires  time.Duration
	payload  *payload // nil: neither fingerprint nor result
	attempts int32
	index    int32 // in the heap
	phase    phase
}

type payload struct {
	fingerprint Fingerprint
	result      []byte
}

type phase uint8

const (
	free phase = iota
	held
	done
)

// NewMemoryStore returns an empty store that holds at most limit keys. When as
// many are remembered, new keys are refused with [ErrFull] until the TTL of an
// old one ends: a store that forgot a key early would let its effect happen
// twice. So limit must be above the number of new keys within a TTL. A limit
// below 1 refuses every key.
func NewMemoryStore(limit int) *MemoryStore {
	return &MemoryStore{limit: limit, epoch: time.Now(), records: map[digest]*record{}}
}

// Begin implements [Store].
func (s *MemoryStore) Begin(ctx context.Context, c Claim) (Outcome, error) {
	c, err := c.Normalize()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return Outcome{}, wrap("begin", c.Key, err)
	}
	id := identify(c.Key)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.sweep()
	r := s.find(id, now)
	if r == nil {
		if len(s.records) >= s.limit {
			return Outcome{}, wrap("begin", c.Key, fmt.Errorf(
				"%w: it holds %d keys, its limit, and the first ends in %v; raise the limit or shorten the TTL",
				ErrFull, len(s.records), s.nextExpiry(now)))
		}
		r = &record{digest: id, expires: now + c.TTL}
		s.records[id] = r
		heap.Push(&s.expiry, r)
	}
	if c.Fence < r.seen {
		return Outcome{}, wrap("begin", c.Key, fmt.Errorf("%w: claim fence %d is below %d", ErrStale, c.Fence, r.seen))
	}
	if !r.matches(c.Key.Fingerprint) {
		return Outcome{State: Mismatch}, nil
	}
	r.seen = c.Fence
	switch {
	case r.phase == done:
		return Outcome{State: Done, Attempt: int(r.attempts), Result: r.result()}, nil
	case r.phase == held && now < r.lease:
		return Outcome{State: InProgress, Attempt: int(r.attempts), Until: s.epoch.Add(r.lease)}, nil
	}
	s.fence++
	r.fence, r.phase, r.lease = s.fence, held, now+c.Lease
	r.attempts++
	if f := c.Key.Fingerprint; !f.IsZero() {
		r.more().fingerprint = f
	}
	r.expireAt(s, now+c.TTL)
	return Outcome{
		State:   Acquired,
		Token:   Token{Key: c.Key, Fence: r.fence},
		Attempt: int(r.attempts),
		Until:   s.epoch.Add(r.lease),
	}, nil
}

// Renew implements [Store].
func (s *MemoryStore) Renew(ctx context.Context, t Token, lease time.Duration) error {
	if lease <= 0 {
		return wrap("renew", t.Key, fmt.Errorf("lease %v is not positive", lease))
	}
	lease = min(lease, forever)
	return s.settle(ctx, "renew", t, held, func(r *record, now time.Duration) {
		r.lease = max(r.lease, now+lease)
		r.expireAt(s, max(r.expires, r.lease))
	})
}

// Complete implements [Store].
func (s *MemoryStore) Complete(ctx context.Context, t Token, result []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return wrap("complete", t.Key, fmt.Errorf("ttl %v is not positive", ttl))
	}
	ttl = min(ttl, forever)
	return s.settle(ctx, "complete", t, done, func(r *record, now time.Duration) {
		r.phase = done
		if len(result) > 0 {
			r.more().result = bytes.Clone(result)
		}
		r.expireAt(s, now+ttl)
	})
}

// Abort implements [Store].
func (s *MemoryStore) Abort(ctx context.Context, t Token) error {
	return s.settle(ctx, "abort", t, free, func(r *record, _ time.Duration) { r.phase = free })
}

// settle applies change if t holds its key. A record that is t's and already in
// the phase that the change leads to has heard the same before: nothing changes.
func (s *MemoryStore) settle(ctx context.Context, op string, t Token, to phase, change func(*record, time.Duration)) error {
	if err := ctx.Err(); err != nil {
		return wrap(op, t.Key, err)
	}
	id := identify(t.Key)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.sweep()
	r := s.find(id, now)
	switch {
	case r == nil || r.fence != t.Fence:
		return wrap(op, t.Key, ErrStale)
	case r.phase == held:
		change(r, now)
		return nil
	case r.phase == to:
		return nil
	default:
		return wrap(op, t.Key, ErrStale)
	}
}

// sweep drops records whose time has come, and returns the time. It drops a
// bounded number, so that no caller pays for an idle hour, and more than one,
// so that it keeps up with the calls that add one each.
func (s *MemoryStore) sweep() time.Duration {
	now := time.Since(s.epoch)
	for range 64 {
		if len(s.expiry) == 0 || s.expiry[0].expires > now {
			break
		}
		r := heap.Pop(&s.expiry).(*record)
		delete(s.records, r.digest)
	}
	return now
}

// find returns the record, or nil if there is none or its time has come.
func (s *MemoryStore) find(id digest, now time.Duration) *record {
	r := s.records[id]
	if r == nil || r.expires > now {
		return r
	}
	heap.Remove(&s.expiry, int(r.index))
	delete(s.records, id)
	return nil
}

func (s *MemoryStore) nextExpiry(now time.Duration) time.Duration {
	if len(s.expiry) == 0 {
		return 0
	}
	return s.expiry[0].expires - now
}

func (r *record) matches(f Fingerprint) bool {
	return f.IsZero() || r.payload == nil || r.payload.fingerprint.IsZero() || r.payload.fingerprint == f
}

func (r *record) result() []byte {
	if r.payload == nil {
		return nil
	}
	return bytes.Clone(r.payload.result)
}

func (r *record) more() *payload {
	if r.payload == nil {
		r.payload = &payload{}
	}
	return r.payload
}

func (r *record) expireAt(s *MemoryStore, at time.Duration) {
	if r.expires != at {
		r.expires = at
		heap.Fix(&s.expiry, int(r.index))
	}
}

func identify(k Key) digest {
	sum := sha256.Sum256([]byte(k.String()))
	return digest(sum[:len(digest{})])
}

// expiryHeap holds every record once, the one that expires first on top.
type expiryHeap []*record

// Len implements [heap.Interface].
func (h expiryHeap) Len() int { return len(h) }

// Less implements [heap.Interface].
func (h expiryHeap) Less(i, j int) bool { return h[i].expires < h[j].expires }

// Swap implements [heap.Interface].
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (h *expiryHeap) Push(x any) {
	r := x.(*record)
	r.index = int32(len(*h))
	*h = append(*h, r)
}

// Pop implements [heap.Interface].
func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return r
}
