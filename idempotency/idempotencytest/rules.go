package idempotencytest

import (
	"bytes"
	"context"
	"math"
	"strings"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

func acquire(k *kit) {
	from := time.Now()
	out := k.acquire(idempotency.Claim{Key: key("a"), Lease: long})
	k.attempt(out, 1)
	k.until(out, from, long)
	other := k.acquire(idempotency.Claim{Key: key("b"), Lease: long})
	k.attempt(other, 1)
}

func inProgress(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long}
	from := time.Now()
	k.acquire(c)
	c.Lease = time.Hour // must not touch the lease of the holder
	for range 2 {
		out := k.expect(c, idempotency.InProgress)
		k.attempt(out, 1)
		k.until(out, from, long)
		if out.Token != (idempotency.Token{}) {
			k.failf("a claim in progress got the token %+v", out.Token)
		}
	}
}

func doneResult(k *kit) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	results := map[string][]byte{
		"empty": nil,
		"text":  []byte("receipt 17"),
		"bytes": everyByte,
		"large": bytes.Repeat(everyByte, 1024),
	}
	for id, want := range results {
		c := idempotency.Claim{Key: key(id), Lease: long}
		k.ok(k.store.Complete(k.Context(), k.acquire(c).Token, want, long))
		for range 2 {
			k.hasResult(c, want)
			k.attempt(k.begin(c), 1)
		}
	}
}

func resultIsCopied(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long}
	given := []byte("receipt")
	k.ok(k.store.Complete(k.Context(), k.acquire(c).Token, given, long))
	copy(given, "CHANGED")
	got := k.expect(c, idempotency.Done).Result
	if string(got) != "receipt" {
		k.failf("the result changed with the caller's slice to %q", got)
	}
	copy(got, "CHANGED")
	k.hasResult(c, []byte("receipt"))
}

func mismatch(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long}
	c.Key.Fingerprint = idempotency.Sum([]byte("one"))
	other := c
	other.Key.Fingerprint = idempotency.Sum([]byte("another"))
	other.Fence = 5 // must not be remembered

	first := k.acquire(c)
	k.expect(other, idempotency.Mismatch)
	k.expect(c, idempotency.InProgress)
	k.ok(k.store.Abort(k.Context(), first.Token))
	k.expect(other, idempotency.Mismatch)
	second := k.acquire(c)
	k.attempt(second, 2)
	k.complete(second.Token, "r")
	k.expect(other, idempotency.Mismatch)
	k.hasResult(c, []byte("r"))
}

func fingerprintOptional(k *kit) {
	without := idempotency.Claim{Key: key("a"), Lease: long}
	with, other := without, without
	with.Key.Fingerprint = idempotency.Sum([]byte("one"))
	other.Key.Fingerprint = idempotency.Sum([]byte("another"))

	first := k.acquire(without)
	k.expect(with, idempotency.InProgress)  // nothing to compare with,
	k.expect(other, idempotency.InProgress) // and who did not take the key leaves none
	k.ok(k.store.Abort(k.Context(), first.Token))
	second := k.acquire(with)
	k.expect(other, idempotency.Mismatch)
	k.expect(without, idempotency.InProgress)
	k.ok(k.store.Abort(k.Context(), second.Token))
	third := k.acquire(without)
	k.expect(other, idempotency.Mismatch)
	k.complete(third.Token, "r")
	k.expect(other, idempotency.Mismatch)
	k.hasResult(without, []byte("r"))
	k.hasResult(with, []byte("r"))
}

func leaseEnds(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: short}
	from := time.Now()
	first := k.acquire(c)
	c.Lease = long
	second := k.acquireLater(c, from, short)
	k.attempt(second, 2)
	k.higher(second, first)
	k.stale("the token of a lease that ended", first.Token)
	k.expect(c, idempotency.InProgress)
	k.complete(second.Token, "second")
	k.stale("the token of a lease that ended", first.Token)
	k.hasResult(c, []byte("second"))
}

