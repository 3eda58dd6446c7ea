package mlserve_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
	"github.com/mainstay-go/mainstay/mlserve"
)

// load predicts from several goroutines until stop, and counts what must not
// be: errors, and answers that are not wholly the version's that is named.
func load(s *mlserve.Server, stop <-chan struct{}) (wait func() (requests, errs, mixed int64, first error)) {
	var wg sync.WaitGroup
	var requests, errs, mixed atomic.Int64
	var first atomic.Pointer[error]
	for g := range 4 {
		wg.Go(func() {
			in := rows(3 + g)
			for {
				select {
				case <-stop:
					return
				default:
				}
				runtime.Gosched() // the swaps want the processor, too
				requests.Add(1)
				resp, err := s.Predict(bg, "m", mlserve.Request{Input: in})
				if err != nil {
					errs.Add(1)
					first.CompareAndSwap(nil, &err)
					continue
				}
				for _, v := range resp.Output[0].Data.([]float64) {
					if fmt.Sprint(v) != resp.Version {
						mixed.Add(1)
					}
				}
			}
		})
	}
	return func() (int64, int64, int64, error) {
		wg.Wait()
		var err error
		if p := first.Load(); p != nil {
			err = *p
		}
		return requests.Load(), errs.Load(), mixed.Load(), err
	}
}

func TestSwapsUnderLoadDropNothing(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	swaps := 3000
	if os.Getenv("MAINSTAY_SOAK") != "" {
		swaps = 30_000
	}
	s := mlserve.New(nil)
	misuse := new(atomic.Int32)
	versions := make([]*versioned, swaps)
	for i := range versions {
		versions[i] = newVersioned(float64(i))
		versions[i].misuse = misuse
	}
	require.NoError(t, s.AddModel("m", "0", versions[0], nil))
	stop := make(chan struct{})
	wait := load(s, stop)
	for i := 1; i < swaps; i++ {
		require.NoError(t, s.AddModel("m", fmt.Sprint(i), versions[i], nil))
	}
	close(stop)
	requests, errs, mixed, first := wait()
	t.Logf("%d swaps, %d requests", swaps, requests)
	require.NoError(t, first)
	require.Zero(t, errs)
	require.Zero(t, mixed)
	require.Zero(t, misuse.Load(), "used after Close")
	for _, v := range versions[:swaps-1] {
		require.EqualValues(t, 1, v.closes.Load(), "each old version is closed once")
	}
	require.Zero(t, versions[swaps-1].closes.Load())
}

func TestSwapsFromADirectoryUnderLoad(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	dir := mlserve.NewDir(t.TempDir())
	publish(t, dir, 0, nil)
	misuse := new(atomic.Int32)
	s := mlserve.New(nil)
	require.NoError(t, s.Add(bg, "m", dir, numberLoader{misuse: misuse}, nil))
	stop := make(chan struct{})
	wait := load(s, stop)
	for i := 1; i <= 40; i++ {
		publish(t, dir, i, nil)
		if i%4 == 0 { // a version that cannot be loaded, in the middle of it all
			require.NoError(t, dir.Publish(bg, mlserve.Manifest{Model: "m", Version: fmt.Sprintf("%d.bad", i)},
				fstest.MapFS{"model.json": {Data: []byte("not a number")}}))
			require.ErrorIs(t, s.Refresh(bg, "m"), mlserve.ErrModelFile)
			continue
		}
		require.NoError(t, s.Refresh(bg, "m"))
		require.Equal(t, fmt.Sprint(i), s.Loaded("m")[0].Version)
	}
	close(stop)
	requests, errs, mixed, first := wait()
	t.Logf("%d requests", requests)
	require.NoError(t, first)
	require.Zero(t, errs)
	require.Zero(t, mixed)
	require.Zero(t, misuse.Load())
}

