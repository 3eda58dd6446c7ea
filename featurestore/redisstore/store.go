// Package redisstore keeps online features in Redis.
//
// Each row is one string under prefix + view + ":" + entity key: a header with
// the version, then the packed features, so that a batch of rows is one round
// trip whatever the number of features. Reads are a pipeline; on a single server
// an MGET. Writes are a script per row, so that "only if newer" and "only if
// unchanged" are atomic under concurrent writers. It needs Redis 5 or a server
// that speaks its protocol and runs its Lua scripts.
//
// # Guarantees
//
// A write is answered when the server has applied it in memory; how much of that
// survives a crash of the server is its own setting (appendonly, replication).
// Rebuild brings lost rows back from the offline store. Without it a row of a
// view comes back with its next write, but the windows of a lost row begin anew
// with their next event and are served as if that were all. After a lost answer
// the outcome is unknown, and repeating the write is safe.
//
// A row is kept for its view's time to live after the last write, measured by
// the server's clock, and stale and duplicate writes renew it: a view that is
// fed does not lose what is still valid. The reader judges age by event time, so
// an expired row reads as Expired before the server drops it and as Missing
// after.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/redis/go-redis/v9"
)

// Options configures a Store. Nil or the zero value is a good default.
type Options struct {
	// Prefix of all keys; "features:".
	Prefix string
}

// Store is a featurestore.Online and Swapper. The client is the caller's, who
// closes it. Methods may be called concurrently.
type Store struct {
	client redis.UniversalClient
	single bool // one server holds all keys
	prefix string
}

var (
	_ featurestore.Online  = (*Store)(nil)
	_ featurestore.Swapper = (*Store)(nil)
)

// New returns a store on a client. It does no I/O.
func New(c redis.UniversalClient, o *Options) *Store {
	s := &Store{client: c, prefix: "features:"}
	_, s.single = c.(*redis.Client)
	if o != nil && o.Prefix != "" {
		s.prefix = o.Prefix
	}
	return s
}

// Views have no ':' in their names, so no two rows share a key.
func (s *Store) key(ref featurestore.Ref) string { return s.prefix + ref.View + ":" + ref.Key }

// Health returns nil if the server answers a PING.
func (s *Store) Health(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis ping: %w", err)
	}
	return nil
}

// perCommand is how many rows one MGET asks for, so that a large batch does not
// keep a server from others.
const perCommand = 500

// Read returns one record for each ref, in one round trip.
func (s *Store) Read(ctx context.Context, refs []featurestore.Ref) ([]featurestore.Record, error) {
	if err := ctx.Err(); err != nil || len(refs) == 0 {
		return nil, err
	}
	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = s.key(ref)
	}
	values, err := s.get(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("redis read of %d rows: %w", len(refs), err)
	}
	recs := make([]featurestore.Record, len(refs))
	for i := range refs {
		recs[i].Ref = refs[i]
		text, found := values[i].(string)
		if !found {
			continue
		}
		if err := decode(&recs[i], []byte(text)); err != nil {
			return nil, fmt.Errorf("redis key %q: %w", keys[i], err)
		}
	}
	return recs, nil
}

// get returns a string or nil for each key.
func (s *Store) get(ctx context.Context, keys []string) ([]any, error) {
	if s.single && len(keys) <= perCommand {
		return s.client.MGet(ctx, keys...).Result()
	}
	pipe := s.client.Pipeline()
	values := make([]any, 0, len(keys))
	if s.single {
		var cmds []*redis.SliceCmd
		for i := 0; i < len(keys); i += perCommand {
			cmds = append(cmds, pipe.MGet(ctx, keys[i:min(i+perCommand, len(keys))]...))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
		for _, c := range cmds {
			values = append(values, c.Val()...)
		}
		return values, nil
	}
	cmds := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		cmds[i] = pipe.Get(ctx, k)
	}
	// Exec returns the first error, which may be the Nil of a missing row.
	_, _ = pipe.Exec(ctx)
	for _, c := range cmds {
		v, err := c.Result()
		if errors.Is(err, redis.Nil) {
			values = append(values, nil)
			continue
		}
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// Write stores each record that is newer than the stored row.
func (s *Store) Write(ctx context.Context, recs []featurestore.Record) ([]featurestore.Outcome, error) {
	outcomes := make([]featurestore.Outcome, len(recs))
	answers, err := s.run(ctx, recs, func(featurestore.Record) int64 { return -1 })
	for i, a := range answers {
		outcomes[i] = featurestore.Outcome(a)
	}
	return outcomes, err
}

// Swap stores each record whose row has not changed since it was read.
func (s *Store) Swap(ctx context.Context, recs []featurestore.Record) ([]bool, error) {
	stored := make([]bool, len(recs))
	answers, err := s.run(ctx, recs, func(r featurestore.Record) int64 { return r.Rev })
	for i, a := range answers {
		stored[i] = featurestore.Outcome(a) == featurestore.Applied
	}
	return stored, err
}

// run executes the script once per record, in one round trip. An answer of 0 is
// unknown.
func (s *Store) run(ctx context.Context, recs []featurestore.Record, rev func(featurestore.Record) int64) ([]int64, error) {
	if err := ctx.Err(); err != nil || len(recs) == 0 {
		return nil, err
	}
	values := make([][]byte, len(recs))
	pending := make([]int, len(recs))
	for i := range recs {
		var err error
		if values[i], err = encode(&recs[i]); err != nil {
			return nil, fmt.Errorf("%s key %q: %w", recs[i].View, recs[i].Key, err)
		}
		pending[i] = i
	}
	answers := make([]int64, len(recs))
	// A pipeline has no way back from EVALSHA to EVAL by itself: what a server
	// does not know the script for is sent again with its text.
	eval := script.EvalSha
	for range 2 {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.Cmd, len(pending))
		for j, i := range pending {
			cmds[j] = eval(ctx, pipe, []string{s.key(recs[i].Ref)}, values[i], expiry(recs[i].TTL), rev(recs[i]))
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		var failed error
		var again []int
		for j, c := range cmds {
			n, err := c.Int64()
			switch {
			case err == nil:
				answers[pending[j]] = n
			case redis.HasErrorPrefix(err, "NOSCRIPT"):
				again = append(again, pending[j])
			case failed == nil:
				failed = fmt.Errorf("redis write of %s: %w", s.key(recs[pending[j]].Ref), err)
			}
		}
		if failed != nil || len(again) == 0 {
			return answers, failed
		}
		pending, eval = again, script.Eval
	}
	return answers, fmt.Errorf("redis write of %s: the server does not run scripts", s.key(recs[pending[0]].Ref))
}

// expiry is a TTL in milliseconds, rounded up; 0: none.
func expiry(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
