package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// servers are run by scripts/services in a directory of their own.
type servers struct {
	script, dir string
	env         []string
	started     []string
	addrs       map[string]string // by broker
}

func newServers() (*servers, error) {
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "..", "..", "scripts", "services")
	if _, err := os.Stat(script); err != nil {
		return nil, fmt.Errorf("run it in the repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "mainstay-proof-")
	if err != nil {
		return nil, err
	}
	port := os.Getenv("MAINSTAY_PORT")
	if port == "" {
		port = "31000"
	}
	return &servers{
		script: script, dir: dir, addrs: make(map[string]string),
		env: append(os.Environ(), "MAINSTAY_SERVICES="+dir, "MAINSTAY_PORT="+port, "MAINSTAY_KAFKA_NODES=3"),
	}, nil
}

// services runs the script. Servers outlive it, and must not hold its pipes.
func (s *servers) services(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.script, args...) //nolint:gosec // it is the repository's own
	var out, says bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &out, &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us: we stop them
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("scripts/services %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(says.String()))
	}
	return out.String(), nil
}

// start returns the broker's addresses.
func (s *servers) start(ctx context.Context, broker string) (string, error) {
	s.started = append(s.started, broker)
	out, err := s.services(ctx, "start", "--install", broker)
	if err != nil {
		return "", err
	}
	_, value, ok := strings.Cut(strings.TrimSpace(out), "=")
	value, _, _ = strings.Cut(value, " ") // a broker has its first variable's address
	if !ok {
		return "", fmt.Errorf("scripts/services start %s said %q", broker, out)
	}
	return value, nil
}

// kill kills the broker with SIGKILL and starts it again. Of Kafka's nodes it
// kills one, which stays away long enough for others to lead, and every other
// time all of them.
func (s *servers) kill(ctx context.Context, broker string, n int) (string, error) {
	if broker != "kafka" || n%2 == 1 {
		_, err := s.services(ctx, "crash", broker)
		return "broker killed", err
	}
	node := 1 + (n/2)%3
	text, err := os.ReadFile(filepath.Join(s.dir, "kafka", strconv.Itoa(node)+".pid"))
	if err != nil {
		return "", err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "", err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return "", fmt.Errorf("kill Kafka node %d: %w", node, err)
	}
	pause(ctx, 5*time.Second)
	_, err = s.services(ctx, "start", "kafka")
	return fmt.Sprintf("node %d killed", node), err
}

func (s *servers) stopOne(broker string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := s.services(ctx, "stop", "--delete", broker)
	return err
}

func (s *servers) stop() error {
	var errs []error
	for _, broker := range s.started {
		errs = append(errs, s.stopOne(broker))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
