package idempotencytest

import (
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/idempotency"
)

const contenders = 16

// race lets contenders claim at the same time and returns their outcomes.
func (k *kit) race(c idempotency.Claim) []idempotency.Outcome {
	var group sync.WaitGroup
	start := make(chan struct{})
	outs, errs := make([]idempotency.Outcome, contenders), make([]error, contenders)
	for i := range contenders {
		group.Go(func() {
			<-start
			outs[i], errs[i] = k.store.Begin(k.Context(), c)
		})
	}
	close(start)
	group.Wait()
	for _, err := range errs {
		k.ok(err)
	}
	return outs
}

func (k *kit) oneAcquired(outs []idempotency.Outcome) idempotency.Outcome {
	k.Helper()
	var winner idempotency.Outcome
	winners := 0
	for _, out := range outs {
		switch out.State {
		case idempotency.Acquired:
			winner = out
			winners++
		case idempotency.InProgress:
		default:
			k.failf("a contender got %v", out.State)
		}
	}
	if winners != 1 {
		k.failf("%d of %d contenders acquired the key", winners, len(outs))
	}
	return winner
}

func concurrentBegin(k *kit) {
	for round := range 20 {
		c := idempotency.Claim{Key: key(string(rune('a' + round))), Lease: long}
		k.attempt(k.oneAcquired(k.race(c)), 1)
	}
}

func concurrentTakeover(k *kit) {
	for round := range 10 {
		c := idempotency.Claim{Key: key(string(rune('a' + round))), Lease: time.Millisecond, TTL: long}
		first := k.acquire(c)
		time.Sleep(10 * time.Millisecond)
		c.Lease = long
		winner := k.oneAcquired(k.race(c))
		k.attempt(winner, 2)
		k.higher(winner, first)
	}
}

func concurrentHandOver(k *kit) {
	const each = 8
	ctx, c := k.Context(), idempotency.Claim{Key: key("a"), Lease: long}
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		taken []idempotency.Outcome // in the order of taking, as nobody else takes between Begin and Abort
		errs  []error
	)
	giveUp := time.Now().Add(time.Minute)
	for range contenders {
		group.Go(func() {
			for n := 0; n < each && time.Now().Before(giveUp); {
				out, err := k.store.Begin(ctx, c)
				if err == nil && out.State == idempotency.Acquired {
					n++
					mu.Lock()
					taken = append(taken, out)
					mu.Unlock()
					err = k.store.Abort(ctx, out.Token)
				} else {
					time.Sleep(time.Millisecond)
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		k.ok(err)
	}
	if len(taken) != contenders*each {
		k.failf("the key was taken %d times within a minute, want %d", len(taken), contenders*each)
	}
	for i, out := range taken {
		k.attempt(out, i+1)
	}
	if !slices.IsSortedFunc(taken, func(a, b idempotency.Outcome) int { return int(a.Token.Fence - b.Token.Fence) }) {
		k.failf("fences do not rise in the order of taking")
	}
	k.attempt(k.acquire(c), contenders*each+1)
}
