package featurestore

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

const shards = 64

// MemoryOnline is an Online store and Swapper in the memory of this process.
// It keeps payloads as they are handed over, without copying them.
type MemoryOnline struct {
	limit  int64
	count  atomic.Int64
	seed   maphash.Seed
	shards [shards]memoryShard
}

type memoryShard struct {
	mu   sync.RWMutex
	rows map[Ref]memoryRow
}

type memoryRow struct {
	rec   *Record   // never changed once it is stored
	until time.Time // zero: for ever
}

// NewMemoryOnline returns an empty store for at most limit rows. A write of a
// new row beyond the limit first makes room by dropping rows past their TTL;
// without any the write fails: a feature store that silently forgets would
// serve wrong features. It panics if limit is not positive.
func NewMemoryOnline(limit int) *MemoryOnline {
	if limit <= 0 {
		panic("featurestore: NewMemoryOnline needs a positive limit")
	}
	m := &MemoryOnline{limit: int64(limit), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].rows = map[Ref]memoryRow{}
	}
	return m
}

func (m *MemoryOnline) shard(key string) *memoryShard {
	return &m.shards[maphash.String(m.seed, key)%shards]
}

// Read returns one record for each ref; see Online.
func (m *MemoryOnline) Read(ctx context.Context, refs []Ref) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	recs := make([]Record, len(refs))
	for i := range refs {
		s := m.shard(refs[i].Key)
		s.mu.RLock()
		row, ok := s.rows[refs[i]]
		s.mu.RUnlock()
		if ok {
			recs[i] = *row.rec
		} else {
			recs[i].Ref = refs[i]
		}
	}
	return recs, nil
}

// Write stores what is newer; see Online.
func (m *MemoryOnline) Write(ctx context.Context, recs []Record) ([]Outcome, error) {
	outcomes := make([]Outcome, len(recs))
	for i := range recs {
		_, err := m.update(ctx, recs[i], func(old *Record) bool {
			outcomes[i] = Applied
			if old.Found {
				switch c := recs[i].compareVersion(old); {
				case c == 0:
					outcomes[i] = Duplicate
				case c < 0:
					outcomes[i] = Stale
				}
			}
			return outcomes[i] == Applied
		})
		if err != nil {
			outcomes[i] = 0
			return outcomes, err
		}
	}
	return outcomes, nil
}

// Swap stores what has not changed since it was read; see Swapper.
func (m *MemoryOnline) Swap(ctx context.Context, recs []Record) ([]bool, error) {
	stored := make([]bool, len(recs))
	for i := range recs {
		var err error
		stored[i], err = m.update(ctx, recs[i], func(old *Record) bool { return old.Rev == recs[i].Rev })
		if err != nil {
			return stored, err
		}
	}
	return stored, nil
}

// update stores rec if replace says so of the row that is there. replace runs
// under the shard's lock.
func (m *MemoryOnline) update(ctx context.Context, rec Record, replace func(old *Record) bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	now := time.Now()
	s := m.shard(rec.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[rec.Ref]
	old := row.rec
	if !ok {
		old = &Record{}
	}
	if !replace(old) {
		if ok && !row.until.IsZero() { // a write that changes nothing still shows that the row is in use
			row.until = later(row.until, now.Add(rec.TTL))
			s.rows[rec.Ref] = row
		}
		return false, nil
	}
	if !ok && m.count.Add(1) > m.limit && !m.sweep(s, now) {
		m.count.Add(-1)
		return false, fmt.Errorf("memory store holds its limit of %d rows", m.limit)
	}
	rec.Found, rec.Rev = true, old.Rev+1
	row = memoryRow{rec: &rec}
	if rec.TTL > 0 {
		row.until = now.Add(rec.TTL)
	}
	s.rows[rec.Ref] = row
	return true, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sweep drops what is past its time in the locked shard s, and in others as far
// as no one holds them, and says whether that made room.
func (m *MemoryOnline) sweep(locked *memoryShard, now time.Time) bool {
	for i := range m.shards {
		s := &m.shards[i]
		if s != locked && !s.mu.TryLock() {
			continue
		}
		for ref, row := range s.rows {
			if !row.until.IsZero() && now.After(row.until) {
				delete(s.rows, ref)
				m.count.Add(-1)
			}
		}
		if s != locked {
			s.mu.Unlock()
		}
	}
	return m.count.Load() <= m.limit
}

// Len returns the number of rows held.
func (m *MemoryOnline) Len() int { return int(m.count.Load()) }

// Health returns nil.
func (m *MemoryOnline) Health(context.Context) error { return nil }

// MemoryOffline is an Offline store in the memory of this process. It grows
// with everything written: it is for tests, examples and small histories.
type MemoryOffline struct {
	mu    sync.RWMutex
	views map[string][]Record
}

// NewMemoryOffline returns an empty store.
func NewMemoryOffline() *MemoryOffline {
	return &MemoryOffline{views: map[string][]Record{}}
}

// Append adds records; see Offline.
func (m *MemoryOffline) Append(ctx context.Context, recs iter.Seq2[Record, error]) error {
	for rec, err := range recs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rec.Found = true
		m.mu.Lock()
		m.views[rec.View] = append(m.views[rec.View], rec)
		m.mu.Unlock()
	}
	return nil
}

// Scan yields the records of a view; see Offline. It sees what was there when
// it began and blocks no Append.
func (m *MemoryOffline) Scan(ctx context.Context, view string, from, to time.Time) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m.mu.RLock()
		recs := m.views[view] // only ever appended to
		m.mu.RUnlock()
		for i := range recs {
			if i%1024 == 0 && ctx.Err() != nil {
				yield(Record{}, ctx.Err())
				return
			}
			if !from.IsZero() && recs[i].Event.Before(from) || !to.IsZero() && !recs[i].Event.Before(to) {
				continue
			}
			if !yield(recs[i], nil) {
				return
			}
		}
	}
}
