package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

type membership struct{ sarama.ConsumerGroupSession }

func (membership) MemberID() string    { return "m" }
func (membership) GenerationID() int32 { return 1 }

type connections struct{ sarama.Client }

func (connections) Config() *sarama.Config { return sarama.NewConfig() }

// A member takes a partition over, reads some of what its former owner wrote
// down, settles some of that, and has to give it away again. What it writes down
// says all that is known, also of what it has not read.
func TestACommitForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const from, to = 100, 160
		r := &receiver{room: memoRoom, client: connections{}, group: &members{}, broker: &broker{closed: true}, woken: make(chan struct{}, 1)}
		c := claimOf(r, from)
		c.session = membership{}
		c.before.notes = make(map[int64]driver.Note)
		settled, noted := make(map[int64]bool), make(map[int64]int)
		for o := int64(from + 1); o < to; o++ {
			switch rapid.SampledFrom([]string{"settled", "settled", "noted", "open"}).Draw(t, "state") {
			case "settled":
				settled[o] = true
				c.before.done = append(c.before.done, span{o, o + 1})
			case "noted":
				noted[o] = int(o)
				c.before.notes[o] = driver.Note{Attempts: int(o), NotBefore: time.UnixMilli(1), FirstSeen: time.UnixMilli(1)}
			}
		}
		r.sure = time.Now().Add(time.Hour)
		read := rapid.Int64Range(from, to).Draw(t, "read")
		c.add(records(from, read))
		if ds, _, _ := r.take(to); len(ds) > 0 {
			for _, d := range ds {
				if x := d.Handle.(*ticket); rapid.Bool().Draw(t, "settles") {
					settled[x.record.Offset] = true
					delete(noted, x.record.Offset)
					_, _, err := r.settle([]driver.Settlement{{Delivery: d, Action: driver.Ack}})
					require.NoError(t, err)
				}
			}
		}
		r.mu.Lock()
		c.revoke()
		r.mu.Unlock()
		_, q, sent := r.request([]*claim{c})
		if len(sent) == 0 { // what the former owner wrote stays
			require.Zero(t, c.changes)
			return
		}
		at, text, err := q.Offset("t", 0)
		require.NoError(t, err)
		require.Equal(t, c.done.Frontier(), at)
		for o := int64(from); o < at; o++ {
			require.True(t, settled[o], "the position is beyond %d", o)
		}
		m, _ := decodeMemo(at, text)
		for o := at; o < to; o++ {
			require.Equal(t, settled[o], m.settled(o), "%d is settled", o)
			require.Equal(t, noted[o], m.notes[o].Attempts, "attempts of %d", o)
		}
		require.False(t, c.overflow)
	})
}
