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
