package featurestoretest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
)

// TestOnline checks an Online store, and as a Swapper if it is one. open
// returns an empty store for each case, or one that shares its keys with no
// other case; it may register its own clean-up with t.
func TestOnline(t *testing.T, open func(t *testing.T) featurestore.Online) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, onlineCase)
	}{
		{"a row never written is not found, and aligned", onlineMissing},
		{"what is written is what is read", onlineRoundTrip},
		{"a larger version replaces, a smaller is stale, an equal duplicate", onlineVersions},
		{"of equal versions the larger content stays", onlineTies},
		{"a tombstone keeps its version", onlineTombstone},
		{"keys are compared whole", onlineKeys},
		{"a batch is applied in order and answered in order", onlineBatch},
		{"any order of the same writes ends in the same row", onlinePermutations},
		{"concurrent writers end with the largest version", onlineConcurrent},
		{"payloads of any bytes and sizes", onlinePayloads},
		{"an ended context is an error", onlineContext},
		{"a swap needs the revision that was read", swapRevisions},
		{"no concurrent swap is lost", swapConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, onlineCase{t, t.Context(), open(t)})
		})
	}
}

type onlineCase struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // lives as long as one case
	s   featurestore.Online
}

var base = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func record(key string, event, created time.Time, seq int64, payload string) featurestore.Record {
	return featurestore.Record{
		Ref: featurestore.Ref{View: "kit", Key: key}, Event: event, Created: created, Seq: seq,
		Fingerprint: "f1", TTL: time.Hour, Payload: []byte(payload),
	}
}

func (c onlineCase) write(recs ...featurestore.Record) []featurestore.Outcome {
	c.t.Helper()
	out, err := c.s.Write(c.ctx, recs)
	if err != nil {
		c.t.Fatalf("Write: %v", err)
	}
	if len(out) != len(recs) {
		c.t.Fatalf("Write of %d records returned %d outcomes", len(recs), len(out))
	}
	return out
}

func (c onlineCase) expect(want featurestore.Outcome, rec featurestore.Record) {
	c.t.Helper()
	if got := c.write(rec)[0]; got != want {
		c.t.Errorf("Write of event %v created %v seq %d: %v, want %v", rec.Event, rec.Created, rec.Seq, got, want)
	}
}

func (c onlineCase) read(refs ...featurestore.Ref) []featurestore.Record {
	c.t.Helper()
	recs, err := c.s.Read(c.ctx, refs)
	if err != nil {
		c.t.Fatalf("Read: %v", err)
	}
	if len(recs) != len(refs) {
		c.t.Fatalf("Read of %d refs returned %d records", len(refs), len(recs))
	}
	for i := range recs {
		if recs[i].Ref != refs[i] {
			c.t.Fatalf("Read: record %d is of %v, and %v was asked for", i, recs[i].Ref, refs[i])
		}
	}
	return recs
}

func (c onlineCase) same(got, want featurestore.Record) {
	c.t.Helper()
	if !got.Found {
		c.t.Fatalf("row %v is not found", want.Ref)
	}
	if !got.Event.Equal(want.Event) || !got.Created.Equal(want.Created) || got.Seq != want.Seq {
		c.t.Errorf("row %v has version (%v, %v, %d), want (%v, %v, %d)", want.Ref,
			got.Event, got.Created, got.Seq, want.Event, want.Created, want.Seq)
	}
	if got.Deleted != want.Deleted || got.Fingerprint != want.Fingerprint || !bytes.Equal(got.Payload, want.Payload) {
		c.t.Errorf("row %v has deleted %v, fingerprint %q, payload %q; want %v, %q, %q", want.Ref,
			got.Deleted, got.Fingerprint, abridge(got.Payload), want.Deleted, want.Fingerprint, abridge(want.Payload))
	}
}

func abridge(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%s... (%d bytes)", b[:40], len(b))
	}
	return string(b)
}