// Whatever is wrong with a version, the one that serves goes on to serve, and
// what was loaded of the bad one is closed.
func TestFailedLoadLeavesTheOldServing(t *testing.T) {
	other := twoColumns()
	other.Inputs[0].Shape = []int{-1, 3}
	other.Inputs[0].Columns = nil
	missing := fmt.Sprintf("%064d", 0)
	for name, c := range map[string]struct {
		change   func(*versioned) (mlserve.Model, error)
		manifest func(*mlserve.Manifest)
		spoil    func(t *testing.T, version string)
		is       error
		says     string
	}{
		"loader fails":     {change: func(*versioned) (mlserve.Model, error) { return nil, errBroken }, is: errBroken},
		"loader panics":    {change: func(*versioned) (mlserve.Model, error) { panic("index out of range") }, says: "index out of range"},
		"no model":         {change: func(*versioned) (mlserve.Model, error) { return nil, nil }, is: mlserve.ErrModelFile},
		"other signature":  {change: func(v *versioned) (mlserve.Model, error) { v.sig = other; return v, nil }, says: "the serving version has"},
		"broken signature": {change: func(v *versioned) (mlserve.Model, error) { v.sig.Outputs = nil; return v, nil }, is: mlserve.ErrModelFile},
		"warm-up panics": {change: func(*versioned) (mlserve.Model, error) {
			a := newAnswering(func(context.Context, mlserve.Batch) (mlserve.Batch, error) { panic("nil map") })
			return a, nil
		}, says: "warm-up"},
		"breaks its signature": {change: func(*versioned) (mlserve.Model, error) {
			return newAnswering(func(context.Context, mlserve.Batch) (mlserve.Batch, error) {
				return mlserve.Batch{{Name: "y", Shape: []int{2}, Data: []float64{1, 2}}}, nil
			}), nil
		}, is: mlserve.ErrOutput},
		"golden case": {manifest: func(m *mlserve.Manifest) {
			m.Golden = []mlserve.Golden{{In: rows(1), Out: mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float64{2.001}}}, Tolerance: 1e-4}}
		}, says: "golden case 0"},
		"features":  {manifest: func(m *mlserve.Manifest) { m.Features = "other" }, says: `trained on features "other"`},
		"checksum":  {spoil: func(t *testing.T, d string) { write(t, d+"/model.json", "7") }, says: "sha256"},
		"file gone": {spoil: func(t *testing.T, d string) { require.NoError(t, os.Remove(d+"/model.json")) }, is: fs.ErrNotExist},
		"manifest":  {spoil: func(t *testing.T, d string) { write(t, d+"/manifest.json", "{") }, is: mlserve.ErrModelFile},
		"manifest of another": {spoil: func(t *testing.T, d string) {
			write(t, d+"/manifest.json", `{"model":"m","version":"9","sha256":{"model.json":"`+missing+`"}}`)
		}, says: "m@9"},
		"no checksums": {spoil: func(t *testing.T, d string) {
			write(t, d+"/manifest.json", `{"model":"m","version":"2","features":"f1"}`)
		}, says: "lists no files"},
		"path escapes": {spoil: func(t *testing.T, d string) {
			write(t, d+"/manifest.json", `{"model":"m","version":"2","sha256":{"../1/model.json":"`+missing+`"}}`)
		}, is: mlserve.ErrModelFile},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := mlserve.NewDir(root)
			features := func(m *mlserve.Manifest) { m.Features = "f1" }
			publish(t, dir, 1, features)
			var loaded []*versioned
			var change func(*versioned) (mlserve.Model, error)
			loader := numberLoader{loaded: &loaded, change: func(v *versioned) (mlserve.Model, error) {
				if change == nil {
					return v, nil
				}
				return change(v)
			}}
			served := 0
			s := mlserve.New(nil)
			require.NoError(t, s.Add(bg, "m", dir, loader, &mlserve.ModelOptions{
				Features: "f1",
				Serving:  func(context.Context, fs.FS, mlserve.Manifest) error { served++; return nil },
			}))
			change = c.change
			publish(t, dir, 2, func(m *mlserve.Manifest) {
				features(m)
				if c.manifest != nil {
					c.manifest(m)
				}
			})
			if c.spoil != nil {
				c.spoil(t, filepath.Join(root, "m", "2"))
			}
			for _, err := range []error{s.Load(bg, "m", "2"), s.Refresh(bg, "m")} {
				require.Error(t, err)
				require.Contains(t, err.Error(), c.says)
				require.Contains(t, err.Error(), "m@2")
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				}
			}
			got, resp := answer(t, s, "")
			require.InDelta(t, 1, got, 0)
			require.Equal(t, "1", resp.Version)
			require.NoError(t, s.Health(bg))
			require.Len(t, s.Loaded("m"), 1)
			require.Equal(t, 1, served)
			require.False(t, loaded[0].closed.Load())
			if len(loaded) > 1 && c.change == nil {
				require.True(t, loaded[1].closed.Load(), "a refused version is closed")
			}
		})
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
}

func TestGoldenCasesWithinTolerance(t *testing.T) {
	dir := mlserve.NewDir(t.TempDir())
	publish(t, dir, 2, func(m *mlserve.Manifest) {
		m.Golden = []mlserve.Golden{
			{In: rows(2), Out: mlserve.Batch{{Name: "y", Shape: []int{2}, Data: []float64{2, 2}}}},
			{In: rows(1), Out: mlserve.Batch{{Name: "y", Shape: []int{1}, Data: []float64{2.001}}}, Tolerance: 1e-3},
		}
	})
	require.NoError(t, mlserve.New(nil).Add(bg, "m", dir, numberLoader{}, nil))
}

