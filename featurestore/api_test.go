package featurestore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// clock is an Options.Now that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

func newStore(c *clock) *featurestore.Store {
	return featurestore.New(featurestore.NewMemoryOnline(10_000), featurestore.NewMemoryOffline(), &featurestore.Options{Now: c.now})
}

func TestDefinitionErrors(t *testing.T) {
	type untagged struct{ ID string }
	type hidden struct {
		id string `feature:"id"`
	}
	type twice struct {
		A int64 `feature:"a"`
		B int64 `feature:"a"`
	}
	type list struct {
		A []int64 `feature:"a"`
	}
	type badDefault struct {
		A int8 `feature:"a,default=300"`
	}
	type badName struct {
		A int8 `feature:"a:b"`
	}
	type floatKey struct {
		A float64 `feature:"a"`
	}
	type count struct {
		N int64 `feature:"n"`
	}
	type avg struct {
		A float64 `feature:"a"`
	}
	windows := func(o *featurestore.WindowOptions, aggs ...featurestore.Aggregate[sale]) error {
		return featurestore.NewWindows[count]("w", byCustomer, o, aggs...).Err()
	}
	n := byCustomer.Count("n", time.Hour)
	service := func(defs ...featurestore.Definition) error {
		_, err := featurestore.NewService[candidate]("s", defs...)
		return err
	}
	type requestOnly struct {
		Hour int64 `feature:"hour"`
	}
	type customerAsInt struct {
		Customer int64 `feature:"customer"`
	}
	_, missingKey := featurestore.NewService[requestOnly]("s", profiles)
	_, otherKey := featurestore.NewService[customerAsInt]("s", profiles)
	type other struct {
		Unknown int64 `feature:"unknown"`
	}
	for want, err := range map[string]error{
		"needs a tag":                     featurestore.NewView[untagged, count]("v", 0).Err(),
		"to be exported":                  featurestore.NewView[hidden, count]("v", 0).Err(),
		`two fields named "a"`:            featurestore.NewView[shopper, twice]("v", 0).Err(),
		"type []int64 is not supported":   featurestore.NewView[shopper, list]("v", 0).Err(),
		`default "300"`:                   featurestore.NewView[shopper, badDefault]("v", 0).Err(),
		`name "a:b" may hold only`:        featurestore.NewView[shopper, badName]("v", 0).Err(),
		`key field "a" must be`:           featurestore.NewView[floatKey, count]("v", 0).Err(),
		"string is not a struct":          featurestore.NewView[string, count]("v", 0).Err(),
		"has no features":                 featurestore.NewView[shopper, struct{}]("v", 0).Err(),
		"ttl -1ns is negative":            featurestore.NewView[shopper, count]("v", -1).Err(),
		"name \"\" must have":             featurestore.NewView[shopper, count]("", 0).Err(),
		"0 aggregates do not fill":        windows(nil),
		`aggregate "m" needs a feature`:   windows(nil, byCustomer.Count("m", time.Hour)),
		"window 0s":                       windows(nil, byCustomer.Count("n", 0)),
		"sliding windows have no hop":     windows(&featurestore.WindowOptions{Mode: featurestore.Sliding, Hop: time.Hour}, n),
		"mode 7":                          windows(&featurestore.WindowOptions{Mode: 7}, n),
		"hop -1ns":                        windows(&featurestore.WindowOptions{Hop: -1}, n),
		`sum "n" must be a float64`:       windows(nil, byCustomer.Sum("n", time.Hour, amount)),
		"has no function":                 windows(nil, byCustomer.Sum("n", time.Hour, nil)),
		`avg "a" is null when`:            featurestore.NewWindows[avg]("w", byCustomer, nil, byCustomer.Avg("a", time.Hour, amount)).Err(),
		"By needs functions":              featurestore.NewWindows[count]("w", featurestore.By[shopper, sale](nil, saleAt, saleID), nil, n).Err(),
		"a service needs a definition":    service(),
		`two definitions are named "prof`: service(profiles, profiles, ratio),
		`two features are named "age"`:    service(profiles, featurestore.NewView[shopper, profile]("again", 0)),
		`feature "country" is a string`:   service(profiles),
		`no field for key "customer"`:     missingKey,
		`key "customer" of profile has type string, and int64 in the request`: otherKey,
		`input "unknown" of t is neither`:                                     service(featurestore.OnDemand("t", func(other) count { return count{} })),
		`input "spent_7d" of ratio`:                                           service(profiles, ratio),
		"[]int64":                                                             service(featurestore.NewView[shopper, list]("v", 0)),
	} {
		require.ErrorIs(t, err, featurestore.ErrDefinition, want)
		require.ErrorContains(t, err, want)
		require.Equal(t, 1, strings.Count(err.Error(), "featurestore:"), "prefixed once: %v", err)
	}
	// And every use says so.
	broken := featurestore.NewView[shopper, list]("v", 0)
	_, err := broken.Get(t.Context(), newStore(&clock{}), shopper{})
	require.ErrorIs(t, err, featurestore.ErrDefinition)
	_, err = broken.Put(t.Context(), newStore(&clock{}), shopper{}, list{}, start)
	require.ErrorIs(t, err, featurestore.ErrDefinition)
}

