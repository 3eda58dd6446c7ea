package redisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/mainstay-go/mainstay/featurestore/featurestoretest"
	"github.com/mainstay-go/mainstay/internal/servertest"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

var opened atomic.Int64

// open returns a client and a store with a prefix of its own, which is swept
// when t ends.
func open(t testing.TB) (*redis.Client, *Store) {
	addr := servertest.Redis(t)
	c := redis.NewClient(&redis.Options{Addr: addr})
	prefix := fmt.Sprintf("fstest-%d-%d:", time.Now().UnixNano(), opened.Add(1))
	t.Cleanup(func() {
		ctx := context.Background()
		keys, err := c.Keys(ctx, prefix+"*").Result()
		if err == nil && len(keys) > 0 {
			err = c.Del(ctx, keys...).Err()
		}
		if err != nil {
			t.Errorf("sweep: %v", err)
		}
		c.Close()
	})
	return c, New(c, &Options{Prefix: prefix})
}

func TestConformance(t *testing.T) {
	for _, single := range []bool{true, false} { // MGET, and the pipeline a cluster needs
		t.Run(fmt.Sprintf("single=%v", single), func(t *testing.T) {
			featurestoretest.TestOnline(t, func(t *testing.T) featurestore.Online {
				_, s := open(t)
				s.single = single
				return s
			})
		})
	}
}

func rec(key string, event time.Time, ttl time.Duration) featurestore.Record {
	return featurestore.Record{Ref: featurestore.Ref{View: "v", Key: key}, Event: event, Created: event, TTL: ttl, Payload: []byte("p")}
}

var at = time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)

func TestScriptIsLoadedAgain(t *testing.T) {
	c, s := open(t)
	ctx := t.Context()
	for i := range 3 {
		require.NoError(t, c.ScriptFlush(ctx).Err())
		out, err := s.Write(ctx, []featurestore.Record{rec("a", at.Add(time.Duration(i)), 0), rec("b", at.Add(time.Duration(i)), 0)})
		require.NoError(t, err)
		require.Equal(t, []featurestore.Outcome{featurestore.Applied, featurestore.Applied}, out)
	}
}

func TestExpiry(t *testing.T) {
	c, s := open(t)
	ctx := t.Context()
	key := s.key(featurestore.Ref{View: "v", Key: "k"})
	left := func() time.Duration {
		d, err := c.PTTL(ctx, key).Result()
		require.NoError(t, err)
		return d
	}
	write := func(want featurestore.Outcome, event time.Time, ttl time.Duration) {
		out, err := s.Write(ctx, []featurestore.Record{rec("k", event, ttl)})
		require.NoError(t, err)
		require.Equal(t, want, out[0])
	}
	write(featurestore.Applied, at, time.Hour)
	require.InDelta(t, time.Hour, left(), float64(time.Minute))
	for _, w := range []struct {
		want  featurestore.Outcome
		event time.Time
	}{{featurestore.Stale, at.Add(-1)}, {featurestore.Duplicate, at}, {featurestore.Applied, at.Add(1)}} {
		require.NoError(t, c.PExpire(ctx, key, time.Minute).Err())
		write(w.want, w.event, time.Hour)
		require.InDelta(t, time.Hour, left(), float64(time.Minute), "%v renews", w.want)
	}
	write(featurestore.Stale, at, 0)
	require.Equal(t, time.Duration(-1), left(), "a view without expiry keeps the row")
}

func TestForeignRowIsRefused(t *testing.T) {
	c, s := open(t)
	ctx := t.Context()
	for _, foreign := range []string{"x", "\x02" + string(make([]byte, 60)), "\x01short"} {
		require.NoError(t, c.Set(ctx, s.key(featurestore.Ref{View: "v", Key: "k"}), foreign, 0).Err())
		_, err := s.Write(ctx, []featurestore.Record{rec("k", at, 0)})
		require.ErrorContains(t, err, "another format")
		_, err = s.Read(ctx, []featurestore.Ref{{View: "v", Key: "k"}})
		require.Error(t, err)
		require.Equal(t, foreign, c.Get(ctx, s.key(featurestore.Ref{View: "v", Key: "k"})).Val(), "it is left as it is")
	}
}

func TestLargeBatch(t *testing.T) {
	_, s := open(t)
	ctx := t.Context()
	var recs []featurestore.Record
	var refs []featurestore.Ref
	for i := range 3*perCommand + 7 {
		r := rec(fmt.Sprint(i), at, time.Hour)
		r.Payload = fmt.Append(nil, i)
		recs, refs = append(recs, r), append(refs, r.Ref)
	}
	_, err := s.Write(ctx, recs)
	require.NoError(t, err)
	slices.Reverse(refs)
	got, err := s.Read(ctx, refs)
	require.NoError(t, err)
	for i := range got {
		require.Equal(t, got[i].Key, string(got[i].Payload))
	}
}

