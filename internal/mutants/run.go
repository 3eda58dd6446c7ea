package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// test is a top-level test, example or fuzz target, and how it was without a
// mutant.
type test struct {
	name      string
	cpu, wall time.Duration
	seen      []byte // by mutant: 1 if the test comes by it
}

type runner struct {
	options
	dir, tmp string // of the package; for files
}

// result is how a run of some tests ended.
type result struct {
	passed, late bool
	cpu, wall    time.Duration
	output       string
}

// run runs tests with a mutant on, or none if it is negative. A limit that a
// busy machine might set off is no limit: what computes without end is stopped
// by the processor's time, and the clock is only for what waits without end.
// Where all goroutines wait, Go itself ends them, for there is no -test.timeout.
func (r runner) run(ctx context.Context, binary string, mutant int, seen string, tests []*test) (result, error) {
	var names []string
	var cpu, wall time.Duration
	for _, t := range tests {
		names = append(names, t.name)
		cpu += t.cpu
		wall += t.wall
	}
	cpu, wall = 5*cpu+r.cpu, 20*wall+r.timeout
	seconds := int((cpu + time.Second - 1) / time.Second)
	ctx, cancel := context.WithTimeout(ctx, wall)
	defer cancel()
	args := append([]string{
		"-c", `ulimit -t "$0"; ulimit -v 8388608; exec "$@"`, strconv.Itoa(seconds),
		binary, "-test.failfast", "-test.timeout=0",
	}, r.args...)
	args = append(args, "-test.run=^("+strings.Join(names, "|")+")$")
	//nolint:gosec // the command that the tool is for
	c := exec.CommandContext(ctx, "sh", args...)
	c.Dir = r.dir
	c.WaitDelay = 10 * time.Second // for what a test has started and left
	c.Env = append(os.Environ(), fmt.Sprint("MUTANTS_ON=", mutant), "MUTANTS_SEEN="+seen)
	said := &head{left: 64 << 10}
	c.Stdout, c.Stderr = said, said
	start := time.Now()
	err := c.Run()
	res := result{passed: err == nil, wall: time.Since(start), output: said.String()}
	if c.ProcessState != nil {
		res.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		// By a signal, which is what the limit of the processor's time is.
		res.late = c.ProcessState.ExitCode() < 0
	}
	res.late = res.late || errors.Is(ctx.Err(), context.DeadlineExceeded)
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) || res.late {
		return res, nil
	}
	return res, err
}

// head keeps the beginning of what is written to it.
type head struct {
	strings.Builder
	left int
}

func (h *head) Write(p []byte) (int, error) {
	kept, err := h.Builder.Write(p[:min(len(p), h.left)])
	h.left -= kept
	return len(p), err
}

var _ io.Writer = (*head)(nil)

// record runs each test by itself, without a mutant, and returns those that
// pass. What runs before the tests, counts for each.
func (r runner) record(ctx context.Context, binary string, mutants int, progress io.Writer) ([]*test, error) {
	//nolint:gosec // the command that the tool is for
	list := exec.CommandContext(ctx, binary, append([]string{"-test.list=^(Test|Example|Fuzz)"}, r.args...)...)
	list.Dir = r.dir
	said, err := list.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the tests cannot be listed: %w\n%s", err, said)
	}
	var all []*test
	for name := range strings.FieldsSeq(string(said)) {
		if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example") || strings.HasPrefix(name, "Fuzz") {
			all = append(all, &test{name: name, cpu: 10 * time.Minute, wall: 10 * time.Minute})
		}
	}
	passed := make([]bool, len(all))
	err = parallel(ctx, r.workers, len(all), func(ctx context.Context, i int) error {
		t := all[i]
		seen := filepath.Join(r.tmp, t.name+".seen")
		if err := os.WriteFile(seen, make([]byte, mutants), 0o600); err != nil {
			return err
		}
		defer func() { _ = os.Remove(seen) }()
		res, err := r.run(ctx, binary, -1, seen, []*test{t})
		if err != nil {
			return err
		}
		t.cpu, t.wall, passed[i] = res.cpu, res.wall, res.passed
		t.seen, err = os.ReadFile(seen)
		if err == nil && !res.passed {
			// What counts allocations may have counted those of the recording.
			res, err = r.run(ctx, binary, -1, "", []*test{t})
			passed[i] = res.passed
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var tests []*test
	for i, t := range all {
		if passed[i] {
			tests = append(tests, t)
			continue
		}
		fmt.Fprintf(progress, "mutants: %s is left out: it fails without a mutant, in the rewritten package\n", t.name)
	}
	if len(tests) == 0 {
		return nil, errors.New("no test passes without a mutant")
	}
	return tests, nil
}