func TestGetBatchAligns(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	online := &counting{MemoryOnline: featurestore.NewMemoryOnline(100)}
	s := featurestore.New(online, nil, &featurestore.Options{Now: c.now})
	age := int64(41)
	_, err := profiles.PutBatch(ctx, s, []featurestore.Put[shopper, profile]{
		{Key: shopper{"old"}, Features: profile{Age: &age}, Event: start.Add(-36*time.Hour - 1)},
		{Key: shopper{"just"}, Features: profile{Age: &age, Country: "FR", Gold: true}, Event: start.Add(-36 * time.Hour)},
		{Key: shopper{"null"}, Features: profile{}, Event: start},
		{Key: shopper{"gone"}, Event: start, Delete: true},
	})
	require.NoError(t, err)
	rows, err := profiles.GetBatch(ctx, s, []shopper{{"just"}, {"nobody"}, {"old"}, {"just"}, {"gone"}, {"null"}})
	require.NoError(t, err)
	require.Equal(t, 1, online.reads, "one round trip")
	require.Equal(t, 5, online.refs, "each key once")
	absent := profile{Country: "??"}
	require.Equal(t, []featurestore.Row[profile]{
		{Features: profile{Age: &age, Country: "FR", Gold: true}, Status: featurestore.Hit, Event: start.Add(-36 * time.Hour), Created: start},
		{Features: absent},
		{Features: absent, Status: featurestore.Expired, Event: start.Add(-36*time.Hour - 1), Created: start},
		{Features: profile{Age: &age, Country: "FR", Gold: true}, Status: featurestore.Hit, Event: start.Add(-36 * time.Hour), Created: start},
		{Features: absent},
		{Features: profile{}, Status: featurestore.Hit, Event: start, Created: start},
	}, rows)
	*rows[0].Features.Age = 1
	require.Equal(t, int64(41), *rows[3].Features.Age, "rows share nothing")
}

// counting counts what is read.
type counting struct {
	*featurestore.MemoryOnline

	reads, refs int
}

func (c *counting) Read(ctx context.Context, refs []featurestore.Ref) ([]featurestore.Record, error) {
	c.reads++
	c.refs += len(refs)
	return c.MemoryOnline.Read(ctx, refs)
}

