package idempotency

import (
	"context"
	"fmt"
	"time"
)

// Store keeps keys. Its four methods are safe for concurrent use, by any number
// of processes where the store is shared, and each is atomic.
//
// A record of a key holds the highest fence given out, the number of attempts,
// the highest Claim.Fence seen, the first fingerprint that came with a taking, and
// either the end of a lease or a result. Errors match [ErrStale], [ErrTooLarge],
// [ErrFull] or [ErrKey] where these apply; any other error means that the store
// could not be asked or did not answer, and that the outcome is unknown.
//
// Renew, Complete and Abort may be sent twice by a client that lost the answer:
// the second one changes nothing and returns nil.
type Store interface {
	// Begin takes the key if it is free: never seen, forgotten, given back, or
	// held under a lease that has ended. Otherwise it changes nothing but the
	// highest Claim.Fence seen. In this order:
	//
	//   - Claim.Fence below the highest seen: ErrStale
	//   - fingerprints that differ: Mismatch
	//   - done: Done, with the result
	//   - held: InProgress, with the end of the lease
	//   - otherwise: Acquired, with a token whose fence is higher than every
	//     fence this store gave out for the key, forgotten records included;
	//     a fingerprint is kept if the record has none
	Begin(ctx context.Context, c Claim) (Outcome, error)

	// Renew makes the lease end no sooner than lease from now; it never makes
	// it shorter. It fails with ErrStale where t does not hold the key. A lease
	// that has ended can be renewed as long as nobody took the key.
	Renew(ctx context.Context, t Token, lease time.Duration) error

	// Complete stores the result, and remembers the key for ttl from now. It
	// fails with ErrStale where t does not hold the key, and is allowed after
	// the lease ended as long as nobody took the key. The result may be empty;
	// the store copies it.
	Complete(ctx context.Context, t Token, result []byte, ttl time.Duration) error

	// Abort gives the key back, so that the next Begin takes it. The attempt
	// stays counted, and the fingerprint and fences stay remembered, until the
	// TTL of the claim ends. It fails with ErrStale where t does not hold the
	// key.
	Abort(ctx context.Context, t Token) error
}

// Claim asks for a key.
type Claim struct {
	// Key is what is asked for.
	Key Key
	// Lease is how long the key is held unless it is renewed. Must be positive.
	// This and every other lease or TTL counts as 100 years if it is longer.
	Lease time.Duration
	// TTL is how long the key, and with it the count of attempts, is
	// remembered from now if it is never completed; at least Lease. Zero is
	// DefaultTTL.
	TTL time.Duration
	// Fence is the caller's own fence, where a lease above this one gave it
	// such: a saga's, for example. The store refuses a claim below the highest
	// it has seen for the key. It is not the Fence of a Token. Zero is the
	// lowest; from 0 to MaxFence.
	Fence int64
}

// MaxFence is the highest fence, of a Claim or a Token: above it a
// double-precision number, which is all that Redis scripts have, is not exact.
const MaxFence = 1<<53 - 1

// DefaultTTL is how long keys are remembered where nothing else is said.
const DefaultTTL = 7 * 24 * time.Hour

// forever is the longest lease and TTL: with a clock's reading added it still
// fits a time.Duration, and in microseconds the exact part of a double.
const forever = 100 * 365 * 24 * time.Hour

// Normalize checks the claim and fills in what is zero: stores call it first in
// Begin. The TTL of the result is at least its Lease, and neither is longer
// than 100 years, so that a time can be added to them.
func (c Claim) Normalize() (Claim, error) {
	if err := c.Key.Validate(); err != nil {
		return c, err
	}
	if c.Lease <= 0 {
		return c, fmt.Errorf("lease %v is not positive", c.Lease)
	}
	if c.TTL < 0 {
		return c, fmt.Errorf("ttl %v is negative", c.TTL)
	}
	if c.Fence < 0 || c.Fence > MaxFence {
		return c, fmt.Errorf("claim fence %d is outside 0 to %d", c.Fence, int64(MaxFence))
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	c.Lease = min(c.Lease, forever)
	c.TTL = min(max(c.TTL, c.Lease), forever)
	return c, nil
}

// State is what Begin found.
type State int

// The states a key can be in for who asks for it. The zero State is none of
// them.
const (
	Acquired   State = 1 + iota // the caller holds the key
	InProgress                  // somebody else holds it
	Done                        // a result is stored
	Mismatch                    // the key came before with another fingerprint
)

// String returns the state in words.
func (s State) String() string {
	switch s {
	case Acquired:
		return "acquired"
	case InProgress:
		return "in progress"
	case Done:
		return "done"
	case Mismatch:
		return "mismatch"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Outcome is the answer of Begin.
type Outcome struct {
	// State says which of the other fields are set.
	State State
	// Token is what the holder shows; set when Acquired.
	Token Token
	// Attempt counts how often the key was acquired since it was first seen,
	// this time included; 1 means that no work for it ever began. Not set on
	// Mismatch.
	Attempt int
	// Until is the end of the lease by this machine's clock; set when Acquired
	// or InProgress.
	Until time.Time
	// Result is what Complete stored; set when Done. It belongs to the caller.
	Result []byte
}

// Token proves that its bearer took the key.
type Token struct {
	Key   Key
	Fence int64 // from 1; higher for every taking of the key
}
