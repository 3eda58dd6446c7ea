// Package boltstore keeps sagas in one bbolt file: durable without a server.
//
// Nil from a write means synced to disk, unless Bolt.NoSync was set. Writes that
// come while the disk is busy share the next transaction, whichever saga they
// belong to, so throughput grows with the number of sagas in flight; a single
// saga waits for one transaction (two syncs) per step.
//
// One process may have the file open. Open waits a second for another to close
// it and then says so. Because nobody else can be executing, everything left
// unfinished by a crashed process is claimed at once when the file is opened
// again, without waiting for a lease to end.
//
// The file carries a format version; a file of an unknown one is refused, not
// touched. Finished sagas stay in the file.
package boltstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/mainstay-go/mainstay/saga"
)

const (
	format   = "1"
	lockWait = time.Second
	scanPage = 256
)

var (
	metaBucket  = []byte("mainstay.saga.meta")
	sagasBucket = []byte("mainstay.saga.sagas")
	formatKey   = []byte("format")
)

// Options are the settings of a store.
type Options struct {
	// Bolt are bbolt's own settings; nil are bbolt's defaults. Bolt.Timeout is
	// how long Open waits for a file that is in use; 0 is one second. With
	// Bolt.NoSync a crash of the machine may lose writes or the file.
	Bolt *bolt.Options
}

// Store is a [saga.Store] in a bbolt file. It is safe for concurrent use by one
// process.
type Store struct {
	db *bolt.DB

	mu    sync.Mutex
	queue []*write
	beats map[string]time.Time

	// writer holds a token while somebody writes for all that queue.
	writer chan struct{}
	// active indexes the records that Claim may give out. The writer changes it.
	active map[string]claimable
}

var _ saga.Store = (*Store)(nil)

type claimable struct {
	owner string
	wake  time.Time
	shape saga.Shape
}

// write is one caller's part of a transaction.
type write struct {
	apply func(*batch) error // an error undoes the whole transaction
	done  chan struct{}
	err   error
}

// batch is a transaction in the making.
type batch struct {
	sagas  *bolt.Bucket
	active map[string]*claimable // changes of the index; nil removes
}

// Open opens the file at path and creates it, with mode 0600, if there is none.
// The directory must exist. Close the store when it is no longer used, after
// the runner's Run has returned.
func Open(ctx context.Context, path string, o *Options) (*Store, error) {
	var opts bolt.Options
	if o != nil && o.Bolt != nil {
		opts = *o.Bolt
	} else {
		opts = *bolt.DefaultOptions
	}
	if opts.Timeout == 0 {
		opts.Timeout = lockWait
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(path, err)
	}
	if end, ok := ctx.Deadline(); ok {
		opts.Timeout = max(min(opts.Timeout, time.Until(end)), time.Nanosecond)
	}
	db, err := bolt.Open(path, 0o600, &opts)
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fail(path, fmt.Errorf(
			"in use by another process, or opened twice in this one; one at a time may have it open: %w", err))
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(path, fmt.Errorf("the directory does not exist; create it first: %w", err))
	case err != nil:
		return nil, fail(path, err)
	}
	s := &Store{db: db, beats: map[string]time.Time{}, writer: make(chan struct{}, 1), active: map[string]claimable{}}
	if err := s.prepare(opts.ReadOnly); err != nil {
		return nil, fail(path, errors.Join(err, db.Close()))
	}
	return s, nil
}

func fail(path string, err error) error {
	return fmt.Errorf("boltstore: %s: %w", path, err)
}

