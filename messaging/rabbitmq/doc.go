// Package rabbitmq connects package messaging to RabbitMQ, with the client
// github.com/rabbitmq/amqp091-go.
//
//	broker, err := rabbitmq.Open(ctx, "amqp://guest:guest@localhost:5672/", nil)
//
// The broker that Open returns is used as any other: see package messaging.
// Messages are laid out as docs/wire.md says.
//
// # Delivery
//
// At least once. Messages are persistent, queues are quorum queues, and
// Publish waits for the server's confirmation, of all messages of a call at
// once. A message that no queue takes comes back and is
// messaging.ErrUnroutable: declare groups (messaging.Consumer.Declare) before
// publishing. A confirmation that does not come, because the connection broke
// or the context ended, is messaging.ErrUnknown. Connections are made anew for
// as long as the context of a call allows; those that publish and those that
// consume are apart, because the server stops reading from publishers when it
// is short of memory or disk. Publish then waits, and says why when its context
// ends. The server does not confirm acks: what was acked just before a
// connection broke may come again.
//
// # Ordering
//
// A topic is an exchange. An ordered group has Options.Partitions queues for
// it, each with a single active consumer; a key always falls into the same
// queue. Members of a group tell each other that they are there, over the
// exchange "mainstay.members", and share the queues; a queue that moves waits
// until its former owner has given back what it held, at most for the Drain of
// its consumer. A member that dies gives its queues up when the server notices,
// at once or after the heartbeat timeout, and others take them within some
// 3 s. Up to 256 messages of a queue are out at a time.
//
// An unordered group has one queue for each topic, and any number of members.
// A group cannot be turned from one into the other, or get another number of
// partitions, under the same name: that is refused.
//
// # Redelivery
//
// For unordered groups a retry waits at the server, in a queue for each delay
// of the RetryPolicy, with its attempts counted in a header: it outlives the
// consumer. While the server takes nothing, because it is short of memory or
// disk, acks go on and such a retry waits in the consumer, as one of its
// prefetch: should that end meanwhile, the message comes again at once, and the
// attempt does not count.
//
// The server cannot hold a key back, so where order is kept a retry waits in
// the consumer: its key waits, the others go on, as long as no more than 256
// messages of a queue wait, or wait behind one. How often it was tried and
// until when it waits is written to a stream beside the queue, where the next
// consumer finds it, also after a crash, by the ID of the message. Delays above
// the server's consumer_timeout, 30 minutes by default, make it close the
// consumer.
//
// RabbitMQ counts a delivery whenever a connection ends, also in a restart, so
// that count is not used, but for a last resort: what was handed out 100 times
// and never settled goes to the dead-letter topic, with that as its evidence.
// A dead letter that no group takes is kept in the queue "<topic>.unclaimed".
//
// # Permissions
//
// Consumers configure, write and read "mainstay.members" and a queue of their
// own that the server names, "amq.gen-…"; members publish to it on the
// broker's connection. Who may also configure the queues of a group refuses
// them if they were made otherwise than Consumer.Declare makes them, without
// order for instance; others learn only whether they are there.
//
// # Unsupported
//
// Delivery of what was published before a group was declared: a queue is not a
// log. Lag: AMQP does not tell what is handed out and not settled. Priorities,
// transactions, classic queues. A message without message-id gets another ID
// at every delivery, since a queue has no positions: an inbox cannot know it,
// nor can who counts its attempts after a crash.
package rabbitmq
