// Package kafka connects package messaging to Apache Kafka, with the client
// github.com/IBM/sarama.
//
//	broker, err := kafka.Open(ctx, []string{"localhost:9092"}, nil)
//
// The broker that Open returns is used as any other: see package messaging.
// Messages are laid out as docs/wire.md says.
//
// # Delivery
//
// At least once. The producer is idempotent and waits for all in-sync
// replicas; the messages of one Publish travel together. A send whose
// confirmation does not come in time is messaging.ErrUnknown: it may be in the
// log. A consumer commits, in a partition, up to the first message that is not
// settled and no further, so a crash delivers again what was handled beyond it
// and never skips anything. A group that is new to a topic, or whose position
// has been deleted by retention, begins at the oldest message there is.
//
// # Ordering
//
// A key always falls into the same partition, and a partition belongs to one
// member of a group at a time. The partition is that of Kafka's own clients
// (murmur2 of the key), so that producers in other languages agree. Messages
// without key are spread. Adding partitions to a topic moves its keys: do it
// when the topic is drained.
//
// # Redelivery
//
// Kafka keeps a position for each partition and no state for a message, so a
// retry waits in the consumer, as messaging.RetryPolicy says: it holds the
// message, its key waits, the partition's committed position stays before it,
// and a restart begins the count of attempts again. When 16384 messages of a
// partition lie beyond one that waits, reading the partition pauses: that many,
// at most, are delivered again after a crash. Rebalances are cooperative:
// only the partitions that move are interrupted. Their handlers are told
// (messaging.ErrRevoked), have a while to give back what they hold, and what
// was settled before is committed before the next owner begins. A member that
// dies is noticed after Sarama.Consumer.Group.Session.Timeout, 10 s.
//
// # Unsupported
//
// Transactions. Delays and attempt counts that outlive the process: the front
// holds what is retried. Compacted deletes: an empty body
// is an empty value, never a tombstone. Topics of one broker with different
// numbers of partitions: declare those elsewhere.
package kafka