func TestChangedLayoutIsRefused(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	s := newStore(c)
	type v1 struct {
		A int64 `feature:"a"`
	}
	type v2 struct {
		A int64 `feature:"a"`
		B int64 `feature:"b"`
	}
	old, changed := featurestore.NewView[shopper, v1]("v", 0), featurestore.NewView[shopper, v2]("v", 0)
	_, err := old.Put(ctx, s, shopper{"a"}, v1{1}, start)
	require.NoError(t, err)
	_, err = changed.Put(ctx, s, shopper{"b"}, v2{2, 3}, start)
	require.NoError(t, err)
	rows, err := changed.GetBatch(ctx, s, []shopper{{"a"}, {"b"}})
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
	var e *featurestore.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "a", e.Key)
	require.Equal(t, v2{2, 3}, rows[1].Features, "the other row is there")
	require.Equal(t, featurestore.Missing, rows[0].Status)
	svc, err := featurestore.NewService[candidate]("s", changed)
	require.NoError(t, err)
	_, err = svc.Vectors(ctx, s, candidate{Customer: "b"}, candidate{Customer: "a"})
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
	// A default and a TTL are no layout, and do change what a service answers.
	type v1d struct {
		A int64 `feature:"a,default=7"`
	}
	withDefault := featurestore.NewView[shopper, v1d]("v", time.Hour)
	row, err := withDefault.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.Equal(t, int64(1), row.Features.A)
	first, err := featurestore.NewService[candidate]("s", old)
	require.NoError(t, err)
	second, err := featurestore.NewService[candidate]("s", withDefault)
	require.NoError(t, err)
	require.NotEqual(t, first.Fingerprint(), second.Fingerprint())

	one, two := spendingWindows(nil), spendingWindows(&featurestore.WindowOptions{Hop: time.Hour})
	require.NoError(t, one.Ingest(s)(ctx, sale{ID: "1", Customer: "a", At: start}, nil))
	err = two.Ingest(s)(ctx, sale{ID: "2", Customer: "a", At: start}, nil)
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
	require.EqualError(t, err, "featurestore: spending key a: row written under another definition")
	_, err = two.Get(ctx, s, shopper{"a"})
	require.ErrorIs(t, err, featurestore.ErrFingerprint)
}

func TestIngestRefusesWhatCanNeverCount(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	s := newStore(c)
	w := spendingWindows(nil)
	for want, e := range map[string]sale{
		"id must have":          {Customer: "a", At: start},
		"not 513":               {ID: strings.Repeat("x", 513), Customer: "a", At: start},
		"further in the future": {ID: "1", Customer: "a", At: start.Add(10*time.Minute + 1)},
		"outside the years":     {ID: "1", Customer: "a"},
		"key is longer than":    {ID: "1", Customer: strings.Repeat("x", 5000), At: start},
	} {
		err := w.Ingest(s)(ctx, e, nil)
		require.ErrorContains(t, err, want)
		require.True(t, permanent(err), "for the dead letter: %v", err)
	}
	require.NoError(t, w.Ingest(s)(ctx, sale{ID: "1", Customer: "a", At: start.Add(10 * time.Minute)}, nil))
	_, err := w.Put(ctx, s, shopper{"a"}, spending{}, start)
	require.ErrorContains(t, err, "cannot be put")

	// An offline-only or read-only store cannot hold windows.
	noSwap := featurestore.New(onlyOnline{featurestore.NewMemoryOnline(1)}, nil, nil)
	require.ErrorContains(t, w.Ingest(noSwap)(ctx, sale{ID: "1", At: start}, nil), "no Swapper")
	svc, err := featurestore.NewService[candidate]("s", w)
	require.NoError(t, err)
	for _, err := range svc.Join(ctx, noSwap, values([]featurestore.Label[candidate]{{}}), nil) {
		require.ErrorIs(t, err, featurestore.ErrNoOffline)
	}
}

type onlyOnline struct{ featurestore.Online }

