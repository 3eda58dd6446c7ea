package idempotency

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMemoryStoreRefusesWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), NewMemoryStore(2)
		claim := func(id string) (Outcome, error) {
			return s.Begin(ctx, Claim{Key: Key{Scope: "s", ID: id}, Lease: time.Second, TTL: time.Minute})
		}
		for _, id := range []string{"a", "b"} {
			out, err := claim(id)
			require.NoError(t, err)
			require.NoError(t, s.Complete(ctx, out.Token, []byte(id), time.Hour))
			time.Sleep(time.Minute)
		}
		_, err := claim("c")
		require.ErrorIs(t, err, ErrFull)
		require.ErrorContains(t, err, "it holds 2 keys, its limit, and the first ends in 58m0s; raise the limit or shorten the TTL")

		for _, id := range []string{"a", "b"} { // what it holds, it still knows
			out, err := claim(id)
			require.NoError(t, err)
			require.Equal(t, Outcome{State: Done, Attempt: 1, Result: []byte(id)}, out)
		}

		time.Sleep(58 * time.Minute) // the TTL of a ends, that of b does not
		out, err := claim("c")
		require.NoError(t, err)
		require.Equal(t, Acquired, out.State)
		_, err = claim("a")
		require.ErrorIs(t, err, ErrFull)
		out, err = claim("b")
		require.NoError(t, err)
		require.Equal(t, Done, out.State)
	})
}

func TestMemoryStoreRefusedClaimLeavesNothing(t *testing.T) {
	s := NewMemoryStore(0)
	_, err := s.Begin(t.Context(), Claim{Key: Key{Scope: "s", ID: "a"}, Lease: time.Second})
	require.ErrorIs(t, err, ErrFull)
	_, err = s.Begin(t.Context(), Claim{Key: Key{Scope: "s"}, Lease: time.Second})
	require.ErrorIs(t, err, ErrKey)
	require.Empty(t, s.records)
	require.Empty(t, s.expiry)
}

// What expires together is dropped a few at a time, and never answered with.
func TestMemoryStoreSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		ctx, s := t.Context(), NewMemoryStore(n)
		claim := func(i int) Claim {
			return Claim{Key: Key{Scope: "s", ID: fmt.Sprint(i)}, Lease: time.Second, TTL: time.Minute}
		}
		for i := range n {
			_, err := s.Begin(ctx, claim(i))
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		last, err := s.Begin(ctx, claim(n-1))
		require.NoError(t, err)
		require.Equal(t, Acquired, last.State)
		require.Equal(t, 1, last.Attempt, "an expired record was found that the sweep had not reached")
		require.Greater(t, len(s.records), n/2, "one call swept everything")
		for i := range n - 1 {
			out, err := s.Begin(ctx, claim(i))
			require.NoError(t, err)
			require.Equal(t, 1, out.Attempt)
		}
		require.Len(t, s.records, n)
		require.Len(t, s.expiry, n)
		time.Sleep(time.Hour)
		for range n/64 + 1 {
			s.sweep()
		}
		require.Empty(t, s.records)
		require.Empty(t, s.expiry)
	})
}

// The package promises about 150 bytes for a key of an inbox.
func TestMemoryStoreBytesPerKey(t *testing.T) {
	const n = 200_000
	ctx, s := t.Context(), NewMemoryStore(n)
	heapBytes := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heapBytes()
	for i := range n {
		out, err := s.Begin(ctx, Claim{Key: Key{Scope: "billing/orders/inbox", ID: fmt.Sprintf("0199c3a2-7d1e-7000-8000-%012d", i)}, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(ctx, out.Token, nil, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	perKey := float64(heapBytes()-before) / n
	runtime.KeepAlive(s)
	t.Logf("%.0f bytes per key", perKey)
	require.Less(t, perKey, 200.0)
	require.Greater(t, perKey, 50.0)
}
