package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What becomes of each mutant of testdata/guards was written by hand.
func TestMutants(t *testing.T) {
	want, err := os.ReadFile("testdata/guards.txt")
	require.NoError(t, err)
	var list strings.Builder
	for line := range strings.Lines(string(want)) {
		for _, s := range []string{killed, lived, timedOut, notViable} {
			line = strings.Replace(line, s, "RUNNABLE", 1)
		}
		list.WriteString(line)
	}
	name := filepath.Join(t.TempDir(), "list")
	require.NoError(t, os.WriteFile(name, []byte("Starting...\n"+list.String()+"\nRunnable: 53\n"), 0o600))

	for _, o := range []options{{workers: 2}, {workers: 1, all: true}} {
		o.list, o.dir, o.timeout, o.cpu = name, "testdata/guards", 30*time.Second, time.Second
		var out, progress bytes.Buffer
		require.NoError(t, run(t.Context(), o, &out, &progress))
		require.Equal(t, string(want), out.String())
		require.Contains(t, progress.String(), "TestLeftOut is left out")
		require.Contains(t, progress.String(), "6 tests, 48 mutants in one binary, 4 built by themselves, 3 not run")
	}
}

func TestListOfAnotherVersion(t *testing.T) {
	for line, says := range map[string]string{
		"RUNNABLE INVERT_LOGICAL at guards.go:1:1":       "no such operator",
		"RUNNABLE INVERT_LOGICAL at guards.go:22:19":     "no such operator",
		"RUNNABLE INVERT_LOOPCTRL at guards.go:22:19":    "not an operation",
		"ERROR: impossible to executeCoverage coverage:": "lists no mutants",
	} {
		name := filepath.Join(t.TempDir(), "list")
		require.NoError(t, os.WriteFile(name, []byte(line+"\n"), 0o600))
		err := run(t.Context(), options{list: name, dir: "testdata/guards", workers: 1}, &bytes.Buffer{}, &bytes.Buffer{})
		require.ErrorContains(t, err, says, line)
	}
}