// prepare checks or writes the format and builds the index.
func (s *Store) prepare(readOnly bool) error {
	var found []byte
	err := s.db.View(func(tx *bolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			found = bytes.Clone(meta.Get(formatKey))
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case found == nil && readOnly:
		return errors.New("not a saga store, and opened read-only")
	case found == nil:
		err := s.db.Update(func(tx *bolt.Tx) error {
			meta, err := tx.CreateBucketIfNotExists(metaBucket)
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucketIfNotExists(sagasBucket); err != nil {
				return err
			}
			return meta.Put(formatKey, []byte(format))
		})
		if err != nil {
			return err
		}
	case string(found) != format:
		return fmt.Errorf("format %q is not one this version reads (%q); open it with the version that wrote it", found, format)
	}
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(sagasBucket).ForEach(func(k, v []byte) error {
			r, err := decode(k, v)
			if err == nil && r.Status.Active() {
				s.active[r.ID] = claimable{r.Owner, r.Wake, r.Shape}
			}
			return err
		})
	})
}

// Close waits for writes in progress and closes the file. Later calls of other
// methods fail.
func (s *Store) Close(context.Context) error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("boltstore: %w", err)
	}
	return nil
}

func encode(r *saga.Record) ([]byte, error) { return json.Marshal(r) }

// decode reads the record under a key, which is its ID: what is no text comes
// out of JSON as another one.
func decode(key, v []byte) (saga.Record, error) {
	var r saga.Record
	if err := json.Unmarshal(v, &r); err != nil {
		return r, fmt.Errorf("decode a record: %w", err)
	}
	r.ID = string(key)
	return r, nil
}

// do runs apply in a transaction, shared with all that wait for the disk. Once
// queued it cannot be called back.
func (s *Store) do(ctx context.Context, apply func(*batch) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &write{apply: apply, done: make(chan struct{})}
	s.mu.Lock()
	s.queue = append(s.queue, w)
	s.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case s.writer <- struct{}{}:
	}
	defer func() { <-s.writer }()
	select {
	case <-w.done:
	default:
		s.flush()
	}
	return w.err
}

// flush writes everything queued in one transaction. The caller holds the
// writer's token, and its own write is queued.
func (s *Store) flush() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.mu.Unlock()
	b := &batch{active: map[string]*claimable{}}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b.sagas = tx.Bucket(sagasBucket)
		for _, w := range queue {
			if err := w.apply(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for id, c := range b.active {
			if c == nil {
				delete(s.active, id)
			} else {
				s.active[id] = *c
			}
		}
	}
	for _, w := range queue {
		w.err = err
		close(w.done)
	}
}

func (b *batch) get(id string) (saga.Record, bool, error) {
	v := b.sagas.Get([]byte(id))
	if v == nil {
		return saga.Record{}, false, nil
	}
	r, err := decode([]byte(id), v)
	return r, err == nil, err
}

// put stores what encode made of r.
func (b *batch) put(r *saga.Record, encoded []byte) error {
	b.active[r.ID] = nil
	if r.Status.Active() {
		b.active[r.ID] = &claimable{r.Owner, r.Wake, r.Shape}
	}
	return b.sagas.Put([]byte(r.ID), encoded)
}

// Create implements [saga.Store].
func (s *Store) Create(ctx context.Context, r saga.Record) error {
	if r.ID == "" {
		return errors.New("boltstore: a record needs an ID")
	}
	r.Rev = 1
	encoded, err := encode(&r)
	if err != nil {
		return err
	}
	exists := false
	err = s.do(ctx, func(b *batch) error {
		if exists = b.sagas.Get([]byte(r.ID)) != nil; exists {
			return nil
		}
		return b.put(&r, encoded)
	})
	if err == nil && exists {
		err = saga.ErrExists
	}
	return err
}

