package sagatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// recordRules are the rules of what is created and committed.
func recordRules(rule func(name string, f func(kit))) {
	rule("a record comes back whole", func(k kit) {
		want := record("a")
		want.Started = want.Started.Truncate(time.Microsecond)
		want.Updated = want.Updated.Truncate(time.Microsecond)
		want.Log[0].Time = want.Log[0].Time.Truncate(time.Microsecond)
		want.Owner, want.Fence, want.Wake = "me", 7, want.Started.Add(time.Hour)
		k.create(want)
		k.equal(k.load("a"), want, "after Create")
		next := want.Clone()
		next.Status, next.State, next.Results, next.Log = saga.Parked, []byte(`[1,2]`), nil, append(next.Log, next.Log[0])
		if err := k.commit(saga.Change{Record: next, Rev: 1, Fence: 7})[0]; err != nil {
			k.Fatal(err)
		}
		next.Rev = 2
		k.equal(k.load("a"), next, "after Commit")
	})
	rule("Create gives Rev 1 whatever the record says", func(k kit) {
		r := record("a")
		r.Rev = 9
		k.create(r)
		if got := k.load("a").Rev; got != 1 {
			k.Errorf("Rev %d", got)
		}
	})
	rule("an ID is created once", func(k kit) {
		k.create(record("a"))
		other := record("a")
		other.Definition = "other"
		k.wantErr(k.Create(k.Context(), other), saga.ErrExists, "second Create")
		if got := k.load("a").Definition; got != "kit" {
			k.Errorf("the second Create changed the record to %q", got)
		}
	})
	rule("an ID is created once by many", func(k kit) {
		var created atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				switch err := k.Create(context.Background(), record("a")); {
				case err == nil:
					created.Add(1)
				case !errors.Is(err, saga.ErrExists):
					k.Errorf("Create: %v", err)
				}
			})
		}
		wg.Wait()
		if n := created.Load(); n != 1 {
			k.Errorf("%d of 16 created it", n)
		}
	})
	rule("IDs are any text", func(k kit) {
		for _, id := range []string{"a/b", "ü 世界 😀", "%00'\"\\", strings.Repeat("x", 256)} {
			k.create(record(id))
			k.keeps(id)
		}
	})
	rule("an ID that is no text is refused or kept", func(k kit) {
		for _, id := range []string{"caf\xe9", "caf\xe8", "\xff"} { // none may become another
			if err := k.Create(k.Context(), record(id)); err == nil {
				k.keeps(id)
			}
		}
	})
	rule("what is not there is not found", func(k kit) {
		_, err := k.Load(k.Context(), "a")
		k.wantErr(err, saga.ErrNotFound, "Load")
		k.wantErr(k.commit(saga.Change{Record: record("a"), Rev: 1})[0], saga.ErrNotFound, "Commit")
	})
	rule("Commit compares Rev and Fence", func(k kit) {
		r := record("a")
		r.Fence = 5
		k.create(r)
		for _, c := range []saga.Change{{Record: r, Rev: 2, Fence: 5}, {Record: r, Rev: 1, Fence: 4}, {Record: r, Rev: 1, Fence: 6}, {Record: r, Rev: 0, Fence: 5}} {
			k.wantErr(k.commit(c)[0], saga.ErrStale, fmt.Sprintf("Commit with Rev %d, Fence %d", c.Rev, c.Fence))
		}
		if got := k.load("a").Rev; got != 1 {
			k.Errorf("a refused Commit left Rev %d", got)
		}
		r.Rev, r.Fence = 77, 78 // ignored
		if err := k.commit(saga.Change{Record: r, Rev: 1, Fence: 5})[0]; err != nil {
			k.Errorf("Commit: %v", err)
		}
		if got := k.load("a"); got.Rev != 2 || got.Fence != 5 {
			k.Errorf("Rev %d, Fence %d; want 2, 5", got.Rev, got.Fence)
		}
		k.wantErr(k.commit(saga.Change{Record: r, Rev: 1, Fence: 5})[0], saga.ErrStale, "the same Commit again")
	})
	rule("changes of one Commit stand alone, in their order", func(k kit) {
		a, b := record("a"), record("b")
		k.create(a)
		k.create(b)
		second := a.Clone()
		second.Step = "two"
		results := k.commit(
			saga.Change{Record: a, Rev: 1}, saga.Change{Record: record("c"), Rev: 1}, saga.Change{Record: second, Rev: 2},
			saga.Change{Record: b, Rev: 4}, saga.Change{Record: b, Rev: 1}, saga.Change{Record: a, Rev: 2},
		)
		for i, want := range []error{nil, saga.ErrNotFound, nil, saga.ErrStale, nil, saga.ErrStale} {
			if !errors.Is(results[i], want) {
				k.Errorf("change %d: %v, want %v", i, results[i], want)
			}
		}
		if r := k.load("a"); r.Rev != 3 || r.Step != "two" {
			k.Errorf("a: Rev %d, Step %s", r.Rev, r.Step)
		}
	})
	rule("of many commits one wins each time", func(k kit) {
		r := record("a")
		r.Attempt = 0
		k.create(r)
		const workers, each = 8, 10
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for n := 0; n < each; {
					r, err := k.Load(context.Background(), "a")
					if err != nil {
						k.Errorf("Load: %v", err)
						return
					}
					rev := r.Rev
					r.Attempt++
					results, err := k.Commit(context.Background(), []saga.Change{{Record: r, Rev: rev}})
					switch {
					case err != nil:
						k.Errorf("Commit: %v", err)
						return
					case results[0] == nil:
						n++
					case !errors.Is(results[0], saga.ErrStale):
						k.Errorf("Commit: %v", results[0])
						return
					}
				}
			})
		}
		wg.Wait()
		if r := k.load("a"); r.Attempt != workers*each || r.Rev != workers*each+1 {
			k.Errorf("%d increments and Rev %d after %d commits", r.Attempt, r.Rev, workers*each)
		}
	})
}
