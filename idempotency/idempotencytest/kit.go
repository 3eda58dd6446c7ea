// Package idempotencytest checks implementations of [idempotency.Store]. The
// stores of this module pass it; one's own should too:
//
//	func TestStore(t *testing.T) {
//		idempotencytest.TestStore(t, func(t *testing.T) idempotency.Store { return open(t) })
//	}
//
// Every rule is a subtest, and its failures name it. Leases in the kit are
// either so long that no slow machine outlives them, or waited for as long as it
// takes, so a rule does not fail because a server is slow.
package idempotencytest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

const (
	long  = 10 * time.Minute       // does not end during a test
	short = 100 * time.Millisecond // is waited for
)

// TestStore runs the rules of [idempotency.Store] against the stores that open
// returns, one for each rule. Each must be empty, or at least hold no key whose
// scope begins with "kit"; open registers what is to be closed with t.Cleanup.
// The rules run at the same time and take a few seconds; those for an
// [*idempotency.MemoryStore] run in a synctest bubble and take none.
func TestStore(t *testing.T, open func(*testing.T) idempotency.Store) {
	_, inMemory := open(t).(*idempotency.MemoryStore)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			check := func(t *testing.T) {
				r.check(&kit{T: t, rule: r.text, store: open(t)})
			}
			if inMemory {
				synctest.Test(t, check)
				return
			}
			t.Parallel()
			check(t)
		})
	}
}

// rule is one promise of the Store interface.
type rule struct {
	name  string
	text  string
	check func(*kit)
}

var rules = []rule{
	{"Acquire", "a free key is acquired, as attempt 1, for the length of the lease", acquire},
	{"InProgress", "a held key is in progress for everybody else, until its lease ends", inProgress},
	{"Done", "a completed key gives its result to every later claim", doneResult},
	{"ResultIsCopied", "the store and its callers share no memory", resultIsCopied},
	{"Mismatch", "another fingerprint is refused as long as the key is remembered, and changes nothing", mismatch},
	{"FingerprintOptional", "a zero fingerprint is not compared, and the first one stays", fingerprintOptional},
	{"LeaseEnds", "when a lease ends, and not before, the next claim takes over with a higher fence", leaseEnds},
	{"LateHolder", "a holder whose lease ended may still renew and complete while nobody took over", lateHolder},
	{"Renew", "a renewed lease ends later", renew},
	{"RenewOutlivesTTL", "a held key is not forgotten, however short the claim's TTL", renewOutlivesTTL},
	{"StaleToken", "a token that does not hold its key changes nothing and gets ErrStale", staleToken},
	{"Abort", "a key given back is free at once, and its attempts stay counted", abort},
	{"Twice", "what the holder said twice is heard once, without an error", twice},
	{"ClaimFence", "a claim fence below the highest seen is stale, whatever the state of the key", claimFence},
	{"ClaimFenceExact", "fences compare exactly up to MaxFence", claimFenceExact},
	{"TTL", "a completed key is forgotten when its TTL ends, and not before; its fences are not used again", ttlEnds},
	{"Forever", "the longest lease and TTL there are do not end", forever},
	{"UnfinishedTTL", "a key given back is forgotten when the claim's TTL ends", unfinishedTTL},
	{"KeysApart", "different scopes and IDs never meet, whatever bytes they hold", keysApart},
	{"BadArguments", "unusable keys, leases, TTLs and fences are refused", badArguments},
	{"Cancelled", "a call whose context has ended fails with its error, and leaves the key usable", cancelled},
	{"ConcurrentBegin", "of claims made at the same time exactly one acquires", concurrentBegin},
	{"ConcurrentTakeover", "of claims made when a lease has ended exactly one acquires", concurrentTakeover},
	{"ConcurrentHandOver", "under contention fences rise, and no attempt is lost or counted twice", concurrentHandOver},
}

// kit is one rule being checked.
type kit struct {
	*testing.T

	rule  string
	store idempotency.Store
}

func (k *kit) failf(format string, args ...any) {
	k.Helper()
	k.Fatalf("rule: "+k.rule+"\n"+format, args...)
}

