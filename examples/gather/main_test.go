package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// quick are flags for a run of a moment.
var quick = []string{"-tasks", "40", "-most", "16", "-capacity", "4", "-answer", "100us", "-compute", "100us"}

func call(args ...string) (code int, out, problems string) {
	var o, p bytes.Buffer
	code = run(args, &o, &p)
	return code, o.String(), p.String()
}

func TestShortRun(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	svg := filepath.Join(t.TempDir(), "curve.svg")
	code, out, problems := call(append(quick, "-svg", svg)...)
	require.Equal(t, exitDone, code, problems)
	require.Empty(t, problems)

	ways := regexp.MustCompile(`(?m)^ *(waiting|computing) +(one after the other|all at once|\d+ at a time) +(\d+) .*$`).FindAllStringSubmatch(out, -1)
	require.Len(t, ways, 6, out)
	cores := runtime.GOMAXPROCS(0)
	for i, want := range []struct {
		work, how string
		most      int
	}{
		{"waiting", "one after the other", 1},
		{"waiting", "all at once", 40},
		{"waiting", "4 at a time", 4},
		{"computing", "one after the other", 1},
		{"computing", "all at once", 40},
		{"computing", strconv.Itoa(cores) + " at a time", cores},
	} {
		require.Equal(t, []string{want.work, want.how}, ways[i][1:3])
		peak, err := strconv.Atoi(ways[i][3])
		require.NoError(t, err)
		require.LessOrEqual(t, peak, want.most, ways[i][0])
		require.Positive(t, peak)
	}
	// The width of each column is that of every line: it is aligned.
	require.Equal(t, utf8.RuneCountInString(ways[0][0]), utf8.RuneCountInString(ways[5][0]))

	points := regexp.MustCompile(`(?m)^ *(\d+) +\d+ +\S+s +\d+ +\S+s$`).FindAllStringSubmatch(out, -1)
	limits := make([]string, 0, len(points))
	for _, p := range points {
		limits = append(limits, p[1])
	}
	require.Equal(t, []string{"1", "2", "4", "8", "16"}, limits, out)
	require.Contains(t, out, "drawn to "+svg)

	// Two panels, each with two lines of five points.
	picture, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(picture), "<polyline "))
	require.Equal(t, 20, strings.Count(string(picture), "<circle "))
}

// All ways give the same results, in order, each task once.
func TestWaysAgree(t *testing.T) {
	const tasks = 60
	for _, w := range []work{waiting(3, time.Microsecond), computing(20 * time.Microsecond)} {
		want, err := measure(t.Context(), w, sequential, tasks)
		require.NoError(t, err)
		require.Len(t, want.results, tasks)
		require.Equal(t, 1, want.peak)
		for _, limit := range []int{1, 7, tasks} {
			got, err := measure(t.Context(), w, limit, tasks)
			require.NoError(t, err)
			require.Equal(t, want.results, got.results)
			require.LessOrEqual(t, got.peak, limit)
			require.LessOrEqual(t, got.p50, got.p99)
		}
	}
}

// Whoever stops the program waits for no task to end by itself.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, w := range []work{waiting(1, time.Hour), computing(time.Microsecond)} {
		for _, limit := range []int{sequential, 4} {
			_, err := measure(ctx, w, limit, 8)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, w.name)
		}
	}
	require.ErrorIs(t, show(ctx, config{tasks: 1, most: 1, capacity: 1}, io.Discard), context.Canceled)
}

func TestRefuses(t *testing.T) {
	for _, args := range []string{"-tasks 0", "-tasks 1000001", "-most 0", "-most 100001", "-capacity 0", "-capacity 100001", "-answer -1s", "-compute 2m", "-x", "more"} {
		code, out, problems := call(strings.Fields(args)...)
		require.Equal(t, exitFailed, code, args)
		require.Empty(t, out)
		require.Equal(t, 1, strings.Count(problems, "\n"), problems)
		require.True(t, strings.HasPrefix(problems, "gather: "), problems)
	}
	code, _, problems := call(append(quick, "-svg", filepath.Join(t.TempDir(), "no", "where.svg"))...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, problems, "where.svg")

	code, _, help := call("-h")
	require.Equal(t, exitDone, code)
	require.Contains(t, help, "-svg")
}