func TestIngestOfAView(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	s := newStore(c)
	ingest := featurestore.Ingest(s, profiles, func(e sale) []featurestore.Put[shopper, profile] {
		return []featurestore.Put[shopper, profile]{{Key: shopper{e.Customer}, Features: profile{Country: "DE"}, Event: e.At, Created: e.At}}
	})
	require.NoError(t, ingest(ctx, sale{Customer: "a", At: start}, nil))
	require.NoError(t, ingest(ctx, sale{Customer: "a", At: start}, nil), "a duplicate is done")
	require.NoError(t, ingest(ctx, sale{Customer: "a", At: start.Add(-1)}, nil), "stale is done")
	require.True(t, permanent(ingest(ctx, sale{Customer: "a", At: start.Add(time.Hour)}, nil)))
	require.True(t, permanent(ingest(ctx, sale{Customer: "a"}, nil)), "no event time")
	row, err := profiles.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.Equal(t, "DE", row.Features.Country)
	require.Equal(t, start, row.Event)
}

// Windows age by themselves, by the clock of the store, and a clock far behind
// the events reads as far back as the state reaches.
func TestWindowsFollowTheClock(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	s := newStore(c)
	w := spendingWindows(nil)
	for i := range 10 {
		at := start.Add(time.Duration(i) * time.Hour)
		c.set(at)
		require.NoError(t, w.Ingest(s)(ctx, sale{ID: fmt.Sprint(i), Customer: "a", At: at, Amount: 1}, nil))
	}
	get := func(at time.Time) featurestore.Row[spending] {
		c.set(at)
		row, err := w.Get(ctx, s, shopper{"a"})
		require.NoError(t, err)
		return row
	}
	last := start.Add(9 * time.Hour)
	require.Equal(t, int64(2), get(last).Features.Orders, "the window reaches back a whole hour, inclusive")
	require.Equal(t, int64(1), get(last.Add(5*time.Minute)).Features.Orders)
	require.Equal(t, int64(0), get(last.Add(2*time.Hour)).Features.Orders)
	require.InDelta(t, 10, *get(last.Add(2 * time.Hour)).Features.Spent7d, 0)
	require.Equal(t, last, get(last.Add(2*time.Hour)).Event)
	require.Equal(t, featurestore.Row[spending]{Features: spending{Last: -1}}, get(last.Add(40*24*time.Hour)), "no event in any window")
	// Lateness is an hour: what is older is closed, and the clock reads as if
	// it showed an hour before the newest event.
	require.Equal(t, get(last.Add(-time.Hour)).Features, get(last.Add(-5*time.Hour)).Features)
	require.InDelta(t, 9, *get(last.Add(-5 * time.Hour)).Features.Spent7d, 0)
}

// The largest limit there is does not overflow the lateness of windows.
func TestMaxFutureOfAnyLength(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	s := featurestore.New(featurestore.NewMemoryOnline(10), nil, &featurestore.Options{Now: c.now, MaxFuture: math.MaxInt64})
	w := spendingWindows(nil)
	for i, at := range []time.Duration{0, 240 * time.Hour, 30 * time.Minute} {
		require.NoError(t, w.Ingest(s)(ctx, sale{ID: fmt.Sprint(i), Customer: "a", At: start.Add(at), Amount: 1}, nil))
	}
	c.set(start.Add(time.Hour))
	row, err := w.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.Equal(t, int64(2), row.Features.Orders)
}

