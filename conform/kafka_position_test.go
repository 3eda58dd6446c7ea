package conform_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/driver"
	"github.com/mainstay-go/mainstay/messaging/kafka"
)

// group is one group on a topic "t" of one partition, in a cluster of its own.
type group struct {
	*testing.T
	ctx     context.Context
	cluster *kfake.Cluster
	broker  *messaging.Broker
}

func newGroup(t *testing.T) *group {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	b, err := kafka.Open(ctx, cluster.ListenAddrs(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close(context.Background())) })
	return &group{t, ctx, cluster, b}
}

// publish makes the messages from to before to, whose IDs are these numbers.
func (g *group) publish(from, to int) {
	g.Helper()
	msgs := make([]driver.Message, 0, to-from)
	for i := from; i < to; i++ {
		msgs = append(msgs, driver.Message{ID: fmt.Sprint(i), Topic: "t", Time: time.Now()})
	}
	require.NoError(g, errors.Join(g.broker.Driver().Publish(g.ctx, msgs)...))
}

func (g *group) join() driver.Receiver {
	g.Helper()
	r, err := g.broker.Driver().Subscribe(g.ctx, driver.Subscription{Topics: []string{"t"}, Group: "g", Prefetch: 100, Drain: time.Second})
	require.NoError(g, err)
	return r
}

// receive settles whatever comes, until the message with the ID last has.
func (g *group) receive(r driver.Receiver, last int) (ids []string) {
	g.Helper()
	for {
		ds, err := r.Receive(g.ctx, 100)
		require.NoError(g, err, "%d messages came", len(ids))
		s := make([]driver.Settlement, 0, len(ds))
		for _, d := range ds {
			ids = append(ids, d.ID)
			s = append(s, driver.Settlement{Delivery: d, Action: driver.Ack})
		}
		require.NoError(g, r.Settle(g.ctx, s))
		if ids[len(ids)-1] == fmt.Sprint(last) {
			return ids
		}
	}
}

// commit makes the group's position, and the text beside it.
func (g *group) commit(position int64, text string) {
	g.Helper()
	client, err := sarama.NewClient(g.cluster.ListenAddrs(), sarama.NewConfig())
	require.NoError(g, err)
	defer client.Close()
	coordinator, err := client.Coordinator("g")
	require.NoError(g, err)
	q := &sarama.OffsetCommitRequest{Version: 7, ConsumerGroup: "g", ConsumerGroupGeneration: -1}
	q.AddBlockWithLeaderEpoch("t", 0, position, -1, 0, text)
	answer, err := coordinator.CommitOffset(q)
	require.NoError(g, err)
	require.Equal(g, sarama.ErrNoError, answer.Errors["t"][0])
}

func numbers(spans ...[2]int) (ids []string) {
	for _, s := range spans {
		for i := s[0]; i < s[1]; i++ {
			ids = append(ids, fmt.Sprint(i))
		}
	}
	return ids
}

// What stands beside a position is of that position in that log. A topic that
// was deleted and made anew begins at 0 again, and MirrorMaker copies the text to
// the position that it has computed for the other cluster.
func TestKafkaTextBesideAnotherPosition(t *testing.T) {
	// The 99 messages behind the one the position is at are settled: docs/wire.md.
	rest := []byte{0, 0, 0, 1, 99}
	of900 := "mainstay2:" + base64.RawStdEncoding.EncodeToString(append(binary.AppendVarint(nil, 900), rest...))
	former := "mainstay1:" + base64.RawStdEncoding.EncodeToString(rest) // which did not say of which position it is
	t.Run("beside its own", func(t *testing.T) {
		g := newGroup(t)
		g.publish(0, 1100)
		g.commit(900, of900)
		require.Equal(t, numbers([2]int{900, 901}, [2]int{1000, 1100}), g.receive(g.join(), 1099))
	})
	for name, text := range map[string]string{"this form": of900, "former form": former} {
		t.Run("the log was made anew/"+name, func(t *testing.T) {
			g := newGroup(t)
			g.publish(0, 500)
			g.commit(900, text)
			r := g.join()
			ids := g.receive(r, 499)
			g.publish(500, 1100)
			require.Equal(t, numbers([2]int{0, 1100}), append(ids, g.receive(r, 1099)...))
		})
		t.Run("it was copied to another/"+name, func(t *testing.T) {
			g := newGroup(t)
			g.publish(0, 1100)
			g.commit(600, text)
			require.Equal(t, numbers([2]int{600, 1100}), g.receive(g.join(), 1099))
		})
	}
}

// What is settled beyond a message that takes long is written down though
// nothing else is settled any more, and although the group does not hear at once.
func TestKafkaTextOfWhatIsSettledBeyond(t *testing.T) {
	for _, refusals := range []int{0, 4} {
		t.Run(fmt.Sprint(refusals, " commits are refused"), func(t *testing.T) {
			g := newGroup(t)
			g.publish(0, 3)
			r := g.join()
			var ds []driver.Delivery
			for len(ds) < 3 {
				more, err := r.Receive(g.ctx, 3)
				require.NoError(t, err)
				ds = append(ds, more...)
			}
			settle := func(d driver.Delivery) {
				require.NoError(t, r.Settle(g.ctx, []driver.Settlement{{Delivery: d, Action: driver.Ack}}))
			}
			settle(ds[0])
			if refusals > 0 {
				g.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: refusals})
			}
			settle(ds[2])
			admin, err := sarama.NewClusterAdmin(g.cluster.ListenAddrs(), sarama.NewConfig())
			require.NoError(t, err)
			defer admin.Close()
			// At 1, no times, no texts, no notes; one is open and one is settled.
			want := "mainstay2:" + base64.RawStdEncoding.EncodeToString([]byte{1 << 1, 0, 0, 0, 1, 1})
			var block *sarama.OffsetFetchResponseBlock
			require.Eventually(t, func() bool {
				all, err := admin.ListConsumerGroupOffsets("g", map[string][]int32{"t": {0}})
				if err != nil {
					return false
				}
				block = all.GetBlock("t", 0)
				return block.Metadata != ""
			}, 20*time.Second, 50*time.Millisecond, "nobody would know after a crash")
			require.EqualValues(t, 1, block.Offset)
			require.Equal(t, want, block.Metadata)
		})
	}
}