func lateHolder(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: time.Millisecond, TTL: long}
	first := k.acquire(c)
	time.Sleep(20 * time.Millisecond)
	k.ok(k.store.Renew(k.Context(), first.Token, long))
	k.expect(c, idempotency.InProgress)

	c.Key = key("b")
	second := k.acquire(c)
	time.Sleep(20 * time.Millisecond)
	k.complete(second.Token, "late")
	k.hasResult(c, []byte("late"))

	c.Key = key("c")
	third := k.acquire(c)
	time.Sleep(20 * time.Millisecond)
	k.ok(k.store.Abort(k.Context(), third.Token))
	k.attempt(k.acquire(c), 2)
}

func renew(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: short}
	first := k.acquire(c)
	from := time.Now()
	k.ok(k.store.Renew(k.Context(), first.Token, long))
	time.Sleep(2 * short)
	out := k.expect(c, idempotency.InProgress)
	k.until(out, from, long)

	from = time.Now() // a lease is renewed to an earlier end only by a clock gone wrong
	k.ok(k.store.Renew(k.Context(), first.Token, time.Millisecond))
	time.Sleep(20 * time.Millisecond)
	if out := k.expect(c, idempotency.InProgress); out.Until.Before(from.Add(long / 2)) {
		k.failf("Renew made the lease shorter: it ends at %v", out.Until)
	}
}

func renewOutlivesTTL(k *kit) {
	const second = time.Second // long enough to renew within it
	c := idempotency.Claim{Key: key("a"), Lease: second, TTL: second}
	first := k.acquire(c)
	k.ok(k.store.Renew(k.Context(), first.Token, long))
	time.Sleep(second + short)
	k.attempt(k.expect(c, idempotency.InProgress), 1)

	c = idempotency.Claim{Key: key("b"), Lease: long, TTL: time.Millisecond}
	k.acquire(c)
	time.Sleep(20 * time.Millisecond)
	k.expect(c, idempotency.InProgress)
}

func staleToken(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long}
	k.stale("a token of a key never taken", idempotency.Token{Key: c.Key, Fence: 1})
	k.attempt(k.acquire(c), 1)

	c.Key = key("b")
	first := k.acquire(c)
	above, below := first.Token, first.Token
	above.Fence++
	below.Fence--
	k.stale("a fence not given out yet", above)
	k.stale("a fence below the holder's", below)
	elsewhere := first.Token
	elsewhere.Key = key("c")
	k.stale("the token of another key", elsewhere)
	k.expect(c, idempotency.InProgress)
	k.complete(first.Token, "r")
	k.is("Renew of a completed key", k.store.Renew(k.Context(), first.Token, long), idempotency.ErrStale)
	k.is("Abort of a completed key", k.store.Abort(k.Context(), first.Token), idempotency.ErrStale)
	k.hasResult(c, []byte("r"))
}

func abort(k *kit) {
	ctx, c := k.Context(), idempotency.Claim{Key: key("a"), Lease: long}
	last := k.acquire(c)
	for n := 2; n <= 5; n++ {
		k.ok(k.store.Abort(ctx, last.Token))
		k.is("Renew after Abort", k.store.Renew(ctx, last.Token, long), idempotency.ErrStale)
		k.is("Complete after Abort", k.store.Complete(ctx, last.Token, nil, long), idempotency.ErrStale)
		next := k.acquire(c)
		k.attempt(next, n)
		k.higher(next, last)
		k.stale("the token of a key given back and taken again", last.Token)
		last = next
	}
	k.complete(last.Token, "r")
	k.attempt(k.expect(c, idempotency.Done), 5)
}

func twice(k *kit) {
	ctx, c := k.Context(), idempotency.Claim{Key: key("a"), Lease: long}
	first := k.acquire(c)
	k.ok(k.store.Abort(ctx, first.Token))
	k.ok(k.store.Abort(ctx, first.Token))
	second := k.acquire(c)
	k.attempt(second, 2)
	k.ok(k.store.Renew(ctx, second.Token, long))
	k.ok(k.store.Renew(ctx, second.Token, long))
	k.complete(second.Token, "r")
	k.complete(second.Token, "r")
	k.hasResult(c, []byte("r"))
}