func key(id string) idempotency.Key { return idempotency.Key{Scope: "kit", ID: id} }

func (k *kit) begin(c idempotency.Claim) idempotency.Outcome {
	k.Helper()
	out, err := k.store.Begin(k.Context(), c)
	if err != nil {
		k.failf("Begin(%+v): %v", c, err)
	}
	return out
}

func (k *kit) expect(c idempotency.Claim, want idempotency.State) idempotency.Outcome {
	k.Helper()
	out := k.begin(c)
	if out.State != want {
		k.failf("Begin(%v) = %v, want %v", c.Key, out.State, want)
	}
	return out
}

func (k *kit) acquire(c idempotency.Claim) idempotency.Outcome {
	k.Helper()
	out := k.expect(c, idempotency.Acquired)
	if out.Token.Key != c.Key {
		k.failf("token is for %+v, claimed was %+v", out.Token.Key, c.Key)
	}
	if out.Token.Fence < 1 || out.Token.Fence > idempotency.MaxFence {
		k.failf("token fence is %d, want 1 to MaxFence", out.Token.Fence)
	}
	return out
}

// acquireLater claims until the key is acquired, and fails if that comes while
// at least wait since from cannot have passed.
func (k *kit) acquireLater(c idempotency.Claim, from time.Time, wait time.Duration) idempotency.Outcome {
	k.Helper()
	for giveUp := time.Now().Add(time.Minute); ; time.Sleep(wait / 20) {
		out := k.begin(c)
		// A server's clock may tick in milliseconds.
		if took := time.Since(from); out.State == idempotency.Acquired && took < wait-2*time.Millisecond {
			k.failf("%v acquired %v after it was taken for %v", c.Key, took, wait)
		}
		if out.State == idempotency.Acquired {
			return out
		}
		if time.Now().After(giveUp) {
			k.failf("%v is still %v a minute after it should be free", c.Key, out.State)
		}
	}
}

func (k *kit) ok(err error) {
	k.Helper()
	if err != nil {
		k.failf("unexpected error: %v", err)
	}
}

func (k *kit) is(what string, err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.failf("%s: got error %v, want one that matches %q", what, err, want)
	}
}

func (k *kit) stale(what string, t idempotency.Token) {
	k.Helper()
	ctx := k.Context()
	k.is("Renew with "+what, k.store.Renew(ctx, t, long), idempotency.ErrStale)
	k.is("Complete with "+what, k.store.Complete(ctx, t, []byte("stale"), long), idempotency.ErrStale)
	k.is("Abort with "+what, k.store.Abort(ctx, t), idempotency.ErrStale)
}

func (k *kit) complete(t idempotency.Token, result string) {
	k.Helper()
	k.ok(k.store.Complete(k.Context(), t, []byte(result), long))
}

func (k *kit) hasResult(c idempotency.Claim, want []byte) {
	k.Helper()
	if out := k.expect(c, idempotency.Done); !bytes.Equal(out.Result, want) {
		k.failf("result of %v is %.60q, want %.60q", c.Key, out.Result, want)
	}
}

func (k *kit) attempt(out idempotency.Outcome, want int) {
	k.Helper()
	if out.Attempt != want {
		k.failf("attempt is %d, want %d", out.Attempt, want)
	}
}

func (k *kit) higher(next, than idempotency.Outcome) {
	k.Helper()
	if next.Token.Fence <= than.Token.Fence {
		k.failf("fence %d is not above %d, which was given out before", next.Token.Fence, than.Token.Fence)
	}
}

// until checks the end of a lease that was taken between from and now.
func (k *kit) until(out idempotency.Outcome, from time.Time, lease time.Duration) {
	k.Helper()
	const slack = 50 * time.Millisecond // clocks that tick, a server apart
	if out.Until.Before(from.Add(lease-slack)) || out.Until.After(time.Now().Add(lease+slack)) {
		k.failf("lease of %v taken at %v ends at %v", lease, from, out.Until)
	}
}

func cancelledContext(k *kit) context.Context {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	return ctx
}