func TestAddSaysWhyNothingServes(t *testing.T) {
	s := mlserve.New(nil)
	dir := mlserve.NewDir(t.TempDir())
	require.ErrorIs(t, s.Add(bg, "m", dir, numberLoader{}, nil), mlserve.ErrNotFound)
	publish(t, dir, 1, nil)
	require.ErrorIs(t, s.Add(bg, "m", dir, numberLoader{}, &mlserve.ModelOptions{Policy: mlserve.Alias("champion")}), mlserve.ErrNotReady)
	refuse := func(context.Context, fs.FS, mlserve.Manifest) error { return errBroken }
	require.ErrorIs(t, s.Add(bg, "m", dir, numberLoader{}, &mlserve.ModelOptions{Serving: refuse}), errBroken)
	require.ErrorIs(t, s.Add(bg, "../m", dir, numberLoader{}, nil), mlserve.ErrInput)
	_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(1)})
	require.ErrorIs(t, err, mlserve.ErrNotFound, "a model that was refused is not there")
	require.ErrorIs(t, s.Health(bg), mlserve.ErrNotReady)
	require.NoError(t, s.Add(bg, "m", dir, numberLoader{}, nil), "and can be added again")
	require.ErrorIs(t, s.Add(bg, "m", dir, numberLoader{}, nil), mlserve.ErrConflict)
	e, ok := errors.AsType[*mlserve.Error](s.Load(bg, "m", "5"))
	require.True(t, ok)
	require.Equal(t, "m", e.Model)
	require.Equal(t, "5", e.Version)
	require.ErrorIs(t, e, mlserve.ErrNotFound)
}

// A pin outlives the swap and the drain: the version is closed by its last
// user, not underneath it.
func TestDrainTimeoutDetaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(&mlserve.Options{Drain: 3 * time.Second})
		first := newVersioned(1)
		require.NoError(t, s.AddModel("m", "1", first, nil))
		pin, err := s.Acquire("m", "")
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, s.AddModel("m", "2", newVersioned(2), nil))
		require.Equal(t, 3*time.Second, time.Since(start))
		got, _ := answer(t, s, "")
		require.InDelta(t, 2, got, 0)
		_, err = s.Acquire("m", "1")
		require.ErrorIs(t, err, mlserve.ErrNotFound)
		require.False(t, first.closed.Load())
		out, err := pin.Predict(bg, rows(2))
		require.NoError(t, err)
		require.Equal(t, []float64{1, 1}, out[0].Data)
		pin.Release()
		pin.Release()
		require.True(t, first.closed.Load())
		require.EqualValues(t, 1, first.closes.Load())
		_, err = pin.Predict(bg, rows(2))
		require.ErrorIs(t, err, mlserve.ErrNotReady)
		require.Zero(t, first.misuse.Load())
	})
}

// The swap waits for the request, and ends as soon as it does.
func TestDrainWaitsForTheLastRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mlserve.New(nil)
		slow := newAnswering(nil)
		calls := 0
		slow.f = func(ctx context.Context, in mlserve.Batch) (mlserve.Batch, error) {
			if calls++; calls > 3 { // not while warming up
				time.Sleep(700 * time.Millisecond)
			}
			return slow.versioned.Predict(ctx, in)
		}
		require.NoError(t, s.AddModel("m", "1", slow, nil))
		done := make(chan mlserve.Response)
		go func() {
			resp, _ := s.Predict(bg, "m", mlserve.Request{Input: rows(1)})
			done <- resp
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.AddModel("m", "2", newVersioned(2), nil))
		require.Equal(t, 700*time.Millisecond, time.Since(start))
		require.Equal(t, "1", (<-done).Version)
		require.True(t, slow.closed.Load())
		require.Zero(t, slow.misuse.Load())
	})
}

func TestRunPollsSwapsAndRetriesTheHook(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		dir := mlserve.NewDir(root)
		publish(t, dir, 1, nil)
		var hooks []string
		broken := true
		s := mlserve.New(&mlserve.Options{Poll: time.Second})
		var loaded []*versioned
		require.NoError(t, s.Add(bg, "m", dir, numberLoader{loaded: &loaded}, &mlserve.ModelOptions{
			Serving: func(_ context.Context, files fs.FS, m mlserve.Manifest) error {
				_, err := fs.ReadFile(files, "model.json")
				require.NoError(t, err)
				hooks = append(hooks, m.Version)
				if m.Version == "2" && broken {
					broken = false
					return errBroken
				}
				return nil
			},
		}))
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		publish(t, dir, 2, nil)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		got, _ := answer(t, s, "")
		require.InDelta(t, 2, got, 0)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"1", "2", "2"}, hooks)
		require.True(t, loaded[0].closed.Load())
		cancel()
		require.NoError(t, <-ended)
		require.True(t, loaded[1].closed.Load(), "Run closes what it ends with")
		_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(1)})
		require.ErrorIs(t, err, mlserve.ErrNotReady)
		require.ErrorIs(t, s.AddModel("n", "1", newVersioned(1), nil), mlserve.ErrNotReady)
	})
}

