package redisstream

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

func TestEntryFollowsTheWireContract(t *testing.T) {
	got := appendFields(nil, &driver.Message{
		ID: "1", Topic: "t", Key: "k", ContentType: "text/plain", Schema: "v2", Body: []byte("body"),
		Time:    time.Date(2026, 1, 31, 12, 50, 0, 123456789, time.FixedZone("", 3600)),
		Headers: driver.Headers{{Key: "a", Value: []byte("1")}, {Key: "a"}},
	})
	require.Equal(t, []any{
		"id", "1", "key", "k", "content-type", "text/plain", "schema", "v2", "time", "2026-01-31T11:50:00.123456789Z",
		"body", []byte("body"), "h:a", []byte("1"), "h:a", []byte{},
	}, got)
	require.Equal(t, []any{"time", "0001-01-01T00:00:00Z", "body", []byte{}}, appendFields(nil, &driver.Message{}), "what is empty is left out")
}

func TestDecodeTakesWhatThereIs(t *testing.T) {
	id := entryID{1769860200123, 7}
	m, body := decode("t", "t/3", id, []any{"key", "k", "order", "9", "time", "yesterday", "key", "again", "body", "v"})
	require.Equal(t, "v", body)
	require.Equal(t, driver.Message{
		ID: "t/3/1769860200123-7", Topic: "t", Key: "k", Time: time.UnixMilli(1769860200123),
		Headers: driver.Headers{{Key: "order", Value: []byte("9")}, {Key: "key", Value: []byte("again")}},
	}, m)
}

func TestPartitionsAreFixed(t *testing.T) {
	// FNV-1a of "a" is 0xe40c292c, of "foobar" 0xbf9cf968: draft-eastlake-fnv.
	require.Equal(t, 0xe40c292c%8, partitionOf("a", 8))
	require.Equal(t, 0xbf9cf968%7, partitionOf("foobar", 7))
}

func TestAllKeysOfAPartitionHaveOneHashTag(t *testing.T) {
	n := names{"p:"}
	tag := func(key string) string {
		_, rest, _ := strings.Cut(key, "{")
		in, _, _ := strings.Cut(rest, "}")
		return in
	}
	for _, topic := range []string{"orders", "a{b}c", "}{", "{}", "a:0"} {
		s := n.stream(topic, 3)
		require.NotEmpty(t, tag(s))
		for _, key := range []string{owner(s, "g}{"), delayed(s, "g"), headers(s, "{x}")} {
			require.Equal(t, tag(s), tag(key))
		}
	}
	require.NotEqual(t, n.stream("a", 1), n.stream("a:1", 1))
	require.NotEqual(t, owner(n.stream("a", 1), "g"), n.members("a", "g"))
}

func TestQuotaSharesEverything(t *testing.T) {
	for partitions := range 20 {
		for members := 1; members < 25; members++ {
			sum, least, most := 0, partitions, 0
			for i := range members {
				q := quota(partitions, members, i)
				sum, least, most = sum+q, min(least, q), max(most, q)
			}
			require.Equal(t, partitions, sum)
			require.LessOrEqual(t, most-least, 1)
		}
	}
	require.Zero(t, quota(8, 3, -1), "who is not a member owns nothing")
}

// What went wrong when a member left is told once: a second Close is nil.
func TestASecondCloseIsNil(t *testing.T) {
	r := &receiver{broker: &broker{receivers: make(map[*receiver]struct{})}, gone: make(chan struct{}), ended: make(chan struct{}), left: errShape}
	close(r.ended)
	require.ErrorIs(t, r.Close(t.Context()), errShape)
	require.NoError(t, r.Close(t.Context()))
}

// A read asks for what its answer has room for, and for one after it did not
// arrive.
func TestReadsGoByWhatArrived(t *testing.T) {
	p := &partition{most: 1, size: someBytes}
	var asked []int
	for range 10 {
		n := p.entriesIn(readBytes, readMost)
		asked = append(asked, n)
		p.learn(true, n, n*1000)
	}
	require.Equal(t, []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 256}, asked)
	require.Equal(t, 20, p.entriesIn(20_999, readMost))
	require.Equal(t, 7, p.entriesIn(readBytes, 7))
	p.bytes = maxHeldBytes - 1
	require.Equal(t, 1, p.entriesIn(readBytes, readMost), "it is not full")
	p.bytes = 0
	p.learn(true, 2, 5<<20)
	require.Equal(t, 1, p.entriesIn(readBytes, readMost))
	p.learn(false, 0, 0)
	require.Equal(t, 1, p.entriesIn(readBytes, readMost))
	require.Equal(t, readBytes, p.size, "nothing else is read with it")
	p.learn(true, 0, 0)
	require.Less(t, p.size, readBytes, "there was nothing")
	p.learn(true, 1, 100)
	require.Equal(t, 2, p.entriesIn(readBytes, readMost))
}

func FuzzDecode(f *testing.F) {
	f.Add("time", "2026-01-31T12:50:00Z", "id", "1")
	f.Add("time", "x", "time", "2026-01-31T12:50:00Z")
	f.Add("h:", "", "id", "")
	f.Add("h:a", "1", "body", "\xff")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		m, body := decode("t", "t/0", entryID{1, 2}, []any{k1, v1, k2, v2, "odd"})
		m.Body = []byte(body)
		require.NotEmpty(t, m.ID)
		fields := appendFields(nil, &m)
		text := make([]any, len(fields)) // as the server gives them back
		for i, x := range fields {
			if b, ok := x.([]byte); ok {
				x = string(b)
			}
			text[i] = x
		}
		n, again := decode("t", "t/0", entryID{9, 9}, text)
		require.Equal(t, m.ID, n.ID)
		require.Equal(t, m.Key, n.Key)
		require.Equal(t, body, again)
		require.Len(t, n.Headers, len(m.Headers))
		for i := range m.Headers {
			require.Equal(t, m.Headers[i].Key, n.Headers[i].Key)
			require.Equal(t, string(m.Headers[i].Value), string(n.Headers[i].Value))
		}
		if y := m.Time.UTC().Year(); y >= 0 && y <= 9999 {
			require.True(t, m.Time.Equal(n.Time))
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("1:a1:b")
	f.Add("0:0:")
	f.Add("-1:")
	f.Add("9999999999999999999:x")
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := unpackHeaders(s)
		if !ok {
			return
		}
		again, ok := unpackHeaders(packHeaders(h))
		require.True(t, ok)
		require.Equal(t, h, again)
	})
}

func TestHeadersAreKept(t *testing.T) {
	h := driver.Headers{{Key: "a", Value: []byte("1:2")}, {Key: "a", Value: []byte{0, 255}}, {Key: "", Value: []byte{}}}
	got, ok := unpackHeaders(packHeaders(h))
	require.True(t, ok)
	require.Equal(t, h, got)
	require.Equal(t, "1:a3:1:2", packHeaders(h[:1]), "the form is kept in Redis: other versions read it")
	_, ok = unpackHeaders("1:a5:b")
	require.False(t, ok)
}