// Commit implements [saga.Store].
func (s *Store) Commit(ctx context.Context, changes []saga.Change) ([]error, error) {
	records := make([]saga.Record, len(changes))
	encoded := make([][]byte, len(changes))
	for i, c := range changes {
		r := c.Record
		r.Rev, r.Fence = c.Rev+1, c.Fence
		if c.Release {
			r.Owner = ""
		}
		var err error
		if encoded[i], err = encode(&r); err != nil {
			return nil, err
		}
		records[i] = r
	}
	results := make([]error, len(changes))
	err := s.do(ctx, func(b *batch) error {
		for i, c := range changes {
			old, ok, err := b.get(c.Record.ID)
			switch {
			case err != nil:
				return err
			case !ok:
				results[i] = saga.ErrNotFound
			case old.Rev != c.Rev || old.Fence != c.Fence:
				results[i] = saga.ErrStale
			default:
				if err := b.put(&records[i], encoded[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// Claim implements [saga.Store]. It writes only if there is something to claim.
func (s *Store) Claim(ctx context.Context, owner string, shapes []saga.Shape, limit int) ([]saga.Record, error) {
	if err := ctx.Err(); err != nil || limit <= 0 {
		return nil, err
	}
	select {
	case s.writer <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ids := s.claimable(shapes, limit)
	<-s.writer
	if len(ids) == 0 {
		return nil, nil
	}
	var claimed []saga.Record
	err := s.do(ctx, func(b *batch) error {
		claimed = nil
		now := time.Now()
		for _, id := range ids {
			r, ok, err := b.get(id)
			if err != nil {
				return err
			}
			// It may have changed since the index was read.
			if !ok || !r.Status.Active() || !s.free(claimable{r.Owner, r.Wake, r.Shape}, now) {
				continue
			}
			r.Owner, r.Rev, r.Fence, r.Wake = owner, r.Rev+1, r.Fence+1, time.Time{}
			encoded, err := encode(&r)
			if err != nil {
				return err
			}
			if err := b.put(&r, encoded); err != nil {
				return err
			}
			claimed = append(claimed, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// claimable returns the IDs of up to limit sagas to claim. The caller holds the
// writer's token.
func (s *Store) claimable(shapes []saga.Shape, limit int) []string {
	var ids []string
	now := time.Now()
	for id, c := range s.active {
		if s.free(c, now) && slices.Contains(shapes, c.shape) {
			if ids = append(ids, id); len(ids) == limit {
				break
			}
		}
	}
	return ids
}

// free reports whether nobody executes the saga and it is due.
func (s *Store) free(c claimable, now time.Time) bool {
	if now.Before(c.wake) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.owner == "" || !now.Before(s.beats[c.owner])
}

// Beat implements [saga.Store]. Heartbeats are kept in memory: owners of another
// process cannot be alive while this one has the file.
func (s *Store) Beat(ctx context.Context, owner string, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.beats, func(_ string, until time.Time) bool { return !now.Before(until) })
	if s.beats[owner] = now.Add(ttl); ttl <= 0 {
		delete(s.beats, owner)
	}
	return nil
}

// Load implements [saga.Store].
func (s *Store) Load(ctx context.Context, id string) (saga.Record, error) {
	if err := ctx.Err(); err != nil {
		return saga.Record{}, err
	}
	var r saga.Record
	err := s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(sagasBucket).Get([]byte(id))
		if v == nil {
			return saga.ErrNotFound
		}
		var err error
		r, err = decode([]byte(id), v)
		return err
	})
	return r, err
}

// Scan implements [saga.Store]. It reads a page at a time, so that a slow reader
// does not keep the file from reusing space.
func (s *Store) Scan(ctx context.Context, q saga.Query) iter.Seq2[saga.Record, error] {
	return func(yield func(saga.Record, error) bool) {
		var after []byte
		left := q.Limit
		for {
			page, next, err := s.page(ctx, q, after)
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if err != nil {
				yield(saga.Record{}, err)
				return
			}
			if next == nil {
				return
			}
			after = next
		}
	}
}

// page returns what q chooses of the next records after a key, and the last key
// it looked at, nil at the end.
func (s *Store) page(ctx context.Context, q saga.Query, after []byte) (page []saga.Record, last []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(sagasBucket).Cursor()
		k, v := c.Seek(after)
		if after != nil && bytes.Equal(k, after) {
			k, v = c.Next()
		}
		for n := 0; k != nil; k, v = c.Next() {
			r, err := decode(k, v)
			if err != nil {
				return err
			}
			if q.Match(&r) {
				page = append(page, r)
			}
			if n++; n == scanPage {
				last = bytes.Clone(k)
				return nil
			}
		}
		return nil
	})
	return page, last, err
}
