package featurestore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// history is an offline store with the sales and puts of three days, late ones
// and duplicates among them, and the online store that took them in.
func history(t *testing.T, w *featurestore.Windows[shopper, sale, spending], c *clock) (*featurestore.MemoryOnline, *featurestore.MemoryOffline) {
	online, offline := featurestore.NewMemoryOnline(1000), featurestore.NewMemoryOffline()
	s := featurestore.New(online, offline, &featurestore.Options{Now: c.now})
	rng := rand.New(rand.NewPCG(3, 3))
	sales, _, puts := shop(rng, 400, 72*time.Hour)
	for i, e := range sales {
		c.set(start.Add(time.Duration(i) * 11 * time.Minute))
		e.At = c.now().Add(-time.Duration(rng.Int64N(int64(100 * time.Minute))))
		for range 1 + rng.IntN(2) {
			require.NoError(t, w.Ingest(s)(t.Context(), e, nil))
		}
	}
	for _, p := range puts {
		_, err := profiles.PutBatch(t.Context(), s, []featurestore.Put[shopper, profile]{p})
		require.NoError(t, err)
	}
	return online, offline
}

// rows reads what is served of all customers.
func rows(t *testing.T, s *featurestore.Store, w *featurestore.Windows[shopper, sale, spending]) string {
	t.Helper()
	svc, err := featurestore.NewService[candidate]("s", w, profiles, ratio)
	require.NoError(t, err)
	var all []candidate
	for i := range 5 {
		all = append(all, candidate{Customer: fmt.Sprint("c", i)})
	}
	v, err := svc.Vectors(t.Context(), s, all...)
	require.NoError(t, err)
	return fmt.Sprint(v.Values, v.Status)
}

func TestRebuild(t *testing.T) {
	for name, o := range map[string]*featurestore.WindowOptions{
		"sawtooth": nil, "hopping": {Mode: featurestore.Hopping}, "sliding": {Mode: featurestore.Sliding}, "nothing late": {Lateness: -1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, c, w := t.Context(), &clock{}, spendingWindows(o)
			kept, offline := history(t, w, c)
			before := featurestore.New(kept, offline, &featurestore.Options{Now: c.now})
			// The online store is lost, and some of its keys are written to since.
			lost := featurestore.New(featurestore.NewMemoryOnline(1000), offline, &featurestore.Options{Now: c.now})
			for i := range 2 {
				e := sale{ID: fmt.Sprint("since", i), Customer: fmt.Sprint("c", i), At: c.now(), Amount: 7}
				require.NoError(t, w.Ingest(lost)(ctx, e, nil))
				require.NoError(t, w.Ingest(before)(ctx, e, nil))
			}
			require.NotEqual(t, rows(t, before, w), rows(t, lost, w))
			require.NoError(t, w.Rebuild(ctx, lost))
			require.NoError(t, profiles.Rebuild(ctx, lost))
			require.Equal(t, rows(t, before, w), rows(t, lost, w))
			require.NoError(t, w.Rebuild(ctx, lost), "again")
			require.Equal(t, rows(t, before, w), rows(t, lost, w))

			// Events go on being taken in as if nothing had been.
			for _, s := range []*featurestore.Store{before, lost} {
				e := sale{ID: "later", Customer: "c0", At: c.now().Add(-40 * time.Minute), Amount: 0.3}
				require.NoError(t, w.Ingest(s)(ctx, e, nil))
				require.NoError(t, w.Ingest(s)(ctx, sale{ID: "since0", Customer: "c0", At: c.now(), Amount: 7}, nil), "a duplicate")
			}
			require.Equal(t, rows(t, before, w), rows(t, lost, w))
		})
	}
}

// between lets something happen before each swap.
type between struct {
	*featurestore.MemoryOnline

	swaps int
	do    func(n int)
}

func (b *between) Swap(ctx context.Context, recs []featurestore.Record) ([]bool, error) {
	b.swaps++
	b.do(b.swaps)
	return b.MemoryOnline.Swap(ctx, recs)
}

// What is written while a rebuild runs is not lost.
func TestRebuildBesideWriters(t *testing.T) {
	ctx, c, w := t.Context(), &clock{}, spendingWindows(nil)
	kept, offline := history(t, w, c)
	before := featurestore.New(kept, offline, &featurestore.Options{Now: c.now})
	lost := &between{MemoryOnline: featurestore.NewMemoryOnline(1000)}
	beside := featurestore.New(lost.MemoryOnline, offline, &featurestore.Options{Now: c.now})
	lost.do = func(n int) {
		if n <= 3 {
			e := sale{ID: fmt.Sprint("beside", n), Customer: "c2", At: c.now(), Amount: 1}
			require.NoError(t, w.Ingest(beside)(ctx, e, nil))
			require.NoError(t, w.Ingest(before)(ctx, e, nil))
		}
	}
	s := featurestore.New(lost, offline, &featurestore.Options{Now: c.now})
	require.NoError(t, w.Rebuild(ctx, s))
	require.NoError(t, profiles.Rebuild(ctx, s))
	require.Equal(t, rows(t, before, w), rows(t, s, w))
	require.Equal(t, 4, lost.swaps)

	lost.do = func(n int) {
		require.NoError(t, w.Ingest(beside)(ctx, sale{ID: fmt.Sprint("more", n), Customer: "c2", At: c.now()}, nil))
	}
	require.ErrorContains(t, w.Rebuild(ctx, s), "spending key c2: written to by others")
}

