package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/report"
)

// A short run of everything; only the clock's verdicts are left out.
func TestEverythingRuns(t *testing.T) {
	t.Chdir(t.TempDir())
	var out, problems bytes.Buffer
	code := run([]string{"-duration", "2s", "-rps", "100", "-slo", "1m", "-json"}, &out, &problems)
	var s report.Summary
	require.NoError(t, json.Unmarshal(out.Bytes(), &s), "exit %d: %s", code, problems.String())
	for _, i := range s.Invariants {
		if !strings.HasPrefix(i.Name, "degraded") {
			require.True(t, i.OK, "%s: %s", i.Name, i.Detail)
		}
	}
	require.Equal(t, 200, s.Requests)
	require.Equal(t, "v1", s.Rollout.Served)
	require.Positive(t, s.Events.Published)
	require.Equal(t, s.Events.Published, s.Events.Processed+s.Events.Dead)
	require.Positive(t, s.Versions["v1"])
	require.NotEmpty(t, s.Lineage.Data)

	var table strings.Builder
	require.NoError(t, s.WriteText(&table))
	require.Equal(t, s.OK, strings.Contains(table.String(), "\nevery invariant held\n"))
	require.Equal(t, s.OK, code == 0, "exit %d: %s", code, problems.String())
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, left, "nothing is written but into the state directory")
}

// The keys that the README documents are there.
func TestJSONKeys(t *testing.T) {
	text, err := json.Marshal(report.Summary{})
	require.NoError(t, err)
	var s struct {
		Requests *int
		Errors   *int
		Degraded struct{ Total *int }
		Latency  map[string]float64 `json:"latency_ms"`
		Versions json.RawMessage
		Events   map[string]float64
		Drift    json.RawMessage
		Rollout  struct {
			Outcome *string
			History json.RawMessage
		}
		PeakRSS    *float64 `json:"peak_rss_mb"`
		Invariants json.RawMessage
		OK         *bool
	}
	require.NoError(t, json.Unmarshal(text, &s))
	require.NotNil(t, s.Requests)
	require.NotNil(t, s.Errors)
	require.NotNil(t, s.Degraded.Total)
	require.NotNil(t, s.Rollout.Outcome)
	require.NotNil(t, s.Rollout.History)
	require.NotNil(t, s.PeakRSS)
	require.NotNil(t, s.OK)
	for _, raw := range []json.RawMessage{s.Versions, s.Drift, s.Invariants} {
		require.NotNil(t, raw)
	}
	for _, key := range []string{"p50", "p95", "p99", "max"} {
		require.Contains(t, s.Latency, key)
	}
	for _, key := range []string{"published", "processed", "duplicate", "dead", "lost"} {
		require.Contains(t, s.Events, key)
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &all))
	for key := range all {
		require.Contains(t, string(readme), "`"+key+"`", "the README does not explain the key")
	}
}

// What cannot run says so in one sentence, with exit status 2, and leaves
// nothing behind.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	t.Setenv("MAINSTAY_KAFKA_ADDRS", "")
	t.Setenv("MAINSTAY_REDIS_ADDR", "")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"duration":           {[]string{"-duration", "10ms"}, "-duration 10ms: want 1s to 24h"},
		"rate":               {[]string{"-rps", "0"}, "-rps 0: want 1 to 10000"},
		"rate is no number":  {[]string{"-rps", "many"}, "invalid value"},
		"not a number":       {[]string{"-rps", "NaN"}, "-rps NaN: want 1 to 10000"},
		"broker":             {[]string{"-broker", "pigeons"}, "-broker pigeons: want memory or kafka"},
		"store":              {[]string{"-features", "paper"}, "-features paper: want memory or redis"},
		"role":               {[]string{"-role", "king"}, "-role king: want one of all, gateway"},
		"role alone":         {[]string{"-role", "load"}, "add -broker kafka -features redis"},
		"fault":              {[]string{"-fault", "earthquake"}, "want network, model:5s or crash:3"},
		"fault without time": {[]string{"-fault", "model"}, "such as model:5s"},
		"objective":          {[]string{"-slo", "-1s"}, "-slo -1s: want more than 0"},
		"argument":           {[]string{"extra"}, `unexpected argument "extra"`},
		"flag":               {[]string{"-nosuch"}, "flag provided but not defined"},
		"address":            {[]string{"-serve", "8080"}, "-serve 8080: want host:port"},
		"no such data":       {[]string{"-data", filepath.Join(dir, "absent.csv")}, "no such file"},
		"unreadable data":    {[]string{"-data", dir}, "-data: "},
		"other columns":      {[]string{"-data", write("a.csv", "a,b\n1,2\n")}, "not those of the Online Retail data set"},
		"damaged gzip":       {[]string{"-data", write("b.csv.gz", "\x1f\x8b\x08nonsense")}, "-data: "},
		"state is a file":    {[]string{"-state", write("file", "")}, "is not a directory"},
		"no broker named":    {[]string{"-broker", "kafka"}, "MAINSTAY_KAFKA_ADDRS is not set"},
		"no store named":     {[]string{"-features", "redis"}, "MAINSTAY_REDIS_ADDR is not set"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.args, c.says) })
	}
	left, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, left)
}

func refused(t *testing.T, args []string, says string) {
	t.Helper()
	var out, problems bytes.Buffer
	require.Equal(t, 2, run(args, &out, &problems), problems.String())
	require.Empty(t, out.String())
	first, _, _ := strings.Cut(problems.String(), "\n")
	require.Contains(t, first, says)
}

func TestUnreachableServers(t *testing.T) {
	addr, err := freeAddr()
	require.NoError(t, err)
	t.Setenv("MAINSTAY_KAFKA_ADDRS", addr)
	t.Setenv("MAINSTAY_REDIS_ADDR", addr)
	refused(t, []string{"-broker", "kafka"}, "-broker kafka: ")
	refused(t, []string{"-features", "redis"}, "-features redis: nobody answers at "+addr)
}

// A model file that was damaged where it is kept is refused before anything runs.
func TestCorruptModelFile(t *testing.T) {
	state := t.TempDir()
	var out, problems bytes.Buffer
	args := []string{"-duration", "1s", "-rps", "50", "-slo", "1m", "-state", state, "-json"}
	run(args, &out, &problems)
	path := filepath.Join(state, "models", "ranker", "v1", "model.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err, problems.String())
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("1"), []byte("2"), 1), 0o600))
	before := tree(t, state)
	refused(t, args, "model.json")
	require.Equal(t, before, tree(t, state))
}

// tree lists what is below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	}))
	return all
}
