package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
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
	elements := parseSVG(t, svg)
	require.Equal(t, 1, elements["svg"])
	require.Equal(t, 2, elements["g"])
	require.Equal(t, 4, elements["polyline"])
	require.Equal(t, 20, elements["circle"])
}

// parseSVG counts the elements, and fails if it is not well-formed or has a number that is none.
func parseSVG(t *testing.T, name string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	elements := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		require.NoError(t, err)
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		elements[e.Name.Local]++
		for _, a := range e.Attr {
			require.NotContains(t, a.Value, "NaN")
			require.NotContains(t, a.Value, "Inf")
			switch a.Name.Local {
			case "cx", "cy", "x1", "x2", "y1", "y2", "x", "y":
				v, err := strconv.ParseFloat(a.Value, 64)
				require.NoError(t, err)
				require.True(t, v >= 0 && v <= panelWidth, "%s=%q lies outside", a.Name.Local, a.Value)
			}
		}
	}
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

// One point is a picture, too, and so is a measurement of nothing.
func TestSmallPictures(t *testing.T) {
	for _, points := range [][]measured{nil, {{limit: 1}}, {{limit: 1, perSecond: 1e9, p99: time.Hour}, {limit: 2, perSecond: 0.001, p99: 1}}} {
		var b bytes.Buffer
		draw(&b, []curve{{work{name: "a<b & c", what: `"quoted"`, fits: 3}, points}})
		name := filepath.Join(t.TempDir(), "x.svg")
		require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))
		require.Equal(t, 2*len(points), parseSVG(t, name)["circle"])
		require.Contains(t, b.String(), "a&lt;b &amp; c")
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, -3: 1, 1: 1, 1.1: 2, 3: 4, 4.5: 5, 7: 8, 9: 10, 99: 100, 101: 200, 0.03: 0.04} {
		require.InDelta(t, want, round(v), want*1e-9, "%v", v)
	}
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