func TestBackfill(t *testing.T) {
	ctx := t.Context()
	var events []sale
	for i := range 3000 {
		events = append(events, sale{ID: fmt.Sprint(i), Customer: fmt.Sprint(i % 7), Item: 1, At: start.Add(time.Duration(i) * time.Minute), Amount: 0.1 * float64(i)})
	}
	c := &clock{t: events[len(events)-1].At}
	filled, fed := newStore(c), newStore(c)
	w := spendingWindows(nil)
	require.NoError(t, w.Backfill(ctx, filled, values(events)))
	for _, e := range events {
		require.NoError(t, w.Ingest(fed)(ctx, e, nil))
	}
	var labels []featurestore.Label[candidate]
	for i := range 7 {
		a, err := w.Get(ctx, filled, shopper{fmt.Sprint(i)})
		require.NoError(t, err)
		b, err := w.Get(ctx, fed, shopper{fmt.Sprint(i)})
		require.NoError(t, err)
		require.Positive(t, *a.Features.Spent7d)
		require.Equal(t, a.Features, b.Features)
		labels = append(labels, featurestore.Label[candidate]{Request: candidate{Customer: fmt.Sprint(i)}, Time: start.Add(10 * time.Hour)})
	}
	// History is dated as known when it happened.
	svc, err := featurestore.NewService[candidate]("s", w)
	require.NoError(t, err)
	for ex, err := range svc.Join(ctx, filled, values(labels), nil) {
		require.NoError(t, err)
		require.Equal(t, featurestore.Hit, ex.Status[0])
	}
	require.ErrorContains(t, w.Backfill(ctx, filled, values([]sale{{ID: "x", At: c.now().Add(time.Hour)}})), "further in the future")
	broken := errors.New("line 7")
	err = w.Backfill(ctx, filled, func(yield func(sale, error) bool) { yield(sale{}, broken) })
	require.ErrorIs(t, err, broken)
}

func TestVectors(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	online := &counting{MemoryOnline: featurestore.NewMemoryOnline(100)}
	s := featurestore.New(online, featurestore.NewMemoryOffline(), &featurestore.Options{Now: c.now})
	w, p := spendingWindows(nil), popularityWindows(nil)
	svc, err := featurestore.NewService[candidate]("ranking", w, p, profiles, ratio)
	require.NoError(t, err)
	require.Equal(t, []string{
		"orders_1h", "spent_1h", "spent_7d", "avg_1d", "var_30d", "last_1d", "first_20d",
		"sold_1d", "max_3d", "min_3d", "age", "gold", "per_order", "abroad", "night",
	}, svc.Columns())
	for i, e := range []sale{{"1", "a", 7, start.Add(-time.Minute), 10}, {"2", "a", 8, start, 20}} {
		require.NoError(t, w.Ingest(s)(ctx, e, nil))
		require.NoError(t, p.Ingest(s)(ctx, e, nil), i)
	}
	_, err = profiles.Put(ctx, s, shopper{"a"}, profile{Country: "FR", Gold: true}, start)
	require.NoError(t, err)
	online.reads, online.refs = 0, 0

	var log []featurestore.Served[candidate]
	svc.OnServed(func(r featurestore.Served[candidate]) {
		r.Values = slices.Clone(r.Values)
		log = append(log, r)
	})
	v, err := svc.Vectors(ctx, s, candidate{"a", 7, 3}, candidate{"a", 8, 12}, candidate{"a", 9, 12}, candidate{"b", 7, 12})
	require.NoError(t, err)
	require.Equal(t, 1, online.reads, "one round trip")
	require.Equal(t, 2+3+2, online.refs, "each row once")
	nan := math.NaN()
	hit, missing := featurestore.Hit, featurestore.Missing
	want := [][]float64{
		{2, 30, 30, 15, 25, 20, 10, 1, 10, 10, nan, 1, 15, 1, 1},
		{2, 30, 30, 15, 25, 20, 10, 1, 20, 20, nan, 1, 15, 1, 0},
		{2, 30, 30, 15, 25, 20, 10, 0, nan, nan, nan, 1, 15, 1, 0},
		{0, 0, nan, nan, nan, -1, nan, 1, 10, 10, nan, nan, -1, 1, 0},
	}
	require.Equal(t, fmt.Sprint(want), fmt.Sprint(v.Values))
	require.Equal(t, [][]featurestore.Status{{hit, hit, hit, hit}, {hit, hit, hit, hit}, {hit, missing, hit, missing}, {missing, hit, missing, missing}}, v.Status)
	require.Equal(t, start, v.Time)
	require.Len(t, log, 4)
	for i, r := range log {
		require.Equal(t, fmt.Sprint(v.Values[i]), fmt.Sprint(r.Values))
		require.Equal(t, start, r.Time)
		require.Equal(t, svc.Fingerprint(), r.Fingerprint)
	}
	svc.OnServed(nil)
	none, err := svc.Vectors(ctx, s)
	require.NoError(t, err)
	require.Empty(t, none.Values)
	require.Len(t, log, 4)
}

