package featurestore

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"strconv"
	"time"
)

// Status says what stands behind a row. The zero value is Missing.
type Status int

// The statuses of a row.
const (
	// Missing: never written, deleted, or, in a join, only after the label. For
	// windows: no event inside any of them.
	Missing Status = iota
	// Hit: the features are those of a valid row.
	Hit
	// Expired: the newest row is older than the view's time to live.
	Expired
	// NotYetKnown: in a join, every candidate was created after the label.
	NotYetKnown
)

// String returns the name of the status, as telemetry uses it.
func (s Status) String() string {
	switch s {
	case Missing:
		return "missing"
	case Hit:
		return "hit"
	case Expired:
		return "expired"
	case NotYetKnown:
		return "not_yet_known"
	}
	return "status(" + strconv.Itoa(int(s)) + ")"
}

// Outcome says what a write did. The zero value is no outcome.
type Outcome int

// The outcomes of a write.
const (
	// Applied: the row is now the stored one.
	Applied Outcome = iota + 1
	// Stale: a newer version is stored; for windows, the event came later than
	// the allowed lateness. Nothing changed online.
	Stale
	// Duplicate: exactly this row, or this event, was there already.
	Duplicate
	// Future: the event lies further ahead than Options.MaxFuture and was
	// refused, online and offline.
	Future
)

// String returns the name of the outcome, as telemetry uses it.
func (o Outcome) String() string {
	switch o {
	case Applied:
		return "applied"
	case Stale:
		return "stale"
	case Duplicate:
		return "duplicate"
	case Future:
		return "future"
	}
	return "outcome(" + strconv.Itoa(int(o)) + ")"
}

// Ref names one stored row.
type Ref struct {
	// View is the name of the view or windows.
	View string
	// Key is the encoded entity key. It may hold any bytes; it is empty for a
	// view without key fields.
	Key string
}

// Record is one row as stores keep it. Payload is opaque to them.
type Record struct {
	Ref
	// Found is false in the result of a read for a row that is not stored.
	// Writers need not set it.
	Found bool
	// Event and Created, with Seq, are the version; where they are equal,
	// Deleted and Payload decide. Stores keep the times to the nanosecond, in
	// the years -9999 to 9999.
	Event, Created time.Time
	// Seq decides between equal times; any int64.
	Seq int64
	// Rev counts the changes of the stored row, from 1. Write ignores that of
	// its argument; Swap compares it.
	Rev int64
	// Deleted marks a tombstone: a row that is missing, but has a version.
	Deleted bool
	// Fingerprint is that of the layout the payload was written with, at most
	// 255 bytes.
	Fingerprint string
	// TTL is how long after a write the store must keep the row; 0: for ever.
	// Keeping it longer does no harm, since readers judge age themselves.
	TTL time.Duration
	// Payload is the encoded row. Neither the store nor its callers change the
	// bytes once they are handed over, in either direction.
	Payload []byte
}

// compareVersion orders records by (event, created, seq), and by their content
// where these are equal: an order of arrival is not the same everywhere.
func (r *Record) compareVersion(o *Record) int {
	c := cmp.Or(r.Event.Compare(o.Event), r.Created.Compare(o.Created), cmp.Compare(r.Seq, o.Seq))
	switch {
	case c != 0:
		return c
	case r.Deleted == o.Deleted:
		return bytes.Compare(r.Payload, o.Payload)
	case r.Deleted:
		return 1
	}
	return -1
}

// Online keeps the newest row of each key. featurestoretest.TestOnline checks
// an implementation. Methods may be called concurrently.
type Online interface {
	// Read returns one record for each ref, in order, in one round trip. A row
	// that is not stored has Found false and its Ref set; a tombstone is found.
	Read(ctx context.Context, refs []Ref) ([]Record, error)
	// Write stores each record whose version (event, created, seq) is larger
	// than that of the stored row, atomically per row and in the order given.
	// Of equal versions a tombstone is the larger, else the payload that is, byte
	// by byte. Outcomes align: Applied, Stale or Duplicate. After an error an
	// outcome of 0 is unknown: the record may be stored, and writing it again is
	// safe.
	Write(ctx context.Context, recs []Record) ([]Outcome, error)
	// Health returns nil if the store can be reached.
	Health(ctx context.Context) error
}

// Swapper is what an Online store must offer besides for Windows, which change
// rows rather than replace them.
type Swapper interface {
	// Swap stores each record if the stored row still has the record's Rev (0:
	// there is no row), atomically per row, whatever the versions; it is stored
	// with Rev plus one. The results align and say whether it was stored. After
	// an error a false result is unknown.
	Swap(ctx context.Context, recs []Record) ([]bool, error)
}

// Offline keeps every row ever written. featurestoretest.TestOffline checks an
// implementation. Methods may be called concurrently.
type Offline interface {
	// Append adds the records. The same record may come again, and readers of
	// Scan cope with it. An error of the sequence is returned; what came before
	// it may have been added.
	Append(ctx context.Context, recs iter.Seq2[Record, error]) error
	// Scan yields the records of a view with from <= event < to, in any order;
	// a zero from or to is no bound. Records appended meanwhile may or may not
	// be among them.
	Scan(ctx context.Context, view string, from, to time.Time) iter.Seq2[Record, error]
}
