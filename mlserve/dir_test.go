package mlserve_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/mlservetest"
)

func TestDirKeepsTheRegistrysContract(t *testing.T) {
	mlservetest.TestSource(t, func(t *testing.T) mlserve.Source { return mlserve.NewDir(t.TempDir()) })
}

func TestModelsOfTheTestsKeepTheContract(t *testing.T) {
	mlservetest.TestModel(t, func(*testing.T) mlserve.Model { return newVersioned(4) })
}

func TestHalfWrittenVersionsAreNeverSeen(t *testing.T) {
	root := t.TempDir()
	dir := mlserve.NewDir(root)
	publish(t, dir, 1, nil)
	model := filepath.Join(root, "m")
	for _, d := range []string{"2", ".tmp-crashed", ".tmp-old", "not a version"} { // no manifest in "2"
		require.NoError(t, os.MkdirAll(filepath.Join(model, d), 0o700))
		write(t, filepath.Join(model, d, "model.json"), "2")
	}
	for _, d := range []string{".tmp-crashed", ".tmp-old", "not a version"} {
		write(t, filepath.Join(model, d, "manifest.json"), `{"model":"m","version":"2"}`)
	}
	old := time.Now().Add(-48 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(model, ".tmp-old"), old, old))
	vs, err := dir.Versions(bg, "m")
	require.NoError(t, err)
	require.Len(t, vs, 1)
	require.Equal(t, "1", vs[0].Version)
	require.WithinDuration(t, time.Now(), vs[0].Created, time.Minute)
	publish(t, dir, 3, nil)
	_, err = os.Stat(filepath.Join(model, ".tmp-old"))
	require.ErrorIs(t, err, os.ErrNotExist, "old leavings are swept up")
	_, err = os.Stat(filepath.Join(model, ".tmp-crashed"))
	require.NoError(t, err, "young ones may be somebody's work")
}

// While a version is published, again and again, readers see it whole or not
// at all.
func TestPublishIsAtomicForReaders(t *testing.T) {
	root := t.TempDir()
	reader := mlserve.NewDir(root)
	publish(t, reader, 0, nil)
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				vs, err := reader.Versions(bg, "m")
				if err != nil {
					t.Error(err)
					return
				}
				for _, v := range vs {
					files, m, err := reader.Open(bg, v)
					if err != nil || m.Version != v.Version {
						t.Errorf("open %v: %v, %v", v, m, err)
						return
					}
					if _, err := (numberLoader{}).Load(bg, files, m); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	var writers sync.WaitGroup
	for range 3 { // as three processes: each with a Dir of its own
		writers.Go(func() {
			dir := mlserve.NewDir(root)
			for i := 1; i <= 15; i++ {
				m := mlserve.Manifest{Model: "m", Version: fmt.Sprint(i)}
				if err := dir.Publish(bg, m, fstest.MapFS{"model.json": {Data: fmt.Append(nil, i)}}); err != nil {
					t.Error(err)
				}
				if err := dir.Alias(bg, "m", "champion", m.Version); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	wg.Wait()
	vs, err := reader.Versions(bg, "m")
	require.NoError(t, err)
	require.Len(t, vs, 16)
	entries, err := os.ReadDir(filepath.Join(root, "m"))
	require.NoError(t, err)
	require.Len(t, entries, 17, "16 versions and the aliases; nothing temporary is left")
}

func TestDirFollowsNoLinkOutOfAVersion(t *testing.T) {
	root := t.TempDir()
	dir := mlserve.NewDir(root)
	publish(t, dir, 1, nil)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "1")
	link := filepath.Join(root, "m", "1", "link")
	require.NoError(t, os.Symlink(secret, link))
	files, _, err := dir.Open(bg, mlserve.Version{Model: "m", Version: "1"})
	require.NoError(t, err)
	for _, name := range []string{"link", "../1/model.json", "/etc/hostname", "..", ""} {
		f, err := files.Open(name)
		require.Error(t, err, name)
		require.Nil(t, f)
	}
	// Nor does Publish take one in.
	err = dir.Publish(bg, mlserve.Manifest{Model: "m", Version: "2"}, os.DirFS(filepath.Join(root, "m", "1")))
	require.ErrorIs(t, err, mlserve.ErrInput)
	for _, name := range []string{"..", "../n", "a/b", ".hidden", "-rf", "", "a b", string(make([]byte, 200))} {
		require.ErrorIs(t, dir.Publish(bg, mlserve.Manifest{Model: "m", Version: name}, fstest.MapFS{"f": {}}), mlserve.ErrInput, "%q", name)
		require.ErrorIs(t, dir.Publish(bg, mlserve.Manifest{Model: name, Version: "1"}, fstest.MapFS{"f": {}}), mlserve.ErrInput, "%q", name)
		require.ErrorIs(t, dir.Alias(bg, "m", name, "1"), mlserve.ErrInput, "%q", name)
	}
	require.ErrorIs(t, dir.Publish(bg, mlserve.Manifest{Model: "m", Version: "2"}, fstest.MapFS{}), mlserve.ErrInput, "no files")
}

// A publish that fails half-way leaves nothing behind.
func TestFailedPublishLeavesNothing(t *testing.T) {
	root := t.TempDir()
	dir := mlserve.NewDir(root)
	err := dir.Publish(bg, mlserve.Manifest{Model: "m", Version: "1", Golden: []mlserve.Golden{{In: mlserve.Rows([]float64{math.Inf(1)})}}},
		fstest.MapFS{"model.json": {Data: []byte("1")}})
	require.ErrorIs(t, err, mlserve.ErrOutput)
	entries, err := os.ReadDir(filepath.Join(root, "m"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

// The manifest travels whole, golden cases with their bits.
func TestManifestRoundTrip(t *testing.T) {
	dir := mlserve.NewDir(t.TempDir())
	m := mlserve.Manifest{
		Model: "m", Version: "1", Code: "c0ffee", Data: "2011-08", Features: "f", Reference: "ref",
		Metadata: map[string]string{"auc": "0.7"},
		Golden: []mlserve.Golden{{Tolerance: 1e-9,
			In: mlserve.Batch{
				{Name: "a", Shape: []int{2, 2}, Data: []float32{0.1, -0, math.MaxFloat32, math.SmallestNonzeroFloat32}},
				{Name: "b", Shape: []int{2}, Data: []int64{math.MinInt64, math.MaxInt64}},
				{Name: "c", Shape: []int{2}, Data: []string{"é\"\n", ""}},
			},
			Out: mlserve.Batch{
				{Name: "d", Shape: []int{2}, Data: []float64{math.Pi, math.Nextafter(1, 2)}},
				{Name: "e", Shape: []int{2}, Data: []bool{true, false}},
				{Name: "f", Shape: []int{2}, Data: []int32{1, -1}},
			}}},
	}
	require.NoError(t, dir.Publish(bg, m, fstest.MapFS{"model.json": {Data: []byte("1")}, "ref": {Data: []byte("x")}}))
	_, got, err := dir.Open(bg, mlserve.Version{Model: "m", Version: "1"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"model.json": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
		"ref":        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
	}, got.SHA256)
	m.SHA256 = got.SHA256
	require.Equal(t, m, got)
}