func TestJoinOptions(t *testing.T) {
	ctx, c := t.Context(), &clock{}
	s := newStore(c)
	w := spendingWindows(&featurestore.WindowOptions{Lateness: 30 * time.Minute})
	arrive := func(id string, at, arrived time.Duration) {
		c.set(start.Add(arrived))
		require.NoError(t, w.Ingest(s)(ctx, sale{ID: id, Customer: "a", At: start.Add(at), Amount: 1}, nil))
	}
	arrive("1", 0, 0)
	arrive("2", 2*time.Hour, 2*time.Hour)
	arrive("late", 110*time.Minute, 2*time.Hour+10*time.Minute)
	arrive("too late", time.Hour, 2*time.Hour+11*time.Minute)
	arrive("1", 0, 2*time.Hour+12*time.Minute) // again
	svc, err := featurestore.NewService[candidate]("s", w)
	require.NoError(t, err)
	label := func(at time.Duration) featurestore.Label[candidate] {
		return featurestore.Label[candidate]{Request: candidate{Customer: "a"}, Time: start.Add(at), Target: 1}
	}
	labels := []featurestore.Label[candidate]{label(2*time.Hour + 10*time.Minute), label(0), label(2 * time.Hour), label(3 * time.Hour), label(-1)}
	sums := func(o *featurestore.JoinOptions) (got []float64) {
		for ex, err := range svc.Join(ctx, s, values(labels), o) {
			require.NoError(t, err)
			got = append(got, ex.Values[2])
		}
		return got
	}
	nan := math.NaN()
	require.Equal(t, fmt.Sprint([]float64{3, 1, 2, 3, nan}), fmt.Sprint(sums(nil)))
	require.Equal(t, fmt.Sprint([]float64{4, 1, 4, 4, nan}), fmt.Sprint(sums(&featurestore.JoinOptions{Hindsight: true})))
	require.Equal(t, fmt.Sprint([]float64{3, nan, 1, 3, nan}), fmt.Sprint(sums(&featurestore.JoinOptions{Strict: true})))
	require.Equal(t, fmt.Sprint([]float64{2, nan, 1, 3, nan}), fmt.Sprint(sums(&featurestore.JoinOptions{ServingLag: time.Second})))

	// An error of the labels is yielded in its place; the end of the context
	// ends the join; the loop can be left.
	broken := errors.New("label 1")
	var source iter.Seq2[featurestore.Label[candidate], error] = func(yield func(featurestore.Label[candidate], error) bool) {
		_ = yield(labels[0], nil) && yield(featurestore.Label[candidate]{}, broken) && yield(labels[1], nil)
	}
	var errs []error
	for _, err := range svc.Join(ctx, s, source, nil) {
		errs = append(errs, err)
	}
	require.Equal(t, []error{nil, broken, nil}, errs)
	for range svc.Join(ctx, s, source, nil) {
		break
	}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	n := 0
	for _, err := range svc.Join(ended, s, values(labels), nil) {
		if n++; n == 2 {
			require.ErrorIs(t, err, context.Canceled)
		}
		cancel()
	}
	require.Equal(t, 2, n)
}

