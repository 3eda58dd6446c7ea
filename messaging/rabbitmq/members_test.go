package rabbitmq

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

func TestSharesAreEvenAndAgreed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfNDistinct(rapid.StringN(1, 10, -1), 1, 20, rapid.ID).Draw(t, "members")
		n := rapid.IntRange(1, slots).Draw(t, "partitions")
		owners := assign(slices.Clone(members), "topic", n)
		require.Len(t, owners, n)
		share := make(map[string]int)
		for _, m := range owners {
			require.Contains(t, members, m)
			share[m]++
		}
		for _, m := range members {
			require.GreaterOrEqual(t, share[m], n/len(members))
			require.LessOrEqual(t, share[m], (n+len(members)-1)/len(members))
		}
		slices.Reverse(members) // heard of in another order
		require.Equal(t, owners, assign(members, "topic", n))
	})
}

// A round robin would move most partitions each time.
func TestFewPartitionsMove(t *testing.T) {
	const n, runs = 32, 50
	moved := 0
	for run := range runs {
		members := make([]string, 0, 6)
		for i := range 5 {
			members = append(members, fmt.Sprintf("member-%d-%d", run, i))
		}
		before := assign(slices.Clone(members), "topic", n)
		after := assign(append(slices.Clone(members), fmt.Sprintf("new-%d", run)), "topic", n)
		for p := range before {
			if before[p] != after[p] {
				moved++
			}
		}
	}
	// The newcomer must get 5 or 6 of 32.
	require.Less(t, moved/runs, 13)
}

func TestMembersAreHeardAndBuried(t *testing.T) {
	at := time.Unix(1700000000, 0)
	others := make(map[string]*other)
	require.True(t, hear(others, beat{ID: "a", TTL: 3000}, at), "new")
	require.False(t, hear(others, beat{ID: "a", TTL: 3000}, at.Add(time.Second)))
	bury(others, at.Add(4*time.Second))
	require.Contains(t, others, "a")
	bury(others, at.Add(4*time.Second+time.Millisecond))
	require.Empty(t, others)
	hear(others, beat{ID: "b", TTL: 1e12}, at)
	bury(others, at.Add(time.Hour))
	require.Empty(t, others, "nobody is believed for ever")
	hear(others, beat{ID: "c", TTL: 3000}, at)
	require.True(t, hear(others, beat{ID: "c"}, at), "it leaves")
	require.Empty(t, others)
}

// The frames written ack exactly what was settled, whatever the order, and
// none names a tag that the server does not know.
func TestTagsAckWhatIsSettled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "messages")
		order := rapid.Permutation(tagsTo(n)).Draw(t, "order")
		var state tags
		known, frames := make(map[uint64]bool), 0 // at the server
		for _, tag := range order {
			known[tag] = true
		}
		for len(order) > 0 {
			k := rapid.IntRange(1, len(order)).Draw(t, "batch")
			batch := slices.Clone(order[:k])
			order = order[k:]
			below, single := state.settle(slices.Clone(batch))
			before := len(known)
			if below > 0 {
				require.True(t, known[below], "tag %d is not known to the server", below)
				frames++
				for tag := range known {
					if tag <= below {
						require.Contains(t, batch, tag)
						delete(known, tag)
					}
				}
			}
			for _, tag := range single {
				require.True(t, known[tag])
				require.Contains(t, batch, tag)
				delete(known, tag)
				frames++
			}
			require.Len(t, known, before-k)
		}
		require.Empty(t, known)
	})
	var state tags
	below, single := state.settle([]uint64{3, 1, 2})
	require.EqualValues(t, 3, below, "one frame for all")
	require.Empty(t, single)
	below, single = state.settle([]uint64{6, 5})
	require.Zero(t, below)
	require.Equal(t, []uint64{5, 6}, single)
	below, single = state.settle([]uint64{7, 4})
	require.EqualValues(t, 7, below, "over those acked before")
	require.Empty(t, single)
}

func tagsTo(n int) (all []uint64) {
	for i := range n {
		all = append(all, uint64(i+1))
	}
	return all
}

func TestNamesAreKept(t *testing.T) {
	require.NotEqual(t, queueName("a/b", "c"), queueName("a", "b/c"))
	require.NotEqual(t, queueName("a%2Fb", "c"), queueName("a/b", "c"))
	require.ErrorIs(t, names(&driver.Subscription{Topics: []string{"amq.topic"}}), driver.ErrUnroutable)
	require.ErrorIs(t, names(&driver.Subscription{Topics: []string{string(make([]byte, 250))}}), driver.ErrUnroutable)
	require.NoError(t, names(&driver.Subscription{Topics: []string{"orders"}, Group: "billing"}))
	require.Equal(t, int64(1), ttl(time.Nanosecond), "not before its delay")
	require.Equal(t, time.Second, tier([]time.Duration{time.Minute, time.Second, time.Millisecond}, 500*time.Millisecond))
	require.Equal(t, time.Duration(-1), tier([]time.Duration{time.Second}, time.Minute))
}