func claimFence(k *kit) {
	ctx := k.Context()
	claim := func(fence int64) idempotency.Claim {
		return idempotency.Claim{Key: key("a"), Lease: long, Fence: fence}
	}
	refuse := func(when string, fence int64) {
		k.Helper()
		_, err := k.store.Begin(ctx, claim(fence))
		k.is(when, err, idempotency.ErrStale)
	}
	first := k.acquire(claim(3))
	refuse("while the key is held", 2)
	k.expect(claim(3), idempotency.InProgress)
	k.expect(claim(4), idempotency.InProgress)
	refuse("after a higher fence saw the key in progress", 3)
	k.ok(k.store.Renew(ctx, first.Token, long)) // the claim was refused, not its holder
	k.ok(k.store.Abort(ctx, first.Token))
	refuse("after the key was given back", 3)
	refuse("without a fence", 0)
	second := k.acquire(claim(4))
	k.attempt(second, 2)
	k.complete(second.Token, "r")
	k.expect(claim(4), idempotency.Done)
	k.expect(claim(6), idempotency.Done)
	refuse("after a higher fence saw the result", 5)
	k.expect(claim(6), idempotency.Done)
}

func claimFenceExact(k *kit) {
	for _, high := range []int64{idempotency.MaxFence, 1<<52 + 1, 100_000_000_000_001} {
		c := idempotency.Claim{Key: key("a").Child(time.Duration(high).String()), Lease: long, Fence: high}
		k.acquire(c)
		c.Fence = high - 1
		_, err := k.store.Begin(k.Context(), c)
		k.is("one below a large fence", err, idempotency.ErrStale)
		c.Fence = high
		k.expect(c, idempotency.InProgress)
	}
}

func ttlEnds(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long, Fence: 7}
	c.Key.Fingerprint = idempotency.Sum([]byte("one"))
	first := k.acquire(c)
	from := time.Now()
	k.ok(k.store.Complete(k.Context(), first.Token, []byte("r"), short))
	c.Fence = 8
	second := k.acquireLater(c, from, short)
	k.attempt(second, 1)
	k.higher(second, first)
	k.stale("the token of a forgotten key", first.Token)

	from = time.Now()
	k.ok(k.store.Complete(k.Context(), second.Token, []byte("r"), short))
	time.Sleep(2 * short)
	k.stale("the token of a forgotten key", second.Token)
	c.Fence = 1 // what was seen is forgotten too, and so is the fingerprint
	c.Key.Fingerprint = idempotency.Sum([]byte("another"))
	third := k.acquireLater(c, from, short)
	k.attempt(third, 1)
	k.higher(third, second)
}

func forever(k *kit) {
	const longest, year = time.Duration(math.MaxInt64), 365 * 24 * time.Hour
	c := idempotency.Claim{Key: key("a"), Lease: longest, TTL: longest}
	held := k.acquire(c)
	renewed := idempotency.Claim{Key: key("b"), Lease: long}
	k.ok(k.store.Renew(k.Context(), k.acquire(renewed).Token, longest))
	time.Sleep(short)
	for _, each := range []idempotency.Claim{c, renewed} {
		if out := k.expect(each, idempotency.InProgress); time.Until(out.Until) < year {
			k.failf("the longest lease of %v ends in %v", each.Key, time.Until(out.Until))
		}
	}
	k.ok(k.store.Complete(k.Context(), held.Token, []byte("r"), longest))
	time.Sleep(short)
	k.hasResult(c, []byte("r"))
}

func unfinishedTTL(k *kit) {
	const ttl = time.Second // long enough to give the key back within it
	c := idempotency.Claim{Key: key("a"), Lease: short, TTL: ttl, Fence: 2}
	from := time.Now()
	first := k.acquire(c)
	k.ok(k.store.Abort(k.Context(), first.Token))
	time.Sleep(ttl + short)
	c.Fence = 1
	second := k.acquireLater(c, from, ttl)
	k.attempt(second, 1)
	k.higher(second, first)
}

