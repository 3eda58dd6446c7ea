package sagatest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

// readRules are the rules of reading, and what holds of every call.
func readRules(rule func(name string, f func(kit))) {
	rule("Scan chooses, orders and stops", func(k kit) {
		at := record("").Updated
		for i, id := range []string{"d", "b", "a", "c", "e"} {
			r := record(id)
			r.Updated = at.Add(time.Duration(i) * time.Hour) // d b a c e
			if i%2 == 0 {
				r.Status = saga.Completed // d a e
			}
			if id == "e" {
				r.Definition = "other"
			}
			k.create(r)
		}
		for want, q := range map[string]saga.Query{
			"a b c d e": {},
			"a b":       {Limit: 2},
			"a b c d":   {Definition: "kit"},
			"a d e":     {Status: []saga.Status{saga.Completed}},
			"b c":       {Status: []saga.Status{saga.Running, saga.Parked}},
			"a b d":     {Before: at.Add(3 * time.Hour)},
			"a":         {Definition: "kit", Status: []saga.Status{saga.Completed}, Limit: 1},
			"":          {Definition: "none"},
		} {
			if got := k.scan(q); got != want {
				k.Errorf("Scan(%+v) gave %q, want %q", q, got, want)
			}
		}
		for _, err := range k.Scan(k.Context(), saga.Query{}) {
			k.wantErr(err, nil, "Scan that is left")
			break
		}
		for r, err := range k.Scan(k.Context(), saga.Query{}) { // the store may be used meanwhile
			if err != nil {
				k.Fatal(err)
			}
			k.wantErr(k.commit(saga.Change{Record: r, Rev: 99})[0], saga.ErrStale, "Commit during Scan")
		}
	})
	rule("Scan goes on beyond a page", func(k kit) {
		const n = 600
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if err := k.Create(context.Background(), record(fmt.Sprintf("%04d", i))); err != nil {
					k.Errorf("Create: %v", err)
				}
			})
		}
		wg.Wait()
		ids := strings.Fields(k.scan(saga.Query{}))
		if len(ids) != n || ids[0] != "0000" || ids[n-1] != "0599" {
			k.Errorf("%d of %d", len(ids), n)
		}
	})
	rule("records are not shared", func(k kit) {
		r := record("a")
		k.create(r)
		spoil := func(r saga.Record) {
			r.State[0], r.Results["zero"][0], r.Log[0].Note = 'x', 'x', "x"
			r.Results["more"] = nil
		}
		spoil(r)
		spoil(k.load("a"))
		k.equal(k.load("a"), record("a"), "after the caller wrote into its copies")
		for r, err := range k.Scan(k.Context(), saga.Query{}) {
			k.wantErr(err, nil, "Scan")
			spoil(r)
		}
		r = record("a")
		k.commit(saga.Change{Record: r, Rev: 1})
		spoil(r)
		spoil(k.claim("me", 1)[0])
		want := record("a")
		want.Rev, want.Fence, want.Owner = 3, 1, "me"
		k.equal(k.load("a"), want, "after the caller wrote into what it committed and claimed")
	})
	rule("a context that has ended stops everything", func(k kit) {
		ctx, cancel := context.WithCancel(k.Context())
		cancel()
		k.create(record("a"))
		_, load := k.Load(ctx, "a")
		_, commit := k.Commit(ctx, []saga.Change{{Record: record("a"), Rev: 1}})
		_, claim := k.Claim(ctx, "me", []saga.Shape{shape}, 1)
		var scan error
		for _, err := range k.Scan(ctx, saga.Query{}) {
			scan = err
		}
		for what, err := range map[string]error{
			"Create": k.Create(ctx, record("b")), "Load": load, "Commit": commit, "Claim": claim, "Beat": k.Beat(ctx, "me", time.Hour), "Scan": scan,
		} {
			k.wantErr(err, context.Canceled, what)
		}
		if r := k.load("a"); r.Rev != 1 {
			k.Errorf("Rev %d", r.Rev)
		}
	})
}
