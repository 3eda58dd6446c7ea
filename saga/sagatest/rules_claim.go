package sagatest

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// claimRules are the rules of who may execute what.
func claimRules(rule func(name string, f func(kit))) {
	rule("Claim gives what nobody owns, with a higher fence", func(k kit) {
		k.create(record("a"))
		got := k.claim("me", 10)
		if len(got) != 1 {
			k.Fatalf("claimed %d", len(got))
		}
		want := record("a")
		want.Owner, want.Rev, want.Fence = "me", 2, 1
		k.equal(got[0], want, "claimed")
		k.equal(k.load("a"), want, "stored")
		k.wantErr(k.commit(saga.Change{Record: record("a"), Rev: 1})[0], saga.ErrStale, "a commit by who read it before the claim")
	})
	rule("Claim leaves what is not to be executed", func(k kit) {
		for id, change := range map[string]func(*saga.Record){
			"completed":   func(r *saga.Record) { r.Status = saga.Completed },
			"rolled-back": func(r *saga.Record) { r.Status = saga.RolledBack },
			"parked":      func(r *saga.Record) { r.Status = saga.Parked },
			"not-due":     func(r *saga.Record) { r.Wake = time.Now().Add(time.Hour) },
			"other-shape": func(r *saga.Record) { r.Shape += " " },
			"due":         func(r *saga.Record) { r.Wake = time.Now().Add(-time.Second) },
			"rolling":     func(r *saga.Record) { r.Status = saga.RollingBack },
		} {
			r := record(id)
			change(&r)
			k.create(r)
		}
		ids := map[string]bool{}
		for _, r := range k.claim("me", 10) {
			ids[r.ID] = true
			if !r.Wake.IsZero() {
				k.Errorf("%s was claimed with Wake %v", r.ID, r.Wake)
			}
		}
		if !reflect.DeepEqual(ids, map[string]bool{"due": true, "rolling": true}) {
			k.Errorf("claimed %v, want due and rolling", ids)
		}
		if got, err := k.Claim(k.Context(), "me", nil, 10); err != nil || len(got) != 0 {
			k.Errorf("without shapes: %d, %v", len(got), err)
		}
	})
	rule("Claim sees commits", func(k kit) {
		r := record("a")
		r.Status = saga.Parked
		k.create(r)
		if n := len(k.claim("me", 10)); n != 0 {
			k.Fatalf("claimed a parked saga")
		}
		r.Status = saga.Running
		k.commit(saga.Change{Record: r, Rev: 1})
		if n := len(k.claim("me", 10)); n != 1 {
			k.Errorf("claimed %d after it was resumed", n)
		}
	})
	rule("Claim obeys its limit", func(k kit) {
		for i := range 5 {
			k.create(record(strconv.Itoa(i)))
		}
		k.beat("me", time.Hour)
		for i, want := range []int{0, 3, 2, 0} {
			if n := len(k.claim("me", []int{0, 3, 10, 10}[i])); n != want {
				k.Errorf("claim %d gave %d, want %d", i, n, want)
			}
		}
	})
	rule("what has ended uses up no limit", func(k kit) {
		const n = 20
		for i := range n {
			r := record(strconv.Itoa(i))
			k.create(r)
			if i != n/2 {
				r.Status = saga.Completed
				k.commit(saga.Change{Record: r, Rev: 1})
			}
		}
		if got := k.claim("me", 1); len(got) != 1 || got[0].ID != strconv.Itoa(n/2) {
			k.Errorf("claimed %d of one", len(got))
		}
	})
	rule("an owner keeps its sagas while its heart beats", func(k kit) {
		k.beat("me", time.Hour)
		k.create(record("a"))
		k.claim("me", 10)
		k.beat("you", time.Hour)
		for _, owner := range []string{"you", "me"} {
			if n := len(k.claim(owner, 10)); n != 0 {
				k.Errorf("%s claimed what is owned", owner)
			}
		}
		k.beat("me", 0)
		got := k.claim("you", 10)
		if len(got) != 1 || got[0].Fence != 2 || got[0].Owner != "you" {
			k.Fatalf("after the heart stopped: %+v", got)
		}
		old := record("a")
		k.wantErr(k.commit(saga.Change{Record: old, Rev: 2, Fence: 1})[0], saga.ErrStale, "the old owner's commit")
		k.wantErr(k.commit(saga.Change{Record: old, Rev: 3, Fence: 1})[0], saga.ErrStale, "the old owner's commit with the new Rev")
	})
	rule("a heartbeat ends by itself", func(k kit) {
		k.beat("me", time.Millisecond)
		r := record("a")
		r.Owner = "me"
		k.create(r)
		deadline := time.Now().Add(10 * time.Second)
		for len(k.claim("you", 10)) == 0 {
			if time.Now().After(deadline) {
				k.Fatal("not claimable 10 s after a heartbeat of 1 ms")
			}
			time.Sleep(time.Millisecond)
		}
	})
	rule("an owner who never beat has no claim", func(k kit) {
		r := record("a")
		r.Owner = "ghost"
		k.create(r)
		if n := len(k.claim("you", 10)); n != 1 {
			k.Errorf("claimed %d", n)
		}
	})
	rule("Release gives the saga up", func(k kit) {
		k.beat("me", time.Hour)
		k.create(record("a"))
		r := k.claim("me", 1)[0]
		k.commit(saga.Change{Record: r, Rev: r.Rev, Fence: r.Fence, Release: true})
		if got := k.load("a"); got.Owner != "" || got.Fence != 1 {
			k.Errorf("Owner %q, Fence %d", got.Owner, got.Fence)
		}
		if got := k.claim("you", 1); len(got) != 1 || got[0].Fence != 2 {
			k.Errorf("claimed %+v", got)
		}
	})
	rule("a saga is claimed by one of many", func(k kit) {
		const sagas, claimants = 20, 4
		for i := range sagas {
			k.create(record(strconv.Itoa(i)))
		}
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for c := range claimants {
			owner := fmt.Sprint("owner", c)
			k.beat(owner, time.Hour)
			wg.Go(func() {
				for range sagas {
					records, err := k.Claim(context.Background(), owner, []saga.Shape{shape}, 3)
					if err != nil {
						k.Errorf("Claim: %v", err)
						return
					}
					mu.Lock()
					for _, r := range records {
						got[r.ID]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for i := range sagas {
			if n := got[strconv.Itoa(i)]; n != 1 {
				k.Errorf("saga %d was claimed %d times", i, n)
			}
		}
	})
}
