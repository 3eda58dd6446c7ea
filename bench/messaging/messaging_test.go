package messaging

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/bench/measure"
)

func TestMissingServersAreNamed(t *testing.T) {
	groups, missing := Groups(func(string) string { return "" })
	want := []string{"MAINSTAY_AMQP_URL", "MAINSTAY_KAFKA_ADDRS", "MAINSTAY_REDIS_ADDR"}
	if len(groups) != 1 || !slices.Equal(missing, want) {
		t.Errorf("%d groups, missing %q, want the one in memory and %q", len(groups), missing, want)
	}
	all, missing := Groups(func(string) string { return "nowhere" })
	if len(all) <= 1 || len(missing) != 0 {
		t.Errorf("%d groups, missing %q", len(all), missing)
	}
}

// A goal is in times of throughput; the table compares times.
func TestGoal(t *testing.T) {
	if g := goal("x", 8); g.AtMost != 0.125 || g.Against != "x" || g.Case != ours {
		t.Errorf("%+v", g)
	}
}

// Before let nothing passes, and let returns when all have.
func TestGate(t *testing.T) {
	g := newGate()
	passed := make(chan struct{}, 11)
	for range 10 {
		go func() {
			g.enter()
			passed <- struct{}{}
			g.leave()
		}()
	}
	select {
	case <-passed:
		t.Fatal("it was shut")
	case <-time.After(10 * time.Millisecond):
	}
	g.let(10)
	if n := len(passed); n != 10 {
		t.Errorf("%d passed, want 10", n)
	}
	go func() {
		g.enter()
		passed <- struct{}{}
	}()
	time.Sleep(10 * time.Millisecond)
	if n := len(passed); n != 10 {
		t.Errorf("%d passed, want 10: it is shut again", n)
	}
	g.shut.Unlock()
}

// A contender that fails must not look fast.
func TestFillByReportsFailure(t *testing.T) {
	if err := fillBy(func(int) error { return errors.New("no") })(10); err == nil {
		t.Error("no error")
	}
	n := 0
	if err := fillWith(func(m int) error { n += m; return nil })(1201); err != nil || n != 1201 {
		t.Errorf("%d messages, want 1201: %v", n, err)
	}
}

// Every group runs, once; those that need a server where it is named.
func TestGroups(t *testing.T) {
	groups, missing := Groups(os.Getenv)
	if len(missing) > 0 {
		t.Logf("left out: %q are not set", missing)
	}
	for _, g := range groups {
		if _, _, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Microsecond}); err != nil {
			t.Error(err)
		}
	}
}