func onlineMissing(t *testing.T, c onlineCase) {
	c.expect(featurestore.Applied, record("there", base, base, 1, "x"))
	there, nowhere := featurestore.Ref{View: "kit", Key: "there"}, featurestore.Ref{View: "kit", Key: "nowhere"}
	for i, rec := range c.read(nowhere, there, nowhere, featurestore.Ref{View: "other", Key: "there"}, there) {
		if want := i == 1 || i == 4; rec.Found != want {
			t.Errorf("record %d: found %v, want %v", i, rec.Found, want)
		}
	}
	c.read() // of nothing
	c.write()
	if err := c.s.Health(c.ctx); err != nil {
		t.Errorf("Health: %v", err)
	}
}

func onlineRoundTrip(t *testing.T, c onlineCase) {
	times := []time.Time{
		base, base.Add(1), base.Add(999_999_999), time.Unix(0, 0).UTC(), time.Unix(-1, 999_999_999).UTC(),
		time.Date(1899, 1, 1, 0, 0, 0, 123_456_789, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
	}
	seqs := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1<<53 + 1}
	for i, at := range times {
		rec := record(fmt.Sprint("key", i), at, times[len(times)-1-i], seqs[i%len(seqs)], fmt.Sprint("payload", i))
		rec.Fingerprint = strings.Repeat("f", i*30)
		rec.TTL = time.Duration(i%2) * time.Hour
		c.expect(featurestore.Applied, rec)
		got := c.read(rec.Ref)[0]
		c.same(got, rec)
		if got.Rev != 1 {
			t.Errorf("a row written once has Rev %d, want 1", got.Rev)
		}
	}
}

func onlineVersions(t *testing.T, c onlineCase) {
	big := int64(1 << 60)
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	// Ascending versions, next to each other where rounding or comparing as
	// text would lose the difference.
	ladder := []featurestore.Record{
		record("k", time.Unix(-3, 5), base, 0, "before 1970"),
		record("k", time.Unix(-3, 6), base, 0, ""),
		record("k", time.Unix(-2, 0), base, 0, ""),
		record("k", time.Unix(0, 999_999_999), base, 0, ""),
		record("k", time.Unix(1, 0), base, 0, ""),
		record("k", time.Unix(127, 0), base, 0, ""),
		record("k", time.Unix(128, 0), base, 0, ""),
		record("k", time.Unix(1_700_000_000, 1), base, 0, "seconds and nanoseconds together do not fit a double"),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-7, 0), 0, "an older created time"),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 0), -big, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), math.MinInt64, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), -big-1, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), -big, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), -1, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), 0, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), big, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), big+1, ""),
		record("k", time.Unix(1_700_000_000, 2), time.Unix(-6, 1), math.MaxInt64, ""),
		record("k", far, base, 0, ""),
		record("k", far.Add(1), base, 0, ""),
	}
	for i, rec := range ladder {
		rec.Payload = append(rec.Payload, '2')
		c.expect(featurestore.Applied, rec)
		c.expect(featurestore.Duplicate, rec)
		smaller := rec
		smaller.Payload = append(bytes.Clone(rec.Payload[:len(rec.Payload)-1]), '1')
		c.expect(featurestore.Stale, smaller)
		for _, older := range ladder[:i] {
			c.expect(featurestore.Stale, older)
		}
		got := c.read(rec.Ref)[0]
		c.same(got, rec)
		if got.Rev != int64(i+1) {
			t.Errorf("after %d changes Rev is %d", i+1, got.Rev)
		}
	}
}

func onlineTies(t *testing.T, c onlineCase) {
	ladder := []featurestore.Record{}
	for _, payload := range []string{"", "\x00", "\x00\x00", "\x00\x01", "a", "a\x00", "aB", "ab", "b", "é", "\xff"} {
		ladder = append(ladder, record("k", base, base, 1, payload))
	}
	dead := record("k", base, base, 1, "")
	dead.Deleted = true
	ladder = append(ladder, dead)
	for i, rec := range ladder {
		if i%2 == 1 {
			rec.Fingerprint = "another, longer one" // says nothing of which is newer
		}
		c.expect(featurestore.Applied, rec)
		c.expect(featurestore.Duplicate, rec)
		for _, smaller := range ladder[:i] {
			c.expect(featurestore.Stale, smaller)
		}
		got := c.read(rec.Ref)[0]
		c.same(got, rec)
		if got.Rev != int64(i+1) {
			t.Errorf("after %d changes Rev is %d", i+1, got.Rev)
		}
	}
}

