package frontier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// model keeps every message ever begun and answers by looking at all of them.
type model struct {
	start  int64
	begun  []int64
	done   map[int64]bool
	begins map[int64]time.Time
}

func (m *model) frontier() int64 {
	for _, o := range m.begun {
		if !m.done[o] {
			return o
		}
	}
	if len(m.begun) == 0 {
		return m.start
	}
	return m.begun[len(m.begun)-1] + 1
}

func (m *model) gap() (n int) {
	for _, o := range m.begun {
		if o >= m.frontier() {
			n++
		}
	}
	return n
}

func TestTrackerAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 1000).Draw(t, "start")
		limit := rapid.IntRange(0, 40).Draw(t, "limit")
		tr := New(start, limit)
		m := &model{start: start, done: map[int64]bool{}, begins: map[int64]time.Time{}}
		next, now := start, time.Unix(0, 0)
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				next += rapid.Int64Range(0, 3).Draw(t, "skip") // holes, as compaction leaves them
				now = now.Add(time.Second)
				full := limit > 0 && m.gap() >= limit
				require.Equal(t, full, tr.Full())
				require.Equal(t, !full, tr.Begin(next, now))
				if !full {
					m.begun, m.begins[next] = append(m.begun, next), now
					next++
				}
			},
			"done": func(t *rapid.T) {
				o := rapid.Int64Range(start-2, next+2).Draw(t, "offset")
				if len(m.begun) > 0 && rapid.Bool().Draw(t, "known") {
					o = rapid.SampledFrom(m.begun).Draw(t, "begun")
				}
				before := m.frontier()
				if _, ok := m.begins[o]; ok {
					m.done[o] = true
				}
				require.Equal(t, m.frontier() != before, tr.Done(o), "moved")
			},
			"": func(t *rapid.T) {
				require.Equal(t, m.frontier(), tr.Frontier(), "frontier")
				require.Equal(t, m.gap(), tr.Gap(), "gap")
				beyond := map[int64]bool{}
				for from, to := range tr.Spans() {
					require.Less(t, from, to)
					for o := from; o < to; o++ {
						beyond[o] = true
					}
				}
				for _, o := range m.begun {
					require.Equal(t, !m.done[o], tr.Pending(o), "pending %d", o)
					if o >= m.frontier() {
						require.Equal(t, m.done[o], beyond[o], "span of %d", o)
					}
				}
				require.False(t, tr.Pending(next))
				o, since, ok := tr.Oldest()
				require.Equal(t, m.gap() > 0, ok)
				if ok {
					require.Equal(t, m.frontier(), o)
					require.Equal(t, m.begins[o], since)
				}
			},
		})
	})
}

func TestBeginRefusesAnOffsetOfThePast(t *testing.T) {
	tr := New(5, 0)
	require.Panics(t, func() { tr.Begin(4, time.Time{}) })
	tr.Begin(5, time.Time{})
	require.Panics(t, func() { tr.Begin(5, time.Time{}) })
}

func BenchmarkTracker(b *testing.B) {
	tr := New(0, 0)
	const window = 1024
	for o := range int64(window) {
		tr.Begin(o, time.Time{})
	}
	o := int64(window)
	for b.Loop() { // the newest finishes first, pairwise: half of the ring is done at any time
		tr.Begin(o, time.Time{})
		tr.Done((o - window) ^ 1)
		o++
	}
}
