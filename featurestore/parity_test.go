package featurestore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/featurestore"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// reading is a view whose rows meet at equal versions.
type reading struct {
	Value *int64 `feature:"value"`
}

var readings = featurestore.NewView[shopper, reading]("reading", time.Hour)

// onlineAndOffline returns what is served now for one customer, and what the
// join has for now.
func onlineAndOffline(t require.TestingT, s *featurestore.Store, def featurestore.Definition, customer string, now time.Time) (online, offline string) {
	svc, err := featurestore.NewService[candidate]("s", def)
	require.NoError(t, err)
	req := candidate{Customer: customer}
	v, err := svc.Vectors(context.Background(), s, req)
	require.NoError(t, err)
	online = fmt.Sprint(v.Values[0], v.Status[0])
	for ex, err := range svc.Join(context.Background(), s, values([]featurestore.Label[candidate]{{Request: req, Time: now}}), nil) {
		require.NoError(t, err)
		offline = fmt.Sprint(ex.Values, ex.Status)
	}
	return online, offline
}

// Puts of one key at one time, of any order of arrival, end in one row, and it
// is the one of the join.
func TestEqualVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{t: start}
		few := rapid.Int64Range(0, 1)
		put := rapid.Custom(func(t *rapid.T) featurestore.Put[shopper, reading] {
			p := featurestore.Put[shopper, reading]{
				Key:     shopper{"a"},
				Event:   start.Add(-time.Duration(few.Draw(t, "event"))),
				Created: start.Add(-time.Duration(few.Draw(t, "created"))),
				Seq:     few.Draw(t, "seq"),
				Delete:  rapid.IntRange(0, 4).Draw(t, "delete") == 0,
			}
			if v := rapid.Int64Range(-2, 2).Draw(t, "value"); v != 0 {
				p.Features.Value = &v
			}
			return p
		})
		puts := rapid.SliceOfN(put, 1, 12).Draw(t, "puts")
		other := rapid.Permutation(puts).Draw(t, "another order")
		var ends []string
		for _, order := range [][]featurestore.Put[shopper, reading]{puts, other} {
			s := newStore(c)
			_, err := readings.PutBatch(t.Context(), s, order)
			require.NoError(t, err)
			online, offline := onlineAndOffline(t, s, readings, "a", start)
			require.Equal(t, online, offline, "online and offline")
			ends = append(ends, online)
		}
		require.Equal(t, ends[0], ends[1], "two orders")
	})
}

// A row whose event lies ahead, as of a producer whose clock does, is served
// from its arrival on, and the join knows it from then on too.
func TestRowAheadOfTheClock(t *testing.T) {
	type put = featurestore.Put[shopper, reading]
	one, two := int64(1), int64(2)
	for name, ahead := range map[string]put{
		"created on arrival": {Event: start.Add(5 * time.Minute)},
		"created ahead too":  {Event: start.Add(5 * time.Minute), Created: start.Add(5 * time.Minute)},
		"only created ahead": {Event: start.Add(-time.Second), Created: start.Add(24 * time.Hour)},
		"at the limit":       {Event: start.Add(10 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{t: start.Add(-time.Minute)}
			s := newStore(c)
			ahead.Key, ahead.Features = shopper{"a"}, reading{&two}
			_, err := readings.Put(t.Context(), s, shopper{"a"}, reading{&one}, start.Add(-time.Minute))
			require.NoError(t, err)
			c.set(start)
			var served []string
			var labels []featurestore.Label[candidate]
			for at := start.Add(-time.Second); at.Before(start.Add(20 * time.Minute)); at = at.Add(time.Second) {
				c.set(at)
				if at.Equal(start) {
					out, err := readings.PutBatch(t.Context(), s, []put{ahead})
					require.NoError(t, err)
					require.Equal(t, []featurestore.Outcome{featurestore.Applied}, out)
				}
				row, err := readings.Get(t.Context(), s, shopper{"a"})
				require.NoError(t, err)
				served = append(served, fmt.Sprintf("[%d] [%v]", *row.Features.Value, row.Status))
				labels = append(labels, featurestore.Label[candidate]{Request: candidate{Customer: "a"}, Time: at})
			}
			require.Equal(t, []string{"[1] [hit]", "[2] [hit]"}, served[:2])
			svc, err := featurestore.NewService[candidate]("s", readings)
			require.NoError(t, err)
			var joined []string
			for ex, err := range svc.Join(t.Context(), s, values(labels), nil) {
				require.NoError(t, err)
				joined = append(joined, fmt.Sprint(ex.Values, ex.Status))
			}
			require.Equal(t, served, joined)
		})
	}
}

// What was announced longer ahead than a write may lie was not served before
// its time.
func TestRowAnnouncedAhead(t *testing.T) {
	c := &clock{t: start.Add(time.Hour)}
	s := newStore(c)
	v := int64(1)
	_, err := readings.PutBatch(t.Context(), s, []featurestore.Put[shopper, reading]{
		{Key: shopper{"a"}, Features: reading{&v}, Event: start, Created: start.Add(-10*time.Minute - 1)},
	})
	require.NoError(t, err)
	_, got := onlineAndOffline(t, s, readings, "a", start.Add(-1))
	require.Equal(t, "[NaN] [missing]", got)
	_, got = onlineAndOffline(t, s, readings, "a", start)
	require.Equal(t, "[1] [hit]", got)
}