func TestTelemetry(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	reader := metric.NewManualReader()
	s := featurestore.New(featurestore.NewMemoryOnline(100), nil, &featurestore.Options{
		Now: c.now, MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)),
	})
	w := spendingWindows(nil)
	ingest := w.Ingest(s)
	for _, e := range []sale{{ID: "1", At: start}, {ID: "1", At: start}, {ID: "2", At: start.Add(-9 * time.Hour)}, {ID: "3", At: start.Add(time.Hour)}} {
		_ = ingest(ctx, e, nil)
	}
	_, err := w.GetBatch(ctx, s, []shopper{{""}, {"x"}, {"y"}})
	require.NoError(t, err)
	var got metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(ctx, &got))
	counts := map[string]int64{}
	for _, m := range got.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, p := range sum.DataPoints {
				v, _ := p.Attributes.Value("view")
				label, ok := p.Attributes.Value("outcome")
				if !ok {
					label, _ = p.Attributes.Value(attribute.Key("status"))
				}
				counts[m.Name+" "+v.AsString()+" "+label.AsString()] = p.Value
			}
		}
	}
	require.Equal(t, map[string]int64{
		"mainstay.featurestore.writes spending applied":   1,
		"mainstay.featurestore.writes spending duplicate": 1,
		"mainstay.featurestore.writes spending stale":     1,
		"mainstay.featurestore.writes spending future":    1,
		"mainstay.featurestore.rows spending hit":         1,
		"mainstay.featurestore.rows spending missing":     2,
	}, counts)
}

// An offline write that succeeded before an online one that did not: the
// redelivery heals it, and the join counts the event once.
func TestCrashBetweenOfflineAndOnline(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start}
	online := &flaky{MemoryOnline: featurestore.NewMemoryOnline(10), fail: 1}
	s := featurestore.New(online, featurestore.NewMemoryOffline(), &featurestore.Options{Now: c.now})
	w := spendingWindows(nil)
	e := sale{ID: "1", Customer: "a", At: start, Amount: 5}
	require.ErrorIs(t, w.Ingest(s)(ctx, e, nil), errFlaky)
	c.set(start.Add(time.Second))
	require.NoError(t, w.Ingest(s)(ctx, e, nil))
	row, err := w.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.Equal(t, int64(1), row.Features.Orders)
	svc, err := featurestore.NewService[candidate]("s", w)
	require.NoError(t, err)
	for ex, err := range svc.Join(ctx, s, values([]featurestore.Label[candidate]{{Request: candidate{Customer: "a"}, Time: c.now()}}), nil) {
		require.NoError(t, err)
		require.InDelta(t, 1, ex.Values[0], 0)
	}
}

var errFlaky = errors.New("connection lost")

type flaky struct {
	*featurestore.MemoryOnline

	fail int
}

func (f *flaky) Swap(ctx context.Context, recs []featurestore.Record) ([]bool, error) {
	if f.fail--; f.fail >= 0 {
		return make([]bool, len(recs)), errFlaky
	}
	return f.MemoryOnline.Swap(ctx, recs)
}

func permanent(err error) bool {
	p, _ := concurrency.Advice(err)
	return p
}

// Consumers that all deliver all events, and readers beside them: each event
// counts once.
func TestConcurrentIngest(t *testing.T) {
	ctx, c := t.Context(), &clock{t: start.Add(time.Minute)}
	s := newStore(c)
	w := spendingWindows(nil)
	svc, err := featurestore.NewService[candidate]("s", w)
	require.NoError(t, err)
	const consumers, events = 4, 300
	var wg sync.WaitGroup
	errs := make(chan error, 2*consumers*events)
	for range consumers {
		wg.Go(func() {
			for i := range events {
				errs <- w.Ingest(s)(ctx, sale{ID: fmt.Sprint(i), Customer: "a", At: start.Add(time.Duration(i)), Amount: 1}, nil)
			}
		})
		wg.Go(func() {
			for range events {
				v, err := svc.Vectors(ctx, s, candidate{Customer: "a"})
				if err == nil && v.Values[0][0] != v.Values[0][1] {
					err = fmt.Errorf("a torn row: %v", v.Values[0])
				}
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	row, err := w.Get(ctx, s, shopper{"a"})
	require.NoError(t, err)
	require.Equal(t, int64(events), row.Features.Orders)
}