func onlineTombstone(_ *testing.T, c onlineCase) {
	c.expect(featurestore.Applied, record("k", base, base, 1, "first"))
	dead := record("k", base.Add(time.Second), base, 1, "")
	dead.Deleted = true
	c.expect(featurestore.Applied, dead)
	c.expect(featurestore.Stale, record("k", base.Add(time.Second-1), base, 9, "older"))
	c.expect(featurestore.Duplicate, dead)
	c.expect(featurestore.Stale, record("k", base.Add(time.Second), base, 1, "put of the same version"))
	c.same(c.read(dead.Ref)[0], dead)
	again := record("k", base.Add(time.Second), base, 2, "newer")
	c.expect(featurestore.Applied, again)
	c.same(c.read(again.Ref)[0], again)
}

func onlineKeys(_ *testing.T, c onlineCase) {
	var refs []featurestore.Ref
	for _, view := range []string{"v", "v1", "v.1"} {
		for _, key := range []string{"", "1", "11", "1|1", "11|", "|11", "1:1", ":", "{1}", "{}1", "a\x00b", "a", "\xff\xfe", "日本", " ", "*", "1 ", "v", strings.Repeat("k", 4000)} {
			refs = append(refs, featurestore.Ref{View: view, Key: key})
		}
	}
	var recs []featurestore.Record
	for i, ref := range refs {
		rec := record(ref.Key, base, base, int64(i), fmt.Sprint("row", i))
		rec.View = ref.View
		recs = append(recs, rec)
	}
	c.write(recs...)
	for i, got := range c.read(refs...) {
		c.same(got, recs[i])
	}
}

func onlineBatch(t *testing.T, c onlineCase) {
	var recs []featurestore.Record
	var want []featurestore.Outcome
	for i := range 200 {
		key := strconv.Itoa(i % 50)
		switch i / 50 {
		case 0:
			recs, want = append(recs, record(key, base, base, 5, "first")), append(want, featurestore.Applied)
		case 1:
			recs, want = append(recs, record(key, base, base, 4, "older")), append(want, featurestore.Stale)
		case 2:
			recs, want = append(recs, record(key, base, base, 5, "first")), append(want, featurestore.Duplicate)
		case 3:
			recs, want = append(recs, record(key, base, base, 6, "newer")), append(want, featurestore.Applied)
		}
	}
	for i, got := range c.write(recs...) {
		if got != want[i] {
			t.Fatalf("outcome %d is %v, want %v", i, got, want[i])
		}
	}
	for i := range 50 {
		c.same(c.read(recs[i].Ref)[0], recs[150+i])
	}
}

func onlinePermutations(_ *testing.T, c onlineCase) {
	var writes []featurestore.Record
	for i := range 12 {
		rec := record("", base.Add(time.Duration(i/4)*time.Nanosecond), base.Add(time.Duration(i/2%2)), int64(i%2), strconv.Itoa(i))
		rec.Deleted = i%5 == 3
		tie := rec
		tie.Payload = append(tie.Payload, '+')
		writes = append(writes, rec, rec, tie)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		rng.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
		var want featurestore.Record
		for i := range writes {
			writes[i].Key = fmt.Sprint("p", round)
			if i == 0 || newer(writes[i], want) {
				want = writes[i]
			}
		}
		c.write(writes...)
		c.same(c.read(want.Ref)[0], want)
	}
}

func newer(a, b featurestore.Record) bool {
	if !a.Event.Equal(b.Event) {
		return a.Event.After(b.Event)
	}
	if !a.Created.Equal(b.Created) {
		return a.Created.After(b.Created)
	}
	if a.Seq != b.Seq {
		return a.Seq > b.Seq
	}
	if a.Deleted != b.Deleted {
		return a.Deleted
	}
	return bytes.Compare(a.Payload, b.Payload) > 0
}

