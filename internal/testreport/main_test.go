package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReportCountsAndGivesReasons(t *testing.T) {
	r := report{output: map[key][]string{}, skipped: map[string][]key{}, slow: map[string]float64{}}
	var out strings.Builder
	in := `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: needs a real redis: not set\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    want 1\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1}
`
	require.NoError(t, r.read(strings.NewReader(in), &out))
	require.False(t, r.print(&out), "a failure must not pass")
	require.Contains(t, out.String(), "skipped: needs a real redis: not set\n    p TestA\n")
	require.Contains(t, out.String(), "want 1")
	require.Contains(t, out.String(), "1 passed, 2 failed, 1 skipped")
}

func TestReportOfNothingFails(t *testing.T) {
	r := report{output: map[key][]string{}, skipped: map[string][]key{}, slow: map[string]float64{}}
	require.False(t, r.print(new(strings.Builder)))
}