func TestUnreachable(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialTimeout: 100 * time.Millisecond, DialerRetries: 1})
	defer c.Close()
	s := New(c, nil)
	ctx := t.Context()
	require.ErrorContains(t, s.Health(ctx), "redis ping")
	_, err := s.Read(ctx, []featurestore.Ref{{View: "v", Key: "k"}})
	require.ErrorContains(t, err, "redis read of 1 rows")
	_, err = s.Write(ctx, []featurestore.Record{rec("k", at, 0)})
	require.ErrorContains(t, err, "features:v:k")
	s.single = false
	_, err = s.Read(ctx, []featurestore.Ref{{View: "v", Key: "k"}})
	require.Error(t, err, "a missing server is no missing row")
}

type visitor struct {
	ID string `feature:"visitor"`
}

type visits struct {
	N   int64    `feature:"n_1h"`
	Sum float64  `feature:"sum_1d"`
	Avg *float64 `feature:"avg_7d"`
}

type visit struct {
	ID, Visitor string
	At          time.Time
	Value       float64
}

func newWindows() *featurestore.Windows[visitor, visit, visits] {
	by := featurestore.By(func(v visit) visitor { return visitor{v.Visitor} },
		func(v visit) time.Time { return v.At }, func(v visit) string { return v.ID })
	value := func(v visit) float64 { return v.Value }
	return featurestore.NewWindows[visits]("visits", by, nil,
		by.Count("n_1h", time.Hour), by.Sum("sum_1d", 24*time.Hour, value), by.Avg("avg_7d", 7*24*time.Hour, value))
}

func TestParityOnRedis(t *testing.T) {
	servertest.Redis(t)
	w := newWindows()
	svc, err := featurestore.NewService[visitor]("s", w)
	require.NoError(t, err)
	var events []visit
	var labels []featurestore.Label[visitor]
	for i := range 300 {
		v := visit{fmt.Sprint("e", i), fmt.Sprint("v", i%3), at.Add(time.Duration(i*i%1009) * 7 * time.Minute), float64(i) * 0.1}
		events = append(events, v)
		labels = append(labels, featurestore.Label[visitor]{Request: visitor{v.Visitor}, Time: v.At})
	}
	featurestoretest.Parity(t, svc, labels, &featurestoretest.Options{
		Late: 0.3, Duplicates: 0.3,
		Online: func(t *testing.T) featurestore.Online { _, s := open(t); return s },
	}, featurestoretest.Events(w, events))
}

// Concurrent consumers of one key: each event counts once, though every one is
// delivered by all of them.
func TestConcurrentIngest(t *testing.T) {
	_, s := open(t)
	store := featurestore.New(s, nil, &featurestore.Options{Now: func() time.Time { return at.Add(time.Minute) }})
	w := newWindows()
	ingest := w.Ingest(store)
	const consumers, events = 4, 60
	var wg sync.WaitGroup
	errs := make(chan error, consumers*events)
	for range consumers {
		wg.Go(func() {
			for i := range events {
				errs <- ingest(t.Context(), visit{fmt.Sprint("e", i), "v", at.Add(time.Duration(i)), 1}, nil)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	row, err := w.Get(t.Context(), store, visitor{"v"})
	require.NoError(t, err)
	require.Equal(t, int64(events), row.Features.N)
	require.Equal(t, int64(events), int64(row.Features.Sum))
}

func FuzzDecode(f *testing.F) {
	r := rec("k", at, 0)
	r.Fingerprint, r.Seq, r.Deleted = "fp", -3, true
	b, err := encode(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add(b[:headerLen+2])
	f.Fuzz(func(t *testing.T, b []byte) {
		var r featurestore.Record
		if decode(&r, b) != nil {
			return
		}
		again, err := encode(&r)
		require.NoError(t, err)
		require.Equal(t, b, again, "what is read is what would be written")
	})
}

func BenchmarkRead100(b *testing.B) {
	_, s := open(b)
	var recs []featurestore.Record
	var refs []featurestore.Ref
	for i := range 100 {
		r := rec(fmt.Sprint(i), at, time.Hour)
		r.Payload = make([]byte, 416)
		recs, refs = append(recs, r), append(refs, r.Ref)
	}
	if _, err := s.Write(b.Context(), recs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Read(b.Context(), refs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIngest(b *testing.B) {
	_, s := open(b)
	store := featurestore.New(s, nil, &featurestore.Options{MaxFuture: -1})
	ingest := newWindows().Ingest(store)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := ingest(b.Context(), visit{fmt.Sprint("e", i), fmt.Sprint("v", i%1000), at.Add(time.Duration(i) * time.Second), 1}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
