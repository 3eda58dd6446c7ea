package rollout

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/saga"
)

// constant is a model that answers its version.
type constant struct {
	answer float64
	broken bool
}

func (c *constant) Signature() mlserve.Signature {
	return mlserve.Signature{
		Inputs:  []mlserve.TensorSpec{{Name: "x", Type: mlserve.Float64, Shape: []int{-1, 1}}},
		Outputs: []mlserve.TensorSpec{{Name: "y", Type: mlserve.Float64, Shape: []int{-1}}},
	}
}

var errBroken = errors.New("the model is broken")

func (c *constant) Predict(_ context.Context, in mlserve.Batch) (mlserve.Batch, error) {
	rows := in[0].Shape[0]
	if c.broken && in[0].Data.([]float64)[0] != 0 { // the warm-up row is zero
		return nil, errBroken
	}
	return mlserve.Batch{{Name: "y", Shape: []int{rows}, Data: slices.Repeat([]float64{c.answer}, rows)}}, nil
}

func (c *constant) Close() error { return nil }

// loader reads the answer from a file.
type loader struct{}

func (loader) Load(_ context.Context, files fs.FS, _ mlserve.Manifest) (mlserve.Model, error) {
	f, err := files.Open("answer")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	c := &constant{}
	switch n, err := fmt.Sscan(string(text), &c.answer); {
	case string(text) == "corrupt":
		return nil, fmt.Errorf("%w: corrupt", mlserve.ErrModelFile)
	case string(text) == "broken":
		c.broken = true
	case n != 1 || err != nil:
		return nil, fmt.Errorf("%w: %q", mlserve.ErrModelFile, text)
	}
	return c, nil
}

func files(answer string) fs.FS {
	return fstest.MapFS{"answer": {Data: []byte(answer)}}
}

// registry keeps versions in memory.
type registry struct {
	mu       sync.Mutex
	versions map[string]mlserve.Manifest
	contents map[string]fs.FS
	aliases  map[string]string
}

func newRegistry(t *testing.T) *registry {
	r := &registry{versions: map[string]mlserve.Manifest{}, contents: map[string]fs.FS{}, aliases: map[string]string{}}
	if err := r.Publish(context.Background(), mlserve.Manifest{Model: "ranker", Version: "1"}, files("1")); err != nil {
		t.Fatal(err)
	}
	r.aliases["champion"] = "1"
	return r
}

func (r *registry) Versions(context.Context, string) ([]mlserve.Version, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []mlserve.Version
	for _, v := range slices.Sorted(maps.Keys(r.versions)) {
		version := mlserve.Version{Model: "ranker", Version: v}
		for _, a := range slices.Sorted(maps.Keys(r.aliases)) {
			if r.aliases[a] == v {
				version.Aliases = append(version.Aliases, a)
			}
		}
		out = append(out, version)
	}
	return out, nil
}

func (r *registry) Open(_ context.Context, v mlserve.Version) (fs.FS, mlserve.Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.versions[v.Version]
	if !ok {
		return nil, m, mlserve.ErrNotFound
	}
	return r.contents[v.Version], m, nil
}

func (r *registry) Publish(_ context.Context, m mlserve.Manifest, files fs.FS) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, err := fs.ReadFile(files, "answer")
	if err != nil {
		return err
	}
	full := m
	full.SHA256 = map[string]string{"answer": fmt.Sprintf("%x", sha256.Sum256(answer))}
	if old, ok := r.versions[m.Version]; ok && !maps.Equal(old.SHA256, full.SHA256) {
		return mlserve.ErrConflict
	}
	r.versions[m.Version] = full
	r.contents[m.Version] = fstest.MapFS{"answer": {Data: answer}}
	return nil
}

func (r *registry) Alias(_ context.Context, _, alias, version string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version == "" {
		delete(r.aliases, alias)
		return nil
	}
	r.aliases[alias] = version
	return nil
}

// scripted is a judge that says what it is told.
type scripted struct{ decision mlserve.Decision }

