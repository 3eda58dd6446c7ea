package featurestoretest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
)

// TestOffline checks an Offline store. open returns an empty store for each case.
func TestOffline(t *testing.T, open func(t *testing.T) featurestore.Offline) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, featurestore.Offline)
	}{
		{"what is appended is scanned, in every field", offlineRoundTrip},
		{"a scan takes from, and leaves out to", offlineRange},
		{"views are kept apart", offlineViews},
		{"an error of the sequence is returned", offlineError},
		{"an ended context is an error", offlineContext},
		{"a scan can be left early", offlineBreak},
		{"appends run concurrently", offlineConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func seqOf(recs ...featurestore.Record) iter.Seq2[featurestore.Record, error] {
	return func(yield func(featurestore.Record, error) bool) {
		for _, r := range recs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func appendAll(t *testing.T, s featurestore.Offline, recs ...featurestore.Record) {
	t.Helper()
	if err := s.Append(t.Context(), seqOf(recs...)); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// scan returns the payloads of a scan, sorted.
func scan(t *testing.T, s featurestore.Offline, view string, from, to time.Time) string {
	t.Helper()
	var found []string
	for rec, err := range s.Scan(t.Context(), view, from, to) {
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		found = append(found, string(rec.Payload))
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

func offlineRoundTrip(t *testing.T, s featurestore.Offline) {
	c := onlineCase{t: t}
	want := map[string]featurestore.Record{}
	for i, at := range []time.Time{base, base.Add(1), time.Unix(-1, 999_999_999).UTC(), time.Date(9999, 12, 31, 0, 0, 0, 1, time.UTC)} {
		rec := record(fmt.Sprint("k\x00\xff|", i), at, at.Add(-time.Nanosecond), int64(i)<<60, "payload\x00\xff")
		rec.Deleted = i == 2
		want[rec.Key] = rec
		appendAll(t, s, rec)
	}
	for rec, err := range s.Scan(t.Context(), "kit", time.Time{}, time.Time{}) {
		if err != nil {
			t.Fatalf("Scan: %v", err)
		}
		rec.Found = true
		c.same(rec, want[rec.Key])
		delete(want, rec.Key)
	}
	if len(want) != 0 {
		t.Errorf("%d records were not scanned", len(want))
	}
}

func offlineRange(t *testing.T, s featurestore.Offline) {
	for i := range 5 {
		appendAll(t, s, record("k", base.Add(time.Duration(i)), base, 0, strconv.Itoa(i)))
	}
	for _, c := range []struct {
		from, to time.Time
		want     string
	}{
		{time.Time{}, time.Time{}, "0 1 2 3 4"},
		{base.Add(1), base.Add(3), "1 2"},
		{base.Add(1), time.Time{}, "1 2 3 4"},
		{time.Time{}, base.Add(1), "0"},
		{base.Add(5), time.Time{}, ""},
		{base.Add(2), base.Add(2), ""},
	} {
		if got := scan(t, s, "kit", c.from, c.to); got != c.want {
			t.Errorf("scan of [%v, %v) found %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func offlineViews(t *testing.T, s featurestore.Offline) {
	other := record("k", base, base, 0, "other")
	other.View = "kit2"
	appendAll(t, s, record("k", base, base, 0, "one"), other)
	appendAll(t, s)
	if got := scan(t, s, "kit", time.Time{}, time.Time{}); got != "one" {
		t.Errorf("scan of view kit found %q", got)
	}
	if got := scan(t, s, "kit2", time.Time{}, time.Time{}); got != "other" {
		t.Errorf("scan of view kit2 found %q", got)
	}
	if got := scan(t, s, "never written", time.Time{}, time.Time{}); got != "" {
		t.Errorf("scan of a view never written found %q", got)
	}
}

func offlineError(t *testing.T, s featurestore.Offline) {
	broken := errors.New("source broke")
	err := s.Append(t.Context(), func(yield func(featurestore.Record, error) bool) {
		if yield(record("k", base, base, 0, "one"), nil) && yield(featurestore.Record{}, broken) {
			t.Error("Append went on after an error of its sequence")
		}
	})
	if !errors.Is(err, broken) {
		t.Errorf("Append returned %v, and its sequence failed with %v", err, broken)
	}
}

func offlineContext(t *testing.T, s featurestore.Offline) {
	appendAll(t, s, record("k", base, base, 0, "one"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Append(ctx, seqOf(record("k", base, base, 1, "two"))); !errors.Is(err, context.Canceled) {
		t.Errorf("Append with an ended context returned %v", err)
	}
	var last error
	for _, err := range s.Scan(ctx, "kit", time.Time{}, time.Time{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("Scan with an ended context ended with %v", last)
	}
}

func offlineBreak(t *testing.T, s featurestore.Offline) {
	for i := range 10 {
		appendAll(t, s, record("k", base.Add(time.Duration(i)), base, 0, strconv.Itoa(i)))
	}
	n := 0
	for _, err := range s.Scan(t.Context(), "kit", time.Time{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("scanned %d records before the break, want 3", n)
	}
	appendAll(t, s, record("k", base, base, 1, "after")) // no lock is left behind
}

func offlineConcurrent(t *testing.T, s featurestore.Offline) {
	const writers, each = 8, 50
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if errs[w] = s.Append(t.Context(), seqOf(record(strconv.Itoa(w), base.Add(time.Duration(i)), base, 0, "x"))); errs[w] != nil {
					return
				}
				for _, err := range s.Scan(t.Context(), "kit", time.Time{}, time.Time{}) {
					errs[w] = err
					break
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(scan(t, s, "kit", time.Time{}, time.Time{}), "x"); got != writers*each {
		t.Errorf("%d records were appended and %d scanned", writers*each, got)
	}
}
