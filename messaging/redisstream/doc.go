// Package redisstream connects package messaging to Redis streams, with the
// client github.com/redis/go-redis.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	broker, err := redisstream.Open(ctx, client, nil)
//
// The broker that Open returns is used as any other: see package messaging.
// Messages are laid out as docs/wire.md says. A topic is Options.Partitions
// streams and a small hash that says how many; one that is missing is
// messaging.ErrUnroutable, and is never made by publishing.
//
// # Delivery
//
// At least once. Publish returns nil when the server has answered for the
// message. How much of that a crash of the server takes is the server's
// setting, not ours: nothing with "appendonly yes" and "appendfsync always";
// about the last second with "everysec"; everything since the last snapshot
// without an append-only file. Consumer.Guarantee says which, if the server
// tells (CONFIG GET). A replica that is promoted may lack what its master confirmed last,
// since replication is asynchronous. A message whose answer was lost with the
// connection is messaging.ErrUnknown: the client does not send it again by
// itself. A server at its maxmemory refuses, with an error that says so, and
// Open refuses a server whose maxmemory-policy evicts messages.
//
// A message stays until every group has settled it, and Options.Retain has
// passed; a group that nobody consumes any more keeps everything: drop it with
// XGROUP DESTROY. A group that is new begins at the oldest message still there.
//
// # Ordering
//
// A key always falls into the same stream, that of FNV-1a (32 bits) of the key
// modulo the number of partitions. A stream has one owner in a group at a
// time: a key in Redis, beside the stream, with the owner's token and a lease.
// Members share the streams. A settlement is a script that compares the token
// first; a read names, beside the stream, an empty one that expires with the
// lease, without which Redis refuses it. So a member that stood still beyond its
// lease can neither read nor settle. It stops by itself when four fifths of the
// lease have passed without a renewal.
//
// # Redelivery
//
// What is read stands in the group's pending list until it is settled. Leases
// are renewed in the background, however long handlers take. When an owner
// leaves, or dies, which is noticed after Options.Lease, the next one takes the
// pending list over before it reads on; consumers with nothing left are
// deleted. Attempts are the list's delivery count, which also counts what a
// dying owner had read and not begun, but not answers that did not arrive. A
// retried message keeps its place: when
// it is due is in a sorted set, its new headers in a hash, both beside the
// stream, and its key waits, also across a crash. When 8192 messages, or
// 32 MiB, of a stream wait in a member it reads no further. A read asks for as many
// messages as make 4 MiB, going by the sizes of the last; what does not arrive
// within the client's ReadTimeout is asked for again one message at a time, so
// that must suffice for the largest.
//
// # Unsupported
//
// Redis before 7.0. More members at work than a topic has partitions. Changing
// a topic's number of partitions. Other programs that read in the same group.
// Delivery.Native. Clocks: leases, delays and the ages of Lag are the server's;
// a server clock that is set back makes them longer.
//
// On a cluster all of a stream's keys share a slot. There an idle member looks
// 50 times a second for messages, where a single server wakes it.
package redisstream
