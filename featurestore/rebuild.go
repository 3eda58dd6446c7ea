package featurestore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Rebuild writes online what the offline store knows: for rows that the online
// store has lost. Of a view it writes the newest row of each key that has not
// expired, where it is newer than what is stored. The state of windows it folds
// anew from the events of their length, as they arrived, and puts in the place
// of what is stored: also where that is only what came since the loss, or lacks
// an event that was kept offline alone. So all events of that length must be in
// the offline store. They are read into memory.
//
// It may run beside readers, and beside writers, whose events are not lost; a
// key of windows that is written to all the time ends it with an error, and
// running it again is safe, as it is after any other error.
func (v *View[K, F]) Rebuild(ctx context.Context, s *Store) (err error) {
	d := v.def
	if d.err != nil {
		return d.err
	}
	if s.offline == nil {
		return d.fail("", ErrNoOffline)
	}
	ctx, span := s.tel.span(ctx, "rebuild", d.name, 0)
	defer func() { endSpan(span, err) }()
	if d.windows != nil {
		return d.fail("", d.rebuildWindows(ctx, s))
	}
	return d.fail("", d.rebuildRows(ctx, s))
}

func (d *definition) rebuildRows(ctx context.Context, s *Store) error {
	var from time.Time
	if d.ttl > 0 {
		from = s.clock().Add(-d.ttl)
	}
	newest := map[string]Record{}
	err := d.scan(ctx, s, from, func(rec Record) {
		if old, ok := newest[rec.Key]; !ok || rec.compareVersion(&old) > 0 {
			newest[rec.Key] = rec
		}
	})
	if err != nil {
		return err
	}
	batch := make([]Record, 0, min(len(newest), backfillBatch))
	for _, rec := range newest {
		rec.TTL = d.ttl
		if batch = append(batch, rec); len(batch) == cap(batch) {
			if _, err := s.write(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	_, err = s.write(ctx, batch)
	return err
}

// maxRebuilds bounds how often a key is folded anew because it was written to.
const maxRebuilds = 10

// rebuildWindows replaces the rows that had no other revision when it began to
// scan: what they hold was kept offline before, so that the scan has found it.
func (d *definition) rebuildWindows(ctx context.Context, s *Store) error {
	sw, err := s.swapper()
	if err != nil {
		return err
	}
	from := s.clock().Add(-d.windows.retention(s))
	var revs map[string]int64 // of the keys that are left; nil: all, none of which has a row
	for range maxRebuilds {
		byKey := map[string][]Record{}
		err := d.scan(ctx, s, from, func(rec Record) {
			if _, left := revs[rec.Key]; left || revs == nil {
				byKey[rec.Key] = append(byKey[rec.Key], rec)
			}
		})
		if err != nil {
			return err
		}
		var again []Ref
		batch := make([]Record, 0, min(len(byKey), backfillBatch))
		for key, recs := range byKey {
			rec := Record{Ref: Ref{View: d.name, Key: key}, Rev: revs[key]}
			if err := d.refill(&rec, s, recs); err != nil {
				return d.fail(key, err)
			}
			if batch = append(batch, rec); len(batch) == cap(batch) {
				changed, err := swap(ctx, sw, batch)
				if err != nil {
					return err
				}
				again, batch = append(again, changed...), batch[:0]
			}
		}
		changed, err := swap(ctx, sw, batch)
		if err != nil {
			return err
		}
		if again = append(again, changed...); len(again) == 0 {
			return nil
		}
		stored, err := s.read(ctx, again)
		if err != nil {
			return err
		}
		revs = make(map[string]int64, len(stored))
		for i := range stored {
			revs[stored[i].Key] = stored[i].Rev
		}
	}
	for key := range revs {
		return d.fail(key, errors.New("written to by others while it was rebuilt, again and again: stop those who write"))
	}
	return nil
}

// refill makes rec the state after the arrivals of its key.
func (d *definition) refill(rec *Record, s *Store, recs []Record) error {
	sortArrivals(recs)
	arrivals, which := make([]arrival, len(recs)), make([]int, len(recs))
	for i := range recs {
		if recs[i].Fingerprint != d.layout {
			return ErrFingerprint
		}
		arrivals[i].rec, which[i] = recs[i], i
	}
	_, err := d.addTo(rec, s, arrivals, which)
	return err
}

// scan calls f with the records of d from a time on; zero: all.
func (d *definition) scan(ctx context.Context, s *Store, from time.Time, f func(Record)) error {
	for rec, err := range s.offline.Scan(ctx, d.name, from, time.Time{}) {
		if err != nil {
			return fmt.Errorf("offline scan of %s: %w", d.name, err)
		}
		rec.Found = true
		f(rec)
	}
	return nil
}