func TestRebuildErrors(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	require.ErrorIs(t, profiles.Rebuild(ctx, featurestore.New(featurestore.NewMemoryOnline(1), nil, nil)), featurestore.ErrNoOffline)
	require.ErrorIs(t, featurestore.NewView[shopper, struct{}]("v", 0).Rebuild(ctx, newStore(c)), featurestore.ErrDefinition)

	s := newStore(c)
	one, two := spendingWindows(nil), spendingWindows(&featurestore.WindowOptions{Hop: time.Hour})
	require.NoError(t, one.Ingest(s)(ctx, sale{ID: "1", Customer: "a", At: start}, nil))
	err := two.Rebuild(ctx, s)
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
	require.ErrorContains(t, err, "spending key a")

	_, err = profiles.Put(ctx, s, shopper{"a"}, profile{}, start)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, one.Rebuild(ended, s), context.Canceled)
	require.ErrorIs(t, profiles.Rebuild(ended, s), context.Canceled)
}

// An event that was kept offline alone, and comes again when it is too late:
// nothing tells it from one that had counted, so it is only counted apart.
// Rebuild brings the two sides together.
func TestRedeliveryAfterTheLateness(t *testing.T) {
	ctx, c, w := t.Context(), &clock{t: start}, spendingWindows(nil)
	online := &flaky{MemoryOnline: featurestore.NewMemoryOnline(10), fail: 1}
	reader := metric.NewManualReader()
	s := featurestore.New(online, featurestore.NewMemoryOffline(), &featurestore.Options{
		Now: c.now, MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)),
	})
	deliver := func(id string, at time.Time, attempt int) error {
		return w.Ingest(s)(ctx, sale{ID: id, Customer: "a", At: at, Amount: 5}, &messaging.Delivery{Attempt: attempt})
	}
	require.ErrorIs(t, deliver("1", start, 1), errFlaky)
	c.set(start.Add(3 * time.Hour))
	require.NoError(t, deliver("2", c.now(), 1))
	c.set(c.now().Add(time.Second))
	require.NoError(t, deliver("1", start, 2))
	require.NoError(t, deliver("3", start, 1), "late, and new")

	var got metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(ctx, &got))
	stale := map[bool]int64{}
	for _, m := range got.ScopeMetrics[0].Metrics {
		if m.Name != "mainstay.featurestore.writes" {
			continue
		}
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			if o, _ := p.Attributes.Value("outcome"); o.AsString() == "stale" {
				again, _ := p.Attributes.Value("redelivered")
				stale[again.AsBool()] = p.Value
			}
		}
	}
	require.Equal(t, map[bool]int64{true: 1, false: 1}, stale)

	require.NoError(t, w.Rebuild(ctx, s))
	served, joined := onlineAndOffline(t, s, w, "a", c.now())
	require.Equal(t, joined, served)
	row, err := w.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.InDelta(t, 10, *row.Features.Spent7d, 0, "1 and 2")
}

// What expired is not brought back, and what was deleted stays so.
func TestRebuildOfAView(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	offline := featurestore.NewMemoryOffline()
	s := featurestore.New(featurestore.NewMemoryOnline(10), offline, &featurestore.Options{Now: c.now})
	_, err := profiles.PutBatch(ctx, s, []featurestore.Put[shopper, profile]{
		{Key: shopper{"expired"}, Event: start.Add(-36*time.Hour - 1)},
		{Key: shopper{"old"}, Event: start.Add(-36 * time.Hour), Features: profile{Country: "FR"}},
		{Key: shopper{"gone"}, Event: start.Add(-2), Features: profile{Country: "FR"}},
		{Key: shopper{"gone"}, Event: start.Add(-1), Delete: true},
	})
	require.NoError(t, err)
	online := featurestore.NewMemoryOnline(10)
	lost := featurestore.New(online, offline, &featurestore.Options{Now: c.now})
	require.NoError(t, profiles.Rebuild(ctx, lost))
	require.Equal(t, 2, online.Len())
	got, err := profiles.GetBatch(ctx, lost, []shopper{{"expired"}, {"old"}, {"gone"}})
	require.NoError(t, err)
	require.Equal(t, []featurestore.Status{featurestore.Missing, featurestore.Hit, featurestore.Missing},
		[]featurestore.Status{got[0].Status, got[1].Status, got[2].Status})
	require.Equal(t, "FR", got[1].Features.Country)
	out, err := profiles.Put(ctx, lost, shopper{"gone"}, profile{}, start.Add(-2))
	require.NoError(t, err)
	require.Equal(t, featurestore.Stale, out, "the tombstone is back")
}
