package kafka

import (
	"time"

	"github.com/IBM/sarama"
)

// The clients of a broker. One connection of sarama carries one request at a
// time, and a fetch or a join may wait long: so what must be answered at once
// (positions, topics, health) has a client of its own, and so has every member
// of a group.

// common returns a copy of c with what all clients need.
func common(c *sarama.Config) *sarama.Config {
	out := *c
	unlessSet(&out.Net.DialTimeout, 30*time.Second, 5*time.Second)
	unlessSet(&out.Net.ReadTimeout, 30*time.Second, 15*time.Second)
	unlessSet(&out.Net.WriteTimeout, 30*time.Second, 15*time.Second)
	// Topics are declared or refused by name, never made by asking for them.
	out.Metadata.AllowAutoTopicCreation = false
	out.Metadata.Full = false
	return &out
}

// controlConfig is for requests whose caller waits and decides.
func controlConfig(c *sarama.Config) *sarama.Config {
	out := common(c)
	out.Metadata.Retry.Max, out.Metadata.Retry.Backoff, out.Metadata.Retry.BackoffFunc = 1, 100*time.Millisecond, nil
	return out
}

func producerConfig(c *sarama.Config) *sarama.Config {
	out := common(c)
	p := &out.Producer
	p.Idempotent, p.RequiredAcks, out.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	p.Transaction.ID = ""
	p.Return.Successes, p.Return.Errors = true, true
	p.Partitioner = sarama.NewMurmur2Partitioner
	p.Retry.Max, p.Retry.Backoff, p.Retry.BackoffFunc = 1000, 50*time.Millisecond, nil
	// Three failed look-ups of a leader open sarama's circuit breaker for 10 s,
	// in which everything fails: a look-up must outlast an outage.
	out.Metadata.Retry.Max, out.Metadata.Retry.Backoff, out.Metadata.Retry.BackoffFunc = 600, 100*time.Millisecond, nil
	return out
}

// margin is kept between the end of a drain and the group's rebalance timeout,
// at which the broker expels the member: room for the last commit and the join.
const margin = 10 * time.Second

func groupConfig(c *sarama.Config, drain time.Duration) *sarama.Config {
	out := common(c)
	k := &out.Consumer
	k.Return.Errors = true
	// A claim that begins while its partition has no leader waits for the next
	// refresh of the metadata, which nobody asks for: its other partitions are
	// well. Ten minutes would be a stall.
	unlessSet(&out.Metadata.RefreshFrequency, 10*time.Minute, 10*time.Second)
	unlessSet(&k.MaxWaitTime, 500*time.Millisecond, 100*time.Millisecond)
	unlessSet(&k.Retry.Backoff, 2*time.Second, 250*time.Millisecond)
	k.Offsets.Initial = sarama.OffsetOldest
	k.Offsets.AutoCommit.Enable = false // the receiver commits
	g := &k.Group
	g.ResetInvalidOffsets = true
	g.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	g.Rebalance.Strategy = nil // it would win over GroupStrategies
	unlessSet(&g.Heartbeat.Interval, 3*time.Second, 500*time.Millisecond)
	unlessSet(&g.Rebalance.Retry.Backoff, 2*time.Second, 100*time.Millisecond)
	g.Rebalance.Retry.Max = max(g.Rebalance.Retry.Max, 20)
	g.Rebalance.Timeout = max(g.Rebalance.Timeout, drain+margin)
	// A join is answered when the slowest member has joined.
	out.Net.ReadTimeout = max(out.Net.ReadTimeout, g.Rebalance.Timeout+5*time.Second)
	// Each heartbeat that fails looks for the coordinator this often, and this
	// many heartbeats may fail: a session survives a restart of the broker.
	out.Metadata.Retry.Max, out.Metadata.Retry.Backoff, out.Metadata.Retry.BackoffFunc = 20, 100*time.Millisecond, nil
	return out
}

// unlessSet replaces the client's default, and leaves what a program chose.
func unlessSet(v *time.Duration, def, ours time.Duration) {
	if *v == def {
		*v = ours
	}
}
