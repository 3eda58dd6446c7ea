package boltstore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/saga"
)

// The tests below kill a real process at each durable write of a saga and start
// another on the same file. The world is a log file to which each effect is
// appended with one write, so that it survives the kill as the far side of a
// real step does.

const (
	dirVariable  = "BOLTSTORE_TEST_DIR"
	killVariable = "BOLTSTORE_TEST_KILL" // "before 3", "after 3", or empty
	wayVariable  = "BOLTSTORE_TEST_WAY"  // "forward" or "back"
	writes       = 7                     // one more than the longer way has
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		if err := child(dir, os.Getenv(wayVariable), os.Getenv(killVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killer ends the process at a write.
type killer struct {
	*Store

	at string
	n  atomic.Int64
}

func (k *killer) kill(when string, n int64) {
	if k.at == fmt.Sprint(when, " ", n) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killer) Create(ctx context.Context, r saga.Record) error {
	n := k.n.Add(1)
	k.kill("before", n)
	err := k.Store.Create(ctx, r)
	k.kill("after", n)
	return err
}

func (k *killer) Commit(ctx context.Context, c []saga.Change) ([]error, error) {
	n := k.n.Add(1)
	k.kill("before", n)
	results, err := k.Store.Commit(ctx, c)
	k.kill("after", n)
	return results, err
}

type nothing struct{}

func effect(dir string) func(context.Context, saga.Call, nothing) (string, error) {
	return func(_ context.Context, c saga.Call, _ nothing) (string, error) {
		f, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return "", err
		}
		_, err = fmt.Fprintln(f, c.Step, c.Op, c.Key)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		return c.Step, err
	}
}

func definition(dir, way string) *saga.Definition[nothing] {
	do := effect(dir)
	undo := func(ctx context.Context, c saga.Call, s nothing, _ saga.Outcome[string]) error {
		_, err := do(ctx, c, s)
		return err
	}
	return saga.Define("killed", 1,
		saga.Before(saga.Undoable("one", do, undo, nil), saga.Undoable("two", do, undo, nil)),
		saga.Pivot("three", func(ctx context.Context, c saga.Call, s nothing) (string, error) {
			if way == "back" {
				return "", saga.Reject(nil)
			}
			return do(ctx, c, s)
		}, nil),
		saga.Retriable("four", do, nil),
	)
}

func child(dir, way, kill string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store, err := Open(ctx, filepath.Join(dir, "sagas.db"), nil)
	if err != nil {
		return err
	}
	d := definition(dir, way)
	r, err := saga.NewRunner(&killer{Store: store, at: kill}, nil, d)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	if err := d.Start(ctx, r, "1", nothing{}); err != nil {
		return err
	}
	began := time.Now()
	_, err = d.Wait(ctx, r, "1")
	fmt.Println("waited", time.Since(began).Milliseconds())
	if way == "forward" && err != nil {
		return err
	}
	stop()
	if err := <-ended; err != nil {
		return err
	}
	return store.Close(ctx)
}

func runChild(t *testing.T, dir, way, kill string) (out string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	// The race detector waits a second at each exit unless told otherwise.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", dirVariable+"="+dir, wayVariable+"="+way, killVariable+"="+kill)
	var b strings.Builder
	cmd.Stdout, cmd.Stderr = &b, &b
	err = cmd.Run()
	return b.String(), err
}

func TestKillAtEachWrite(t *testing.T) {
	for way, want := range map[string]saga.Status{"forward": saga.Completed, "back": saga.RolledBack} {
		var kills atomic.Int64
		t.Run(way, func(t *testing.T) { // returns when its parallel parts have
			for n := range 2 * writes {
				n, when := n/2+1, []string{"before", "after"}[n%2]
				t.Run(fmt.Sprintf("%s-%d", when, n), func(t *testing.T) {
					t.Parallel() // most of it waits for the disk
					dir := t.TempDir()
					kill := when + " " + strconv.Itoa(n)
					_, err := runChild(t, dir, way, kill)
					if err != nil {
						kills.Add(1)
						require.ErrorContains(t, err, "signal: killed")
						out, err := runChild(t, dir, way, "")
						require.NoError(t, err, out)
					}
					checkEnd(t, dir, way, want)
				})
			}
		})
		require.Equal(t, map[string]int64{"forward": 10, "back": 12}[way], kills.Load(), "one per write, before and after it: %s", way)
	}
}

// checkEnd compares what the store says with what the world says.
func checkEnd(t *testing.T, dir, way string, want saga.Status) {
	t.Helper()
	rec, err := open(t, filepath.Join(dir, "sagas.db"), nil).Load(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, want, rec.Status)

	f, err := os.Open(filepath.Join(dir, "effects"))
	require.NoError(t, err)
	defer f.Close()
	keys := map[string]string{}
	var order []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		step, rest, _ := strings.Cut(lines.Text(), " ")
		op, key, _ := strings.Cut(rest, " ")
		name := step + " " + op
		if old, ok := keys[name]; ok {
			require.Equal(t, old, key, "a repeated effect has the same key")
		} else {
			order = append(order, name)
		}
		keys[name] = key
	}
	wantOrder := []string{"one action", "two action", "three action", "four action"}
	if way == "back" {
		wantOrder = []string{"one action", "two action", "two compensation", "one compensation"}
	}
	require.Equal(t, wantOrder, order)
}
