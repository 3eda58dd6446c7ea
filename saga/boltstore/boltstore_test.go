package boltstore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/sagatest"
)

func open(t testing.TB, path string, o *Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// fast leaves out the syncs, which no test but that of kill -9 can see.
var fast = &Options{Bolt: &bolt.Options{NoSync: true}}

func TestStore(t *testing.T) {
	sagatest.TestStore(t, func(t *testing.T) saga.Store {
		return open(t, filepath.Join(t.TempDir(), "sagas.db"), fast)
	})
}

func BenchmarkStore(b *testing.B) {
	sagatest.BenchmarkStore(b, func(b *testing.B) saga.Store {
		return open(b, filepath.Join(b.TempDir(), "sagas.db"), nil)
	})
}

func TestLockedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	open(t, path, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, path, nil)
	require.ErrorContains(t, err, "in use by another process")
	require.ErrorContains(t, err, path)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(t.Context(), filepath.Join(dir, "none", "sagas.db"), nil)
	require.ErrorContains(t, err, "the directory does not exist")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ended, filepath.Join(dir, "sagas.db"), nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestUnknownFormatIsRefusedAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	write := func(version string) {
		db, err := bolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bolt.Tx) error {
			meta, err := tx.CreateBucketIfNotExists(metaBucket)
			require.NoError(t, err)
			return meta.Put(formatKey, []byte(version))
		}))
		require.NoError(t, db.Close())
	}
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	require.NoError(t, s.Create(t.Context(), saga.Record{Info: saga.Info{ID: "a", Status: saga.Parked}}))
	require.NoError(t, s.Close(t.Context()))
	write("7")
	_, err = Open(t.Context(), path, nil)
	require.ErrorContains(t, err, `format "7"`)
	write("1")
	r, err := open(t, path, nil).Load(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, saga.Parked, r.Status)
}

// What a crashed process owned is claimed at once, since nobody else can have
// the file open.
func TestReopenedSagasAreFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	require.NoError(t, s.Beat(t.Context(), "crashed", time.Hour))
	r := saga.Record{Info: saga.Info{ID: "a", Status: saga.Running}, Shape: "s", Owner: "crashed", Fence: 1}
	require.NoError(t, s.Create(t.Context(), r))
	claimed, err := s.Claim(t.Context(), "next", []saga.Shape{"s"}, 1)
	require.NoError(t, err)
	require.Empty(t, claimed)
	require.NoError(t, s.Close(t.Context()))

	claimed, err = open(t, path, nil).Claim(t.Context(), "next", []saga.Shape{"s"}, 1)
	require.NoError(t, err)
	require.Len(t, claimed, 1)
	require.Equal(t, int64(2), claimed[0].Fence)
}

func TestClosedStoreFails(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "sagas.db"), nil)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	require.Error(t, s.Create(t.Context(), saga.Record{Info: saga.Info{ID: "a"}}))
	_, err = s.Load(t.Context(), "a")
	require.Error(t, err)
}
