package kafka

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

func spans(all []span) func(func(int64, int64) bool) {
	return func(yield func(int64, int64) bool) {
		for _, s := range all {
			if !yield(s.from, s.to) {
				return
			}
		}
	}
}

// What is written down comes back; what does not fit is left out from the end,
// and never changed.
func TestMemoComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		position := rapid.Int64Range(0, 1<<40).Draw(t, "position")
		now := time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "now"))
		notes := make(map[int64]driver.Note)
		at := position
		for range rapid.SampledFrom([]int{0, 1, 3, 20, 100}).Draw(t, "notes") {
			at += rapid.Int64Range(1, 100_000).Draw(t, "step")
			notes[at] = driver.Note{
				Attempts:  rapid.IntRange(1, 1000).Draw(t, "attempts"),
				NotBefore: now.Add(time.Duration(rapid.Int64Range(-1e6, 1e9).Draw(t, "due")) * time.Microsecond),
				FirstSeen: now.Add(-time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "seen")) * time.Millisecond),
				LastError: rapid.SampledFrom([]string{"", "broken", "conn refused", strings.Repeat("x", 500)}).Draw(t, "error"),
			}
		}
		var done []span
		at = position
		for range rapid.SampledFrom([]int{0, 1, 3, 20, 100}).Draw(t, "spans") {
			s := span{from: at + rapid.Int64Range(1, 300).Draw(t, "open")}
			s.to = s.from + rapid.Int64Range(1, 300).Draw(t, "done")
			done, at = append(done, s), s.to
		}
		room := rapid.SampledFrom([]int{0, 20, 60, 100, 300, 1000, 4000}).Draw(t, "room")
		text, complete := encodeMemo(position, notes, spans(done), room)
		require.LessOrEqual(t, len(text), room)
		m, ok := decodeMemo(position, text)
		if text == "" {
			require.False(t, ok)
			require.True(t, !complete || len(notes)+len(done) == 0)
			return
		}
		require.True(t, ok)
		_, ok = decodeMemo(position+rapid.SampledFrom([]int64{-position - 2, -1, 1, 1000}).Draw(t, "elsewhere"), text)
		require.False(t, ok, "it is of %d", position)
		offsets := slices.Sorted(maps.Keys(notes))
		require.LessOrEqual(t, len(m.notes), len(notes))
		for i := range len(m.notes) {
			want, got := notes[offsets[i]], m.notes[offsets[i]]
			require.Equal(t, want.Attempts, got.Attempts)
			require.False(t, got.NotBefore.Before(want.NotBefore), "sooner than noted")
			require.Less(t, got.NotBefore.Sub(want.NotBefore), time.Millisecond)
			require.Equal(t, want.FirstSeen.UnixMilli(), got.FirstSeen.UnixMilli())
			require.True(t, strings.HasPrefix(want.LastError, got.LastError))
		}
		for i, s := range m.done {
			require.Equal(t, done[i], s)
		}
		require.False(t, complete && (len(m.notes) < len(notes) || len(m.done) < len(done)), "something is missing, and nobody said so")
	})
}

// A partition where a broken dependency makes 250 keys wait still fits.
func TestMemoHasRoomForAnOutage(t *testing.T) {
	now, notes := time.Now(), make(map[int64]driver.Note)
	var done []span
	for n := range int64(250) {
		o := 1_000_000 + n*37
		notes[o] = driver.Note{Attempts: 2, NotBefore: now.Add(time.Duration(n) * time.Second), FirstSeen: now, LastError: fmt.Sprint("dial tcp: refused ", n%5)}
		done = append(done, span{o + 1, o + 37})
	}
	text, complete := encodeMemo(1_000_000, notes, spans(done), memoRoom)
	m, ok := decodeMemo(1_000_000, text)
	require.True(t, ok)
	require.Len(t, m.notes, 250)
	require.Equal(t, "dial tcp: refused 4", m.notes[1_000_000+4*37].LastError)
	t.Logf("250 notes, %d of 250 spans, in %d bytes; complete: %v", len(m.done), len(text), complete)
}

func TestSettledFollowsTheSpans(t *testing.T) {
	m := memo{done: []span{{3, 5}, {8, 9}}}
	var got []int64
	for o := range int64(12) {
		if m.settled(o) {
			got = append(got, o)
		}
	}
	require.Equal(t, []int64{3, 4, 8}, got)
}

func FuzzDecodeMemo(f *testing.F) {
	text, _ := encodeMemo(5, map[int64]driver.Note{7: {Attempts: 3, LastError: "x"}}, spans([]span{{9, 12}}), memoRoom)
	f.Add(text)
	f.Add("")
	f.Add(memoPrefix)
	f.Add(memoPrefix + "CgAAAA") // of 5, and nothing else
	f.Fuzz(func(t *testing.T, text string) {
		m, ok := decodeMemo(5, text)
		if !ok {
			require.Empty(t, m.notes)
			return
		}
		at := int64(5)
		for _, s := range m.done {
			require.GreaterOrEqual(t, s.from, at)
			require.GreaterOrEqual(t, s.to, s.from)
			at = s.to
		}
	})
}

// A text is cut between characters: it becomes a header of what is delivered.
func TestMemoCutsBetweenCharacters(t *testing.T) {
	at := time.UnixMilli(1_000_000)
	kept := strings.Repeat("x", memoError-1)
	notes := map[int64]driver.Note{7: {Attempts: 1, NotBefore: at, FirstSeen: at, LastError: kept + "é and more"}}
	text, complete := encodeMemo(5, notes, spans(nil), memoRoom)
	require.True(t, complete)
	m, ok := decodeMemo(5, text)
	require.True(t, ok)
	require.Equal(t, kept, m.notes[7].LastError)
}
