// Package redisstore keeps idempotency keys in Redis, or in what speaks its
// protocol with Lua scripts, for any number of processes.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs})
//	guard := idempotency.New(redisstore.New(client, nil), nil)
//
// # What it does
//
// Every operation is one Lua script on one Redis key: atomic, one round trip,
// and safe in a cluster. Leases and TTLs are measured by the server's clock, so
// the clocks of its clients do not matter. A command that the client sends
// again after a lost answer counts once.
//
// # What to know
//
//   - Set maxmemory-policy to noeviction. Any other policy may forget a key
//     before its TTL ends, and its effect may then happen twice; with
//     noeviction a full server refuses new keys.
//   - Replication is asynchronous. A replica that takes over may not have seen
//     the latest keys, and forgets with them who held what; the same holds for a
//     server that restarts with appendfsync everysec. Where an effect must not
//     happen twice even then, keep its key in the database that holds the
//     effect.
//   - Fences come from the server's clock in microseconds, and never fall while
//     a record lives. After a record is forgotten they still rise unless the
//     clock was set back by more than the record's TTL.
//   - A record is a hash; see [Store] for its fields. One that is done, without
//     result and fingerprint, takes about 200 bytes, its name of 100 included.
package redisstore

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mainstay-go/mainstay/idempotency"
)

// Options are the settings of a [Store]. The zero value is a good default.
type Options struct {
	// Prefix begins the name of every Redis key. Stores of different prefixes
	// share nothing. Empty: "idempotency:".
	Prefix string
}

// Store is an [idempotency.Store] in Redis. It is safe for concurrent use.
//
// A record is a hash under the name Prefix{key}, key being the string form of
// the idempotency.Key, and the braces the hash tag of a cluster. Its fields: v
// the format's version, 1; s the state, h for held, d for done, f for given
// back; f the latest fence; n the attempts; u the end of the lease in
// microseconds of Unix time; x which call took the key; c the highest claim
// fence, p the fingerprint, r the result, each if there is one. A record of
// another version is refused by every operation, and left as it is.
type Store struct {
	client redis.UniversalClient
	prefix string
}

// New returns a store that uses c, which stays the caller's to close. It does no
// I/O. nil options are the defaults.
func New(c redis.UniversalClient, o *Options) *Store {
	s := &Store{client: c, prefix: "idempotency:"}
	if o != nil && o.Prefix != "" {
		s.prefix = o.Prefix
	}
	return s
}

//go:embed lua/begin.lua
var beginSource string

//go:embed lua/renew.lua
var renewSource string

//go:embed lua/complete.lua
var completeSource string

//go:embed lua/abort.lua
var abortSource string

var (
	beginScript    = redis.NewScript(beginSource)
	renewScript    = redis.NewScript(renewSource)
	completeScript = redis.NewScript(completeSource)
	abortScript    = redis.NewScript(abortSource)
)

// Begin implements [idempotency.Store].
func (s *Store) Begin(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
	out, err := s.begin(ctx, c)
	if err != nil {
		return idempotency.Outcome{}, &idempotency.Error{Op: "begin", Key: c.Key, Err: err}
	}
	return out, nil
}

func (s *Store) begin(ctx context.Context, c idempotency.Claim) (idempotency.Outcome, error) {
	c, err := c.Normalize()
	if err != nil {
		return idempotency.Outcome{}, err
	}
	var fingerprint []byte
	if !c.Key.Fingerprint.IsZero() {
		fingerprint = c.Key.Fingerprint[:]
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails: crypto/rand ends the program instead
	reply, err := s.run(ctx, beginScript, c.Key, fingerprint, max(1, c.Lease.Microseconds()), milliseconds(c.TTL), c.Fence, nonce[:])
	if err != nil {
		return idempotency.Outcome{}, err
	}
	now := time.Now()
	out := idempotency.Outcome{}
	switch answer := reply.text(0); answer {
	case "acquired":
		out.State = idempotency.Acquired
		out.Attempt = int(reply.number(1))
		out.Token = idempotency.Token{Key: c.Key, Fence: reply.number(2)}
		out.Until = now.Add(time.Duration(reply.number(3)) * time.Microsecond)
	case "in progress":
		out.State = idempotency.InProgress
		out.Attempt = int(reply.number(1))
		out.Until = now.Add(time.Duration(reply.number(2)) * time.Microsecond)
	case "done":
		out.State = idempotency.Done
		out.Attempt = int(reply.number(1))
		out.Result = []byte(reply.text(2))
	case "mismatch":
		out.State = idempotency.Mismatch
	case "stale":
		return out, fmt.Errorf("%w: claim fence %d is below %s", idempotency.ErrStale, c.Fence, reply.text(1))
	default:
		return out, reply.refusal()
	}
	return out, nil
}

// Renew implements [idempotency.Store].
func (s *Store) Renew(ctx context.Context, t idempotency.Token, lease time.Duration) error {
	if lease <= 0 {
		return &idempotency.Error{Op: "renew", Key: t.Key, Err: fmt.Errorf("lease %v is not positive", lease)}
	}
	return s.settle(ctx, "renew", renewScript, t, max(1, min(lease, forever).Microseconds()))
}

// Complete implements [idempotency.Store].
func (s *Store) Complete(ctx context.Context, t idempotency.Token, result []byte, ttl time.Duration) error {
	if ttl <= 0 {
		return &idempotency.Error{Op: "complete", Key: t.Key, Err: fmt.Errorf("ttl %v is not positive", ttl)}
	}
	return s.settle(ctx, "complete", completeScript, t, result, milliseconds(min(ttl, forever)))
}

// Abort implements [idempotency.Store].
func (s *Store) Abort(ctx context.Context, t idempotency.Token) error {
	return s.settle(ctx, "abort", abortScript, t)
}

func (s *Store) settle(ctx context.Context, op string, script *redis.Script, t idempotency.Token, args ...any) error {
	reply, err := s.run(ctx, script, t.Key, append([]any{t.Fence}, args...)...)
	switch {
	case err != nil:
	case reply.text(0) == "ok":
		return nil
	case reply.text(0) == "stale":
		err = idempotency.ErrStale
	default:
		err = reply.refusal()
	}
	return &idempotency.Error{Op: op, Key: t.Key, Err: err}
}

func (s *Store) run(ctx context.Context, script *redis.Script, k idempotency.Key, args ...any) (reply, error) {
	if err := ctx.Err(); err != nil { // go-redis would still write to an idle connection
		return nil, err
	}
	return script.Run(ctx, s.client, []string{s.name(k)}, args...).Slice()
}

func (s *Store) name(k idempotency.Key) string { return s.prefix + "{" + k.String() + "}" }

// forever is the longest lease and TTL, as [idempotency.Claim] says.
const forever = 100 * 365 * 24 * time.Hour

// milliseconds rounds up, so that nothing is forgotten early.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// reply is what a script returned: an answer, then what belongs to it.
type reply []any

func (r reply) text(i int) string {
	if i < len(r) {
		s, _ := r[i].(string)
		return s
	}
	return ""
}

func (r reply) number(i int) int64 {
	if i < len(r) {
		n, _ := r[i].(int64)
		return n
	}
	return 0
}

func (r reply) refusal() error {
	if r.text(0) == "version" {
		return fmt.Errorf("the record has format version %q, known is 1: a newer version of this package wrote it", r.text(1))
	}
	return errors.New("the script's reply is not understood")
}
