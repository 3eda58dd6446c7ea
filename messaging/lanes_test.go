package messaging

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// A Receive that was under way while a retry was settled may still bring
// messages that the retry has overtaken. The key's lane must be remembered for
// them, though it is empty, and be forgotten after.
func TestLaneIsKeptForAReceiveUnderWay(t *testing.T) {
	l := newLanes(&ConsumerOptions{Prefetch: 10}, 100)
	of := func(id string, turn uint64) []*item {
		return []*item{{raw: driver.Delivery{Message: driver.Message{ID: id, Topic: "t", Key: "k"}, Lane: "t/0", Turn: turn}}}
	}
	take := func(id string, back bool) *lane {
		x := <-l.ready
		it, b := l.head(x)
		require.Equal(t, id, it.raw.ID)
		require.Equal(t, back, b)
		return x
	}
	l.dispatch(of("1", 1), l.ask())
	x := take("1", false)
	under := l.ask()
	l.away()
	l.back(x)
	l.settled(l.all[0])
	require.Len(t, l.by, 1)

	l.dispatch(of("2", 1), under)
	x = take("2", true)
	l.next(x)
	l.settled(l.all[1])

	l.dispatch(append(of("1", 2), of("2", 2)...), l.ask())
	x = take("1", false)
	l.next(x)
	x = take("2", false)
	l.next(x)
	l.settled(l.all[2:]...)
	require.Empty(t, l.by)
	require.Empty(t, l.lingering)
	require.Zero(t, l.held)
	require.Zero(t, l.running())

	l.dispatch(of("3", 3), l.ask())
	x = take("3", false)
	under = l.ask()
	l.away()
	l.back(x)
	l.dispatch(nil, under) // which brought nothing
	require.Empty(t, l.by)
	require.Empty(t, l.lingering)
}

// What one message that waits has behind it is not remembered for ever.
func TestOldestIsFoundAndTheOthersForgotten(t *testing.T) {
	l := newLanes(&ConsumerOptions{Prefetch: 10}, 100_000)
	require.Zero(t, l.oldest())
	since := time.Now()
	stuck := &item{since: since, raw: driver.Delivery{Message: driver.Message{Topic: "t", Key: "stuck"}}}
	l.dispatch([]*item{stuck}, l.ask())
	require.Equal(t, since, l.oldest())
	for range 10_000 {
		it := &item{since: since.Add(time.Second), raw: driver.Delivery{Message: driver.Message{Topic: "t"}}}
		l.dispatch([]*item{it}, l.ask())
		l.settled(it)
	}
	require.Equal(t, since, l.oldest())
	require.Less(t, len(l.all), 100)
	l.settled(stuck)
	require.Zero(t, l.oldest())
}
