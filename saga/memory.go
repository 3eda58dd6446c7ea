package saga

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// MemoryStore is a [Store] in memory, for tests and for sagas that need not
// outlive the process. It is safe for concurrent use. Finished sagas stay in it.
type MemoryStore struct {
	mu      sync.Mutex
	records map[string]*Record
	active  map[string]*Record // those of records that Claim may give out
	beats   map[string]time.Time
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{records: map[string]*Record{}, active: map[string]*Record{}, beats: map[string]time.Time{}}
}

// Create implements [Store].
func (m *MemoryStore) Create(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.records[r.ID]; ok {
		return ErrExists
	}
	r = r.Clone()
	r.Rev = 1
	m.put(&r)
	return nil
}

func (m *MemoryStore) put(r *Record) {
	m.records[r.ID] = r
	if r.Status.Active() {
		m.active[r.ID] = r
	} else {
		delete(m.active, r.ID)
	}
}

// Commit implements [Store].
func (m *MemoryStore) Commit(ctx context.Context, changes []Change) ([]error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([]error, len(changes))
	for i, c := range changes {
		old, ok := m.records[c.Record.ID]
		switch {
		case !ok:
			results[i] = ErrNotFound
		case old.Rev != c.Rev || old.Fence != c.Fence:
			results[i] = ErrStale
		default:
			r := c.Record.Clone()
			r.Rev, r.Fence = c.Rev+1, c.Fence
			if c.Release {
				r.Owner = ""
			}
			m.put(&r)
		}
	}
	return results, nil
}

// Claim implements [Store].
func (m *MemoryStore) Claim(ctx context.Context, owner string, shapes []Shape, limit int) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var claimed []Record
	for _, old := range m.active {
		if len(claimed) >= limit {
			break
		}
		if now.Before(old.Wake) || old.Owner != "" && now.Before(m.beats[old.Owner]) || !slices.Contains(shapes, old.Shape) {
			continue
		}
		r := old.Clone()
		r.Owner, r.Rev, r.Fence, r.Wake = owner, r.Rev+1, r.Fence+1, time.Time{}
		m.put(&r)
		claimed = append(claimed, r.Clone())
	}
	return claimed, nil
}

// Beat implements [Store].
func (m *MemoryStore) Beat(ctx context.Context, owner string, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(m.beats, func(_ string, until time.Time) bool { return !now.Before(until) })
	if m.beats[owner] = now.Add(ttl); ttl <= 0 {
		delete(m.beats, owner)
	}
	return nil
}

// Load implements [Store].
func (m *MemoryStore) Load(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[id]
	if !ok {
		return Record{}, ErrNotFound
	}
	return r.Clone(), nil
}

// Scan implements [Store].
func (m *MemoryStore) Scan(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(Record{}, err)
			return
		}
		m.mu.Lock()
		ids := slices.Sorted(maps.Keys(m.records))
		m.mu.Unlock()
		left := q.Limit
		for _, id := range ids {
			m.mu.Lock()
			r, ok := m.records[id] // a stored record is replaced, never changed
			m.mu.Unlock()
			if !ok || !q.Match(r) {
				continue
			}
			if !yield(r.Clone(), nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}
