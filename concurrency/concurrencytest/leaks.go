package concurrencytest

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines that are about to end may take to do so.
const patience = 2 * time.Second

// CheckLeaks remembers the goroutines that exist, and fails t, with their
// stacks, if others exist when t is over. Call it first in a test or benchmark:
// cleanups run in reverse order, so what the test registers later has been
// stopped when the check runs. Goroutines that are ending get 2 s to do so.
//
// All goroutines of the process count, except those of package testing and the
// runtime, so a test that calls it must not run in parallel with others. Within
// [testing/synctest] it is not needed: a bubble fails by itself.
func CheckLeaks(t testing.TB) {
	t.Helper()
	before := make(map[string]bool)
	for _, g := range goroutines() {
		before[g.id] = true
	}
	t.Cleanup(func() {
		t.Helper()
		var leaked []goroutine
		pause := time.Millisecond
		for end := time.Now().Add(patience); ; pause = min(2*pause, 100*time.Millisecond) {
			leaked = leaked[:0]
			for _, g := range goroutines() {
				if !before[g.id] && !g.ours() {
					leaked = append(leaked, g)
				}
			}
			if len(leaked) == 0 {
				return
			}
			if time.Now().After(end) {
				break
			}
			time.Sleep(pause)
		}
		for _, g := range leaked {
			t.Errorf("concurrencytest: a goroutine outlives the test:\n%s", g.stack)
		}
	})
}

type goroutine struct{ id, stack string }

// ours reports whether g belongs to the machinery that runs tests.
func (g goroutine) ours() bool {
	for line := range strings.Lines(g.stack) {
		for _, f := range []string{
			"testing.(*T).Run(", "testing.(*B).run", "testing.(*F).Fuzz", "testing.(*M).", "testing.runFuzz",
			"testing.tRunner.", "created by testing.(*T).Run", "created by testing.(*B)", "created by testing.(*M)",
			"created by testing.runTests", "os/signal.signal_recv(", "runtime.ensureSigM", "runtime/trace.Start",
			"created by runtime",
		} {
			if strings.HasPrefix(line, f) {
				return true
			}
		}
	}
	return false
}

// goroutines returns all goroutines but the calling one.
func goroutines() []goroutine {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var all []goroutine
	for i, block := range bytes.Split(buf, []byte("\n\n")) {
		head, _, _ := bytes.Cut(block, []byte(" ["))
		id, ok := bytes.CutPrefix(bytes.TrimSpace(head), []byte("goroutine "))
		if i == 0 || !ok {
			continue // the first is the caller
		}
		all = append(all, goroutine{id: string(id), stack: string(block)})
	}
	return all
}
