package rollout

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/boltstore"
)

const (
	dirVariable  = "ROLLOUT_TEST_DIR"
	killVariable = "ROLLOUT_TEST_KILL" // "before 3", "after 3", or empty
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		if err := child(dir, os.Getenv(killVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killer ends the process at a write.
type killer struct {
	saga.Store

	at string
	n  atomic.Int64
}

func (k *killer) kill(when string, n int64) {
	if k.at == fmt.Sprint(when, " ", n) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killer) Commit(ctx context.Context, c []saga.Change) ([]error, error) {
	n := k.n.Add(1)
	k.kill("before", n)
	results, err := k.Store.Commit(ctx, c)
	k.kill("after", n)
	return results, err
}

func child(dir, kill string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	models := mlserve.NewDir(filepath.Join(dir, "models"))
	server := mlserve.New(nil)
	if err := server.Add(ctx, "ranker", models, loader{}, &mlserve.ModelOptions{Policy: mlserve.Alias("champion")}); err != nil {
		return err
	}
	d := Define("rollout", 1, Plan{
		Model: "ranker", Server: server, Registry: models,
		Train: func(context.Context, saga.Call, string) (Candidate, error) {
			return Candidate{Manifest: mlserve.Manifest{Version: "2"}}, nil
		},
		Open:   func(Candidate) (fs.FS, error) { return files("2"), nil },
		Shadow: Stage{For: 20 * time.Millisecond},
		Canary: []Stage{{Share: 0.5, For: 20 * time.Millisecond}},
	})
	store, err := boltstore.Open(ctx, filepath.Join(dir, "sagas.db"), nil)
	if err != nil {
		return err
	}
	r, err := saga.NewRunner(&killer{Store: store, at: kill}, nil, d)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	if err := d.Start(ctx, r, "1", State{}); err != nil {
		return err
	}
	if _, err := d.Wait(ctx, r, "1"); err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	if tr := server.Traffic("ranker"); len(tr.Arms)+len(tr.Shadow) > 0 || server.Loaded("ranker")[0].Version != "2" {
		return fmt.Errorf("served: %+v, traffic %+v", server.Loaded("ranker"), tr)
	}
	return store.Close(ctx)
}

// A process is killed around the pivot, and with MAINSTAY_SOAK set at every
// durable write; the next one finishes, and what the files say agrees.
func TestKill(t *testing.T) {
	kills := []string{"before 6", "after 6", "before 7"}
	if os.Getenv("MAINSTAY_SOAK") != "" {
		kills = nil
		for n := 1; n <= 8; n++ {
			kills = append(kills, fmt.Sprint("before ", n), fmt.Sprint("after ", n))
		}
	}
	for _, kill := range kills {
		t.Run(kill, func(t *testing.T) {
			dir := t.TempDir()
			seed(t, dir)
			run := func(kill string) (string, error) {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
				// The race detector waits a second at each exit unless told otherwise.
				cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", dirVariable+"="+dir, killVariable+"="+kill)
				var b strings.Builder
				cmd.Stdout, cmd.Stderr = &b, &b
				err := cmd.Run()
				return b.String(), err
			}
			out, err := run(kill)
			require.ErrorContains(t, err, "signal: killed", out)
			out, err = run("")
			require.NoError(t, err, out)

			store, err := boltstore.Open(t.Context(), filepath.Join(dir, "sagas.db"), nil)
			require.NoError(t, err)
			defer func() { require.NoError(t, store.Close(t.Context())) }()
			rec, err := store.Load(t.Context(), "1")
			require.NoError(t, err)
			require.Equal(t, saga.Completed, rec.Status)
			versions, err := mlserve.NewDir(filepath.Join(dir, "models")).Versions(t.Context(), "ranker")
			require.NoError(t, err)
			aliases := map[string]string{}
			for _, v := range versions {
				aliases[v.Version] = strings.Join(v.Aliases, " ")
			}
			require.Equal(t, map[string]string{"1": "", "2": "champion"}, aliases)
		})
	}
}
