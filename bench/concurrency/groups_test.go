package concurrency

import (
	"slices"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/bench/measure"
)

// A contender that does less than the others would win.
func TestContendersDoTheWork(t *testing.T) {
	l := load{"small", 8, upTo(1000), func(i int) int { return 3 * i }}
	for _, c := range batchContenders() {
		if got := c.do(l); !slices.Equal(got, l.in) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	want := make([]int, len(l.in))
	for i := range want {
		want[i] = 3 * i
	}
	for _, c := range slices.Concat(fanOutContenders(), streamContenders(), unorderedContenders()) {
		if c.name == "MapAll" {
			want, got := l.in, c.do(l) // it checks its own slots
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v", c.name, got)
			}
			continue
		}
		got := c.do(l)
		if c.name == "StreamUnordered" || c.name == "rill Map" {
			slices.Sort(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A contender that does more at once than it may would win where tasks wait.
func TestContendersKeepTheLimit(t *testing.T) {
	for _, c := range slices.Concat(fanOutContenders(), streamContenders(), unorderedContenders()) {
		running := make(chan struct{}, 4)
		c.do(load{"limited", 4, upTo(200), func(i int) int {
			select {
			case running <- struct{}{}:
			default:
				t.Errorf("%s: a fifth task", c.name)
				return i
			}
			time.Sleep(50 * time.Microsecond)
			<-running
			return i
		}})
	}
}

// Every group runs, and its cases and goals fit together.
func TestGroups(t *testing.T) {
	for _, g := range Groups(t.Context()) {
		if _, _, err := measure.Run(g, measure.Options{Rounds: 1, Each: time.Microsecond}); err != nil {
			t.Error(err)
		}
	}
}
