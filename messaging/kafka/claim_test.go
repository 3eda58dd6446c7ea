package kafka

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/internal/frontier"
)

// members is a group of a test: what it is asked to pause and to resume.
type members struct {
	sarama.ConsumerGroup
	asked []string
}

func (m *members) Pause(p map[string][]int32)  { m.asked = append(m.asked, fmt.Sprint("pause ", p)) }
func (m *members) Resume(p map[string][]int32) { m.asked = append(m.asked, fmt.Sprint("resume ", p)) }

// claimOf returns a claim of r on partition 0 of topic "t" that begins at offset.
func claimOf(r *receiver, offset int64) *claim {
	c := &claim{
		receiver: r, topic: "t", lost: make(chan struct{}), idle: make(chan struct{}), room: make(chan struct{}, 1),
		done: frontier.New(offset, 0), next: offset, committed: offset, notes: make(map[int64]driver.Note),
	}
	r.claims = append(r.claims, c)
	return c
}

// records are those with the offsets from to before to.
func records(from, to int64) (all []*sarama.ConsumerMessage) {
	for o := from; o < to; o++ {
		all = append(all, &sarama.ConsumerMessage{Topic: "t", Offset: o})
	}
	return all
}

// Who hears ErrRevoked because the session has ended may look at Lost at once.
// That the client ends the claim later changes nothing.
func TestAnAbandonedClaimIsLost(t *testing.T) {
	r := &receiver{}
	c, other := claimOf(r, 0), claimOf(r, 0)
	r.abandon(map[*claim]word{c: {}})
	for range 2 {
		select {
		case <-c.lost:
		default:
			t.Fatal("it is not lost")
		}
		require.Equal(t, []*claim{other}, r.claims, "nothing more is handed out")
		c.revoke()
	}
}

// The client remembers that a partition is paused beyond the end of a claim, and
// the next claim on it knows of no pause.
func TestAPauseEndsWithItsClaim(t *testing.T) {
	group := &members{}
	r := &receiver{group: group, woken: make(chan struct{}, 1)}
	c := claimOf(r, 0)
	large := records(0, 1)
	large[0].Value = make([]byte, mostBytes)
	c.add(large)
	require.Equal(t, []string{"pause map[t:[0]]"}, group.asked)
	r.abandon(map[*claim]word{c: {}})
	require.Equal(t, []string{"pause map[t:[0]]", "resume map[t:[0]]"}, group.asked)

	next := claimOf(r, 0)
	next.add(records(0, most))
	group.asked = nil
	require.Zero(t, c.add(records(most, 2*most)), "what the client still had is not kept")
	c.flow() // a commit was answered late
	require.Empty(t, group.asked, "a claim that ended pauses and resumes nothing")
	require.True(t, next.paused)
}

// What a partition may hold in memory counts headers, and what a record costs
// that has nothing in it.
func TestFetchingPausesByBytes(t *testing.T) {
	for name, of := range map[string]func(*sarama.ConsumerMessage){
		"values": func(m *sarama.ConsumerMessage) { m.Value = make([]byte, mostBytes/100) },
		"headers": func(m *sarama.ConsumerMessage) {
			m.Headers = []*sarama.RecordHeader{{Value: make([]byte, mostBytes/100)}}
		},
		"names": func(m *sarama.ConsumerMessage) {
			m.Headers = []*sarama.RecordHeader{{Key: make([]byte, mostBytes/100)}}
		},
		"many": func(m *sarama.ConsumerMessage) {
			m.Headers = slices.Repeat([]*sarama.RecordHeader{{}}, mostBytes/100/50)
		},
	} {
		t.Run(name, func(t *testing.T) {
			group := &members{}
			r := &receiver{group: group, woken: make(chan struct{}, 1), sure: time.Now().Add(time.Hour)}
			all := records(0, 101)
			for _, m := range all {
				of(m)
			}
			claimOf(r, 0).add(all)
			require.Len(t, group.asked, 1)
			_, _, err := r.take(len(all))
			require.NoError(t, err)
			require.Equal(t, []string{"pause map[t:[0]]", "resume map[t:[0]]"}, group.asked)
		})
	}
	group := &members{}
	r := &receiver{group: group, woken: make(chan struct{}, 1)}
	claimOf(r, 0).add(records(0, most-1))
	require.Empty(t, group.asked, "as many as there may be, of nothing")
}
