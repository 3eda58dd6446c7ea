package sagatest

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
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

// keeps checks that the one saga that can be claimed is id, wherever it is asked
// for, and ends it.
func (k kit) keeps(id string) {
	k.Helper()
	if got := k.load(id).ID; got != id {
		k.Errorf("created %q, loaded %q", id, got)
	}
	claimed := k.claim("me", 10)
	if len(claimed) != 1 || claimed[0].ID != id {
		k.Fatalf("created %q, claimed %d, the first of them %+v", id, len(claimed), claimed)
	}
	r := claimed[0]
	r.Status = saga.Completed
	if err := k.commit(saga.Change{Record: r, Rev: r.Rev, Fence: r.Fence})[0]; err != nil {
		k.Errorf("Commit of %q: %v", id, err)
	}
	if got := k.load(id); got.ID != id || got.Status != saga.Completed {
		k.Errorf("%q is loaded as %q, %v, after the commit that completed it", id, got.ID, got.Status)
	}
	var found []string
	for r, err := range k.Scan(k.Context(), saga.Query{}) {
		if err != nil {
			k.Fatalf("Scan: %v", err)
		}
		found = append(found, r.ID)
	}
	if !slices.Contains(found, id) {
		k.Errorf("Scan gives %q; want %q among them", found, id)
	}
	if again := k.claim("me", 10); len(again) != 0 {
		k.Errorf("%q is claimed although it is completed", again[0].ID)
	}
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
	recordRules(rule)
	claimRules(rule)
	readRules(rule)
}