func onlineConcurrent(t *testing.T, c onlineCase) {
	const writers, versions = 8, 50
	var wg sync.WaitGroup
	applied := make([]int, writers)
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for _, v := range rng.Perm(versions) {
				out, err := c.s.Write(c.ctx, []featurestore.Record{record("k", base.Add(time.Duration(v)), base, 0, strconv.Itoa(v))})
				if err != nil {
					errs[w] = err
					return
				}
				if out[0] == featurestore.Applied {
					applied[w]++
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for w := range writers {
		if errs[w] != nil {
			t.Fatalf("Write: %v", errs[w])
		}
		total += applied[w]
	}
	last := record("k", base.Add(versions-1), base, 0, strconv.Itoa(versions-1))
	got := c.read(last.Ref)[0]
	c.same(got, last)
	if got.Rev != int64(total) || total > versions {
		t.Errorf("%d writes were answered with applied, and Rev is %d, of %d versions", total, got.Rev, versions)
	}
}

func onlinePayloads(_ *testing.T, c onlineCase) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, p := range []string{"", "\x00", "\r\n", string(every), strings.Repeat(string(every), 4096)} {
		rec := record("k", base.Add(time.Duration(i)), base, 0, p)
		c.expect(featurestore.Applied, rec)
		c.same(c.read(rec.Ref)[0], rec)
	}
}

func onlineContext(t *testing.T, c onlineCase) {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	if _, err := c.s.Read(ctx, []featurestore.Ref{{View: "kit", Key: "k"}}); err == nil {
		t.Error("Read with an ended context returned no error")
	}
	if _, err := c.s.Write(ctx, []featurestore.Record{record("k", base, base, 0, "")}); err == nil {
		t.Error("Write with an ended context returned no error")
	}
}

func (c onlineCase) swapper() featurestore.Swapper {
	sw, ok := c.s.(featurestore.Swapper)
	if !ok {
		c.t.Skip("the store is no Swapper: windows cannot use it")
	}
	return sw
}

func (c onlineCase) swap(want bool, rec featurestore.Record) {
	c.t.Helper()
	ok, err := c.swapper().Swap(c.ctx, []featurestore.Record{rec})
	if err != nil || len(ok) != 1 || ok[0] != want {
		c.t.Fatalf("Swap at Rev %d: %v, %v; want %v", rec.Rev, ok, err, want)
	}
}

func swapRevisions(t *testing.T, c onlineCase) {
	rec := record("k", base, base, 0, "one")
	rec.Rev = 1
	c.swap(false, rec) // there is no row
	rec.Rev = 0
	c.swap(true, rec)
	c.same(c.read(rec.Ref)[0], rec)
	c.swap(false, rec) // there is one now
	rec.Rev, rec.Event, rec.Payload = 1, base.Add(-time.Hour), []byte("an older version is no obstacle")
	c.swap(true, rec)
	c.same(c.read(rec.Ref)[0], rec)
	c.expect(featurestore.Applied, record("k", base, base, 0, "written between"))
	rec.Rev = 2
	c.swap(false, rec)
	rec.Rev = 3
	c.swap(true, rec)
	if got := c.read(rec.Ref)[0]; got.Rev != 4 {
		t.Errorf("Rev is %d after four changes", got.Rev)
	}
	ok, err := c.swapper().Swap(c.ctx, []featurestore.Record{rec, record("other", base, base, 0, "x"), rec})
	if err != nil || fmt.Sprint(ok) != "[false true false]" {
		t.Errorf("Swap of a batch: %v, %v; want [false true false]", ok, err)
	}
}

func swapConcurrent(t *testing.T, c onlineCase) {
	sw := c.swapper()
	const writers, each = 6, 40
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				recs, err := c.s.Read(c.ctx, []featurestore.Ref{{View: "kit", Key: "counter"}})
				if err != nil {
					errs <- err
					return
				}
				rec := record("counter", base, base, 0, string(recs[0].Payload)+"+")
				rec.Rev = recs[0].Rev
				ok, err := sw.Swap(c.ctx, []featurestore.Record{rec})
				if err != nil {
					errs <- err
					return
				}
				if ok[0] {
					done++
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	if got := c.read(featurestore.Ref{View: "kit", Key: "counter"})[0]; len(got.Payload) != writers*each {
		t.Errorf("%d swaps succeeded and %d are in the row", writers*each, len(got.Payload))
	}
}
