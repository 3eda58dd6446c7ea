package saga

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"time"
)

// Status is where a saga stands.
type Status int

const (
	// Running is going forward.
	Running Status = iota + 1
	// RollingBack is undoing.
	RollingBack
	// Completed is an end: every step is done.
	Completed
	// RolledBack is an end: everything that may have run is undone.
	RolledBack
	// Parked is waiting for [Runner.Resume] or [Runner.Resolve].
	Parked
)

var statusNames = []string{"", "running", "rolling back", "completed", "rolled back", "parked"}

// String returns the name in words, as "rolling back", and "Status(n)" for anything else.
func (s Status) String() string { return enumName("Status", statusNames, int(s)) }

// MarshalText returns what String returns; the zero Status is empty.
func (s Status) MarshalText() ([]byte, error) { return marshalEnum("Status", statusNames, int(s)) }

// UnmarshalText reads what MarshalText wrote and refuses anything else.
func (s *Status) UnmarshalText(text []byte) error {
	n, err := unmarshalEnum("Status", statusNames, text)
	*s = Status(n)
	return err
}

// Active reports whether a runner has work to do: Running or RollingBack.
func (s Status) Active() bool { return s == Running || s == RollingBack }

// Info is what one can know about a saga from outside.
type Info struct {
	// ID is what the saga was started with.
	ID string
	// Definition is the definition's name.
	Definition string
	// Version is the definition's version.
	Version int
	// Status is where the saga stands.
	Status Status
	// Step is the step that may be running, or is parked; empty at an end.
	Step string
	// Op is what is done to Step; zero at an end.
	Op Op
	// Attempt counts the failed calls of Step that are recorded. Failures are
	// recorded with the next durable write, so a running step may have more.
	Attempt int
	// PastPivot is true once the pivot is known to have happened.
	PastPivot bool
	// Failed is the step at which the saga turned back; empty if it did not.
	Failed string
	// Started is when the saga was created.
	Started time.Time
	// Updated is when the record was last written.
	Updated time.Time
	// Err says why the saga turned back or was parked; empty if neither.
	Err string
	// State is the saga's state as JSON, with the results of all finished steps.
	State json.RawMessage
}

// Event is one line of a saga's history.
type Event struct {
	// Time is when it happened.
	Time time.Time
	// Step is the step it happened to; empty if to the saga as a whole.
	Step string
	// Op is what was done to the step; zero if nothing.
	Op Op
	// Attempt is the number of the call, from 1; 0 if there was none.
	Attempt int
	// Fence is the fence of the runner that wrote it; see Call.Fence.
	Fence int64
	// Note says what happened: "done", or a sentence.
	Note string
}

// Record is a saga as a store keeps it. Its JSON form is what our stores write.
type Record struct {
	Info
	// Rev counts the writes of this record, from 1.
	Rev int64
	// Fence counts the owners, who creates it being the first; [Store].Claim adds one.
	Fence int64
	// Owner is the runner that may execute the saga; empty if none.
	Owner string
	// Wake is the time before which the saga is not claimed; zero if any time will do.
	Wake time.Time
	// Shape is the shape of the definition that runs it.
	Shape Shape
	// Cancelled is the reason given to [Runner.Cancel]; empty if not cancelled.
	Cancelled string
	// Cause says why the saga turned back, also while it is parked for another
	// reason; empty if it did not turn back.
	Cause string
	// Results are the results of finished undoable steps, by name, for their compensations.
	Results map[string]json.RawMessage
	// Log is the saga's history, oldest first.
	Log []Event
}

// Clone returns a copy that shares nothing with r.
func (r *Record) Clone() Record {
	c := *r
	c.State = slices.Clone(r.State)
	c.Log = slices.Clone(r.Log)
	if r.Results != nil {
		c.Results = make(map[string]json.RawMessage, len(r.Results))
		for k, v := range r.Results {
			c.Results[k] = slices.Clone(v)
		}
	}
	return c
}

// Change replaces a record, if it is still the one that was read.
type Change struct {
	// Record is the new record; its Rev and Fence are ignored.
	Record Record
	// Rev and Fence are those of the record that was read.
	Rev, Fence int64
	// Release gives the saga up: the stored Owner is empty.
	Release bool
}

// Query chooses records.
type Query struct {
	// Definition is a definition's name; empty is any.
	Definition string
	// Status lists what is wanted; empty is any.
	Status []Status
	// Before leaves out records written at or after this time; zero is none.
	Before time.Time
	// Limit is the greatest number of records. Zero is 1,000 for
	// [Runner.List], and no limit for a [Store].
	Limit int
}

// Match reports whether r is among the records q chooses, for use in a [Store].
func (q Query) Match(r *Record) bool {
	return (q.Definition == "" || q.Definition == r.Definition) &&
		(len(q.Status) == 0 || slices.Contains(q.Status, r.Status)) &&
		(q.Before.IsZero() || r.Updated.Before(q.Before))
}

// Store keeps records durably. It is used by many goroutines and, unless it says
// otherwise, by many processes. Records passed in and returned are not shared:
// neither side may change what the other holds. sagatest.TestStore checks all of
// what is written here.
type Store interface {
	// Create stores a new record with Rev 1 and its other fields as given, or
	// returns [ErrExists]. Nil means durable. A runner's IDs are UTF-8; another
	// one is kept as it is or refused.
	Create(ctx context.Context, r Record) error
	// Commit applies each change whose Rev and Fence are those of the stored
	// record: it stores Record with Rev one higher and Fence as it was, and
	// without an Owner if Release. Changes are applied in their order and apart
	// from each other; the first result aligns with them and is nil where
	// applied, [ErrStale] where Rev or Fence differ, [ErrNotFound] where there
	// is no record. The second is for the call as a whole: if it is not nil,
	// any of the changes may have been applied or not.
	Commit(ctx context.Context, changes []Change) ([]error, error)
	// Claim gives owner up to limit sagas to execute: those Running or
	// RollingBack, with one of these shapes, whose Wake has passed, and which
	// have no owner or one whose heartbeat has ended. It stores them with the
	// new Owner, with Rev and Fence one higher and with Wake zero, and returns
	// them so.
	Claim(ctx context.Context, owner string, shapes []Shape, limit int) ([]Record, error)
	// Beat keeps owner alive for ttl from now. An owner that never called it,
	// or not for its last ttl, has no claim to what it owns. A ttl of zero or
	// less ends it at once.
	Beat(ctx context.Context, owner string, ttl time.Duration) error
	// Load returns a record, or [ErrNotFound].
	Load(ctx context.Context, id string) (Record, error)
	// Scan yields the records that q chooses, in the order of their IDs. An
	// error is yielded last. The store may be used while it runs, and a record
	// that changes meanwhile is yielded as before or as after.
	Scan(ctx context.Context, q Query) iter.Seq2[Record, error]
}