func keysApart(k *kit) {
	full := strings.Repeat("x", idempotency.MaxKeyBytes)
	keys := []idempotency.Key{
		{Scope: "kit", ID: "a"}, {Scope: "kit", ID: "A"}, {Scope: "kit", ID: "a "}, {Scope: "kit", ID: "a\x00"},
		{Scope: "kit", ID: "b/c"}, {Scope: "kit/b", ID: "c"}, {Scope: "kit", ID: "b%2Fc"}, {Scope: "kit%2Fb", ID: "c"},
		{Scope: "kit", ID: "{a}"}, {Scope: "kit", ID: "}{"}, {Scope: "kit{", ID: "a}"}, {Scope: "kit", ID: "*"},
		{Scope: "kit", ID: "é"}, {Scope: "kit", ID: "e\u0301"}, {Scope: "kit", ID: "\xff\xfe"}, {Scope: "kit", ID: "\n"},
		{Scope: "kit" + full[3:], ID: full}, {Scope: "kit" + full[3:], ID: full[1:]},
	}
	for _, each := range keys {
		out := k.acquire(idempotency.Claim{Key: each, Lease: long})
		k.attempt(out, 1)
		k.complete(out.Token, each.String())
	}
	for _, each := range keys {
		k.hasResult(idempotency.Claim{Key: each, Lease: long}, []byte(each.String()))
	}
}

func badArguments(k *kit) {
	ctx := k.Context()
	tooLong := strings.Repeat("x", idempotency.MaxKeyBytes+1)
	for what, bad := range map[string]idempotency.Key{
		"zero key":      {},
		"empty scope":   {ID: "a"},
		"empty ID":      {Scope: "kit"},
		"overlong ID":   {Scope: "kit", ID: tooLong},
		"overlong name": {Scope: tooLong, ID: "a"},
	} {
		_, err := k.store.Begin(ctx, idempotency.Claim{Key: bad, Lease: long})
		k.is(what, err, idempotency.ErrKey)
	}
	for what, bad := range map[string]idempotency.Claim{
		"no lease":             {Key: key("a")},
		"negative lease":       {Key: key("a"), Lease: -1},
		"negative TTL":         {Key: key("a"), Lease: long, TTL: -1},
		"negative claim fence": {Key: key("a"), Lease: long, Fence: -1},
		"fence above MaxFence": {Key: key("a"), Lease: long, Fence: idempotency.MaxFence + 1},
	} {
		if out, err := k.store.Begin(ctx, bad); err == nil {
			k.failf("%s was accepted: %+v", what, out)
		}
	}
	held := k.acquire(idempotency.Claim{Key: key("a"), Lease: long})
	k.attempt(held, 1)
	for _, d := range []time.Duration{0, -1} {
		if k.store.Renew(ctx, held.Token, d) == nil {
			k.failf("Renew accepted a lease of %v", d)
		}
		if k.store.Complete(ctx, held.Token, nil, d) == nil {
			k.failf("Complete accepted a TTL of %v", d)
		}
	}
	k.expect(idempotency.Claim{Key: key("a"), Lease: long}, idempotency.InProgress)
}

func cancelled(k *kit) {
	c := idempotency.Claim{Key: key("a"), Lease: long}
	_, err := k.store.Begin(cancelledContext(k), c)
	k.is("Begin", err, context.Canceled)
	held := k.acquire(c)
	k.attempt(held, 1)
	k.is("Renew", k.store.Renew(cancelledContext(k), held.Token, long), context.Canceled)
	k.is("Complete", k.store.Complete(cancelledContext(k), held.Token, nil, long), context.Canceled)
	k.is("Abort", k.store.Abort(cancelledContext(k), held.Token), context.Canceled)
	k.expect(c, idempotency.InProgress)
	k.complete(held.Token, "r")
}