func (s *scripted) Observe(mlserve.Outcome) {}
func (s *scripted) Verdict() mlserve.Verdict {
	return mlserve.Verdict{Decision: s.decision, Evidence: []mlserve.Evidence{{Metric: "errors", Keys: 7}}}
}

// world is a server over a registry, and a plan for them.
type world struct {
	t        *testing.T
	registry mlserve.Registry
	server   *mlserve.Server
	plan     Plan
	trained  map[string]bool // by idempotency key: what Train left behind
	answer   string          // of the candidate's file
	decision mlserve.Decision
	policy   mlserve.Policy
}

func newWorld(t *testing.T, reg mlserve.Registry) *world {
	w := &world{t: t, registry: reg, trained: map[string]bool{}, answer: "2", decision: mlserve.Promote}
	w.boot()
	w.plan = Plan{
		Model:    "ranker",
		Registry: reg,
		Train: func(_ context.Context, c saga.Call, cause string) (Candidate, error) {
			w.trained[c.Saga] = true
			return Candidate{Manifest: mlserve.Manifest{Version: "2", Data: cause}, Location: "candidate"}, nil
		},
		Forget: func(_ context.Context, c saga.Call, _ Candidate) error {
			delete(w.trained, c.Saga)
			return nil
		},
		Open:   func(Candidate) (fs.FS, error) { return files(w.answer), nil },
		Shadow: Stage{For: 10 * time.Second},
		Canary: []Stage{{Share: 0.1, For: 20 * time.Second}, {Share: 0.5, For: 20 * time.Second}},
		Judge:  func() mlserve.Judge { return &scripted{w.decision} },
	}
	return w
}

// boot makes a server as a new process has it.
func (w *world) boot() {
	w.server = mlserve.New(nil)
	policy := w.policy
	if policy == nil {
		policy = mlserve.Alias("champion", "challenger")
	}
	require.NoError(w.t, w.server.Add(context.Background(), "ranker", w.registry, loader{}, &mlserve.ModelOptions{Policy: policy}))
}

func (w *world) definition() *saga.Definition[State] {
	p := w.plan
	p.Server = w.server
	return Define("rollout", 1, p)
}

// agree says whether alias, served version, traffic and history are one.
func (w *world) agree(status saga.Status, s State) error {
	champion, challenger := w.alias("champion"), w.alias("challenger")
	want := "1"
	switch status {
	case saga.Completed:
		want = "2"
		if s.Candidate.Manifest.Version != "2" || s.Previous != "1" || s.Stage != len(w.plan.Canary) {
			return fmt.Errorf("completed with state %+v", s)
		}
		if len(w.trained) != 1 {
			return fmt.Errorf("completed, and what was trained is %v", w.trained)
		}
	case saga.RolledBack:
		if len(w.trained) != 0 {
			return fmt.Errorf("rolled back, and what was trained is still there: %v", w.trained)
		}
	default:
		return nil // parked: between two states by definition
	}
	primary := w.server.Loaded("ranker")[0].Version
	traffic := w.server.Traffic("ranker")
	switch {
	case champion != want, primary != want:
		return fmt.Errorf("%v, and the champion is %q, the primary %q; want %q", status, champion, primary, want)
	case challenger != "":
		return fmt.Errorf("%v, and the challenger is %q", status, challenger)
	case len(traffic.Arms)+len(traffic.Shadow) != 0 || traffic.Judge != nil:
		return fmt.Errorf("%v, and the traffic is split: %+v", status, traffic)
	}
	return nil
}

func (w *world) alias(name string) string {
	versions, err := w.registry.Versions(context.Background(), "ranker")
	if err != nil {
		return err.Error()
	}
	for _, v := range versions {
		if slices.Contains(v.Aliases, name) {
			return v.Version
		}
	}
	return ""
}

// seed makes a registry on disk with the first champion.
func seed(t *testing.T, dir string) *mlserve.Dir {
	t.Helper()
	d := mlserve.NewDir(filepath.Join(dir, "models"))
	require.NoError(t, d.Publish(t.Context(), mlserve.Manifest{Model: "ranker", Version: "1"}, files("1")))
	require.NoError(t, d.Alias(t.Context(), "ranker", "champion", "1"))
	return d
}
