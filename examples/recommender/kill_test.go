package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/report"
)

// writes is more than the durable writes of a rollout; the last points are
// beyond its end.
const writes = 12

// A run is killed, as kill -9 does, at a durable write of its rollout or at a
// random moment; the same command with the same state then ends with alias,
// served version and history in agreement: finished or undone, never half.
//
// make integration tries two points; make soak every durable write and twenty
// random moments.
func TestKilledRunsAreTakenUp(t *testing.T) {
	soak := os.Getenv("MAINSTAY_SOAK") != ""
	if !soak && os.Getenv("MAINSTAY_INTEGRATION") == "" {
		t.Skip("kills programs that take half a minute each: part of make integration, all of it of make soak")
	}
	bin := build(t)
	points := []string{"-fault=crash:5", "-fault=crash:8"}
	moments := 0
	if soak {
		points, moments = nil, 20
		for n := range writes {
			points = append(points, fmt.Sprintf("-fault=crash:%d", n+1))
		}
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) { killAndTakeUp(t, bin, point, time.Hour) })
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range moments {
		at := time.Duration(rng.Int64N(int64(16 * time.Second)))
		t.Run(fmt.Sprint("at ", at.Round(time.Millisecond)), func(t *testing.T) { killAndTakeUp(t, bin, "", at) })
	}
}

func killAndTakeUp(t *testing.T, bin, fault string, at time.Duration) {
	state := t.TempDir()
	args := []string{"-duration=8s", "-slo=1m", "-json", "-state=" + state}
	first := exec.CommandContext(t.Context(), bin, append(args, fault)[:len(args)+min(1, len(fault))]...)
	require.NoError(t, first.Start())
	timer := time.AfterFunc(at, func() { _ = first.Process.Kill() })
	err := first.Wait()
	timer.Stop()
	killed := false
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		killed = exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	}

	var out, problems bytes.Buffer
	second := exec.CommandContext(t.Context(), bin, args...)
	second.Stdout, second.Stderr = &out, &problems
	err = second.Run()
	var s report.Summary
	require.NoError(t, json.Unmarshal(out.Bytes(), &s), "%v: %s", err, problems.String())
	t.Logf("killed: %v; then %s, serving %s, rollout %s", killed, s.Rollout.Alias, s.Rollout.Served, s.Rollout.Outcome)
	for _, i := range s.Invariants {
		if !strings.HasPrefix(i.Name, "degraded") { // the clock is not judged here
			require.True(t, i.OK, "%s: %s", i.Name, i.Detail)
		}
	}
}
