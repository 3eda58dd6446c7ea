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
// settled and no further, and within a second says what is settled beyond it. So
// a crash never skips anything, and delivers again what was handled in that
// second; who leaves in peace, or gives a partition away, says all. A group that
// is new to a topic, or whose position has been deleted by retention, begins at
// the oldest message there is.
//
// Message.Time is the record's timestamp, by which Kafka deletes: to publish events
// that are older than the topic's retention.ms, make the topic with
// message.timestamp.type=LogAppendTime. Retries and dead letters age from when they
// are copied.
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
// retry waits in the consumer: it holds the message, its key waits, the others
// go on, and the partition's committed position stays before it. What the
// position cannot say is written into the text that Kafka keeps beside it: how
// often each waiting message was tried, until when it waits, and what is settled
// beyond it. So the next owner, also after a crash, goes on with the same count
// and at the same time, and gets only what was not settled. The text has room for
// some 250 waiting messages of a partition and as many gaps between what is
// settled (offset.metadata.max.bytes, 4096 bytes); of what does not fit, attempts
// are counted anew and settled messages come again. When 262144 messages of a
// partition lie beyond one that waits, or 16384 where they do not fit into the
// text, reading the partition pauses.
//
// For unordered groups a retry waits in a topic of the group, one for each delay
// of the RetryPolicy: "orders.billing.retry-10s". It is a copy, confirmed before
// the original is acknowledged, and comes back from there, however many wait. What
// is too large to be copied, since other producers may do more, waits as with order.
// Consumer.Declare makes these topics. Lag does not count what is in them. Those of
// former delays are read too, also by a group that asks for order now, if they exist
// when a member begins: delete them when nothing waits there, at the latest when
// there are more than 32 for a topic.
//
// Rebalances are cooperative:
// only the partitions that move are interrupted. Their handlers are told
// (messaging.ErrRevoked), have a while to give back what they hold, and what
// was settled before is committed before the next owner begins. A member that
// dies is noticed after Sarama.Consumer.Group.Session.Timeout, 10 s. One that is
// cut off for so long, or stands still, begins no handler of what it holds, and
// hands out nothing more of what it has fetched, until the group's coordinator has
// answered it: others may have its partitions. What was begun before may overlap
// with the next owner's.
//
// # Unsupported
//
// Transactions. Compacted deletes: an empty body is an empty value, never a
// tombstone. Topics of one broker with different
// numbers of partitions: declare those elsewhere.
package kafka