// A version that fails is not loaded again at every poll.
func TestFailingVersionIsTriedLessAndLess(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		dir := mlserve.NewDir(root)
		publish(t, dir, 1, nil)
		tries := 0
		s := mlserve.New(&mlserve.Options{Poll: time.Second})
		require.NoError(t, s.Add(bg, "m", dir, numberLoader{change: func(v *versioned) (mlserve.Model, error) {
			if v.number == 1 {
				return v, nil
			}
			tries++
			return nil, errBroken
		}}, nil))
		publish(t, dir, 2, nil)
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, 5, tries) // after 1, 3, 7, 15 and 31 seconds
	})
}

func TestPoliciesAndAliases(t *testing.T) {
	dir := mlserve.NewDir(t.TempDir())
	for _, v := range []int{9, 10, 1} {
		publish(t, dir, v, nil)
	}
	require.NoError(t, dir.Alias(bg, "m", "champion", "9"))
	require.NoError(t, dir.Alias(bg, "m", "challenger", "10"))
	loaded := func(p mlserve.Policy) (out []string) {
		s := mlserve.New(nil)
		require.NoError(t, s.Add(bg, "m", dir, numberLoader{}, &mlserve.ModelOptions{Policy: p}))
		for _, v := range s.Loaded("m") {
			out = append(out, v.Version)
		}
		return out
	}
	require.Equal(t, []string{"10"}, loaded(nil))
	require.Equal(t, []string{"10", "9"}, loaded(mlserve.Latest(2)))
	require.Equal(t, []string{"10", "9", "1"}, loaded(mlserve.All()))
	require.Equal(t, []string{"1", "9"}, loaded(mlserve.Only("1", "7", "9")))
	require.Equal(t, []string{"9", "10"}, loaded(mlserve.Alias("champion", "none", "challenger", "champion")))
}

// The life of a version in a rollout: loaded without traffic, split in,
// promoted, and the old one gone when nothing names it any more.
func TestLoadSplitPromote(t *testing.T) {
	dir := mlserve.NewDir(t.TempDir())
	publish(t, dir, 1, nil)
	require.NoError(t, dir.Alias(bg, "m", "champion", "1"))
	var loaded []*versioned
	s := mlserve.New(nil)
	require.NoError(t, s.Add(bg, "m", dir, numberLoader{loaded: &loaded}, &mlserve.ModelOptions{Policy: mlserve.Alias("champion")}))
	publish(t, dir, 2, nil)
	require.ErrorIs(t, s.Split("m", mlserve.Traffic{Arms: []mlserve.Arm{{Version: "2", Weight: 1}}}), mlserve.ErrNotFound)
	for range 2 {
		require.NoError(t, s.Load(bg, "m", "2"))
	}
	require.Len(t, loaded, 2)
	require.NoError(t, s.Refresh(bg, "m"))
	require.Len(t, s.Loaded("m"), 2, "a refresh keeps what Load holds")
	got, resp := answer(t, s, "k")
	require.InDelta(t, 1, got, 0)
	require.Equal(t, "primary", resp.Arm)
	require.InDelta(t, 1, resp.Propensity, 0)

	split := mlserve.Traffic{Arms: []mlserve.Arm{{Name: "stable", Weight: 0.5}, {Name: "canary", Version: "2", Weight: 0.5}}}
	require.NoError(t, s.Split("m", split))
	require.Equal(t, split, s.Traffic("m"))
	seen := map[string]float64{}
	for i := range 50 {
		got, resp := answer(t, s, fmt.Sprint(i))
		seen[resp.Arm] = got
		require.InDelta(t, 0.5, resp.Propensity, 0)
	}
	require.Equal(t, map[string]float64{"stable": 1, "canary": 2}, seen)

	require.NoError(t, dir.Alias(bg, "m", "champion", "2"))
	require.NoError(t, s.Refresh(bg, "m"))
	require.Equal(t, []string{"champion"}, s.Loaded("m")[0].Aliases)
	require.NoError(t, s.Split("m", mlserve.Traffic{}))
	got, _ = answer(t, s, "k")
	require.InDelta(t, 2, got, 0)
	require.True(t, loaded[0].closed.Load())
	require.False(t, loaded[1].closed.Load())

	publish(t, dir, 3, nil)
	require.NoError(t, s.Load(bg, "m", "3"))
	require.NoError(t, s.Split("m", mlserve.Traffic{}), "a rollback lets go of the candidate")
	require.True(t, loaded[2].closed.Load())
	require.Len(t, s.Loaded("m"), 1)
}
