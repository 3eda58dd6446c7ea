package sagatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/saga"
)

const shape = saga.Shape(`{"name":"kit","version":1,"steps":[{"name":"one","kind":"undoable"}]}`)

// record is one with every field set, owned by nobody.
func record(id string) saga.Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	return saga.Record{
		Info: saga.Info{
			ID: id, Definition: "kit", Version: 1, Status: saga.Running, Step: "one", Op: saga.Action, Attempt: 2,
			PastPivot: true, Failed: "two", Started: at, Updated: at.Add(time.Second), Err: "an error", State: []byte(`{"n":1}`),
		},
		Rev: 1, Shape: shape, Cancelled: "a reason", Cause: "a cause",
		Results: map[string]json.RawMessage{"zero": []byte(`"r"`)},
		Log:     []saga.Event{{Time: at, Step: "zero", Op: saga.Compensation, Attempt: 1, Fence: 3, Note: "done"}},
	}
}

// kit is one test's store and its helpers.
type kit struct {
	*testing.T

	saga.Store
}

func (k kit) create(r saga.Record) {
	k.Helper()
	if err := k.Create(k.Context(), r); err != nil {
		k.Fatalf("Create %s: %v", r.ID, err)
	}
}

func (k kit) load(id string) saga.Record {
	k.Helper()
	r, err := k.Load(k.Context(), id)
	if err != nil {
		k.Fatalf("Load %s: %v", id, err)
	}
	return r
}

func (k kit) commit(changes ...saga.Change) []error {
	k.Helper()
	results, err := k.Commit(k.Context(), changes)
	if err != nil {
		k.Fatalf("Commit: %v", err)
	}
	if len(results) != len(changes) {
		k.Fatalf("Commit returned %d results for %d changes", len(results), len(changes))
	}
	return results
}

func (k kit) claim(owner string, limit int) []saga.Record {
	k.Helper()
	records, err := k.Claim(k.Context(), owner, []saga.Shape{"other", shape}, limit)
	if err != nil {
		k.Fatalf("Claim: %v", err)
	}
	return records
}

func (k kit) beat(owner string, ttl time.Duration) {
	k.Helper()
	if err := k.Beat(k.Context(), owner, ttl); err != nil {
		k.Fatalf("Beat: %v", err)
	}
}

func (k kit) scan(q saga.Query) string {
	k.Helper()
	var ids []string
	for r, err := range k.Scan(k.Context(), q) {
		if err != nil {
			k.Fatalf("Scan: %v", err)
		}
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

func (k kit) wantErr(err, want error, what string) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (k kit) equal(got, want saga.Record, what string) {
	k.Helper()
	for _, r := range []*saga.Record{&got, &want} { // an instant, in whatever location
		r.Started, r.Updated, r.Wake = r.Started.UTC(), r.Updated.UTC(), r.Wake.UTC()
		for i := range r.Log {
			r.Log[i].Time = r.Log[i].Time.UTC()
		}
	}
	if !reflect.DeepEqual(got, want) {
		k.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// TestStore checks that a store keeps the contract of saga.Store: each rule is a
// subtest. Open returns an empty store; what it has to clean up it registers
// with t.Cleanup. Times must be kept to the microsecond or better.
func TestStore(t *testing.T, open func(*testing.T) saga.Store) {
	rule := func(name string, f func(kit)) {
		t.Run(name, func(t *testing.T) { f(kit{t, open(t)}) })
	}

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
			if got := k.load(id).ID; got != id {
				k.Errorf("stored %q, loaded %q", id, got)
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

// BenchmarkStore measures the store that open returns: create, and commit by one
// and by 64 callers at once, each with a saga of its own. The 64 show what group
// commit brings.
func BenchmarkStore(b *testing.B, open func(*testing.B) saga.Store) {
	var next atomic.Int64
	fresh := func(b *testing.B, s saga.Store) saga.Record {
		r := record(fmt.Sprint("bench", next.Add(1)))
		if err := s.Create(context.Background(), r); err != nil {
			b.Fatal(err)
		}
		return r
	}
	commit := func(s saga.Store, r saga.Record, rev int64) error {
		results, err := s.Commit(context.Background(), []saga.Change{{Record: r, Rev: rev}})
		return errors.Join(append(results, err)...)
	}
	b.Run("Create", func(b *testing.B) {
		s := open(b)
		b.ReportAllocs()
		for b.Loop() {
			fresh(b, s)
		}
	})
	b.Run("Commit", func(b *testing.B) {
		s := open(b)
		r, rev := fresh(b, s), int64(1)
		b.ReportAllocs()
		for ; b.Loop(); rev++ {
			if err := commit(s, r, rev); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Commit64", func(b *testing.B) {
		s := open(b)
		var records []saga.Record
		for range 64 {
			records = append(records, fresh(b, s))
		}
		b.ReportAllocs()
		var left atomic.Int64
		left.Store(int64(b.N))
		b.ResetTimer()
		var wg sync.WaitGroup
		for _, r := range records {
			wg.Go(func() {
				for rev := int64(1); left.Add(-1) >= 0; rev++ {
					if err := commit(s, r, rev); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
