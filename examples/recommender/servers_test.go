package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/report"
	"github.com/mainstay-go/mainstay/internal/servertest"
)

// checkAll requires every invariant but those of the clock, which another test
// may share.
func checkAll(t *testing.T, s *report.Summary) {
	t.Helper()
	for _, i := range s.Invariants {
		if !strings.HasPrefix(i.Name, "degraded") {
			require.True(t, i.OK, "%s: %s", i.Name, i.Detail)
		}
	}
	e := s.Events
	t.Logf("%d requests, %d degraded; events: %d published, %d processed, %d duplicate, %d dead, %d lost",
		s.Requests, s.Degraded.Total, e.Published, e.Processed, e.Duplicate, e.Dead, e.Lost)
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "recommender")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

func summary(t *testing.T, cmd *exec.Cmd) *report.Summary {
	t.Helper()
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	s := new(report.Summary)
	require.NoError(t, json.Unmarshal(out.Bytes(), s), "%v: %s", err, problems.String())
	return s
}

// One process on Kafka and Redis, and the broker is killed in the middle:
// answers go on and nothing is lost.
func TestKafkaKilledMidway(t *testing.T) {
	servertest.Kafka(t)
	servertest.Redis(t)
	restart := os.Getenv("MAINSTAY_KAFKA_RESTART")
	if restart == "" {
		t.Skip("MAINSTAY_KAFKA_RESTART, a command that kills the broker and starts it again, is not set: part of make integration")
	}
	run := exec.CommandContext(t.Context(), build(t), "-broker=kafka", "-features=redis", "-duration=15s", "-rps=100", "-slo=1m", "-json")
	killed := make(chan error, 1)
	timer := time.AfterFunc(8*time.Second, func() {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", restart).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		killed <- err
	})
	defer timer.Stop()
	s := summary(t, run)
	require.NoError(t, <-killed)
	checkAll(t, s)
}

// Every role is a process of its own.
func TestRolesAsProcesses(t *testing.T) {
	servertest.Kafka(t)
	servertest.Redis(t)
	bin, state := build(t), t.TempDir()
	name := "test-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	args := func(role string) []string {
		return []string{
			"-role=" + role, "-run=" + name, "-base=" + freeRange(t), "-broker=kafka", "-features=redis", "-state=" + state,
			"-duration=8s", "-rps=100", "-slo=1m", "-json",
		}
	}
	base := args("ingest")[2]
	for _, role := range []string{"ingest", "model", "features", "cache", "gateway"} {
		a := args(role)
		a[2] = base
		cmd := exec.CommandContext(t.Context(), bin, a...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 15 * time.Second
		var problems bytes.Buffer
		cmd.Stderr = &problems
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			if err := cmd.Wait(); err != nil && t.Failed() {
				t.Logf("%s: %v\n%s", role, err, problems.String())
			}
		})
	}
	a := args("load")
	a[2] = base
	checkAll(t, summary(t, exec.CommandContext(t.Context(), bin, a...)))
}

// freeRange finds an address whose port and the five after it are free.
func freeRange(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr, err := freeAddr()
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		first, err := strconv.Atoi(port)
		require.NoError(t, err)
		free := true
		for n := range 6 {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+n)))
			if err != nil {
				free = false
				break
			}
			require.NoError(t, l.Close())
		}
		if free {
			return addr
		}
	}
	t.Fatal("no six free ports in a row")
	return ""
}
