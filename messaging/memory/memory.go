// Package memory is a message broker inside the process: for tests, examples,
// and programs that are one process on purpose. It behaves like the brokers
// that packages beside it connect to: partitions, consumer groups that share
// them and rebalance, positions that are committed, delayed redelivery that
// keeps a key's order. It runs on the clock of testing/synctest.
//
// # Delivery
//
// At least once while the process lives; nothing survives it. A message stays
// until every group of its topic has settled it and the space is needed: a
// group that is new begins at the oldest message still there. Declare a group
// (messaging.Consumer.Declare) to make everything wait for it.
//
// # Ordering
//
// A topic has Options.Partitions partitions; a key always falls into the same
// one. Messages of one key reach one member of a group at a time, in the order
// of publishing. Messages without key go to the partitions in turn.
//
// # Redelivery
//
// What a member did not settle when it leaves is delivered to the others, with
// the attempt counted. When members come or go, partitions move; a moved
// partition waits until its former owner has given back what it held, at most
// for the Drain of that owner's consumer. A retried message waits here for its
// delay, and its key with it.
//
// # Unsupported
//
// Durability. Browsing.
package memory

import (
	"github.com/mainstay-go/mainstay/messaging"
)

// Options are the settings of a broker in memory.
type Options struct {
	// Messaging are the options of every broker. Topology counts as Declare:
	// nobody else could make the topics.
	Messaging messaging.Options
	// Partitions is the number of partitions of a topic, the most members of
	// a group that can work at a time. Default: 8.
	Partitions int
	// MaxBytes bounds what the broker holds, bodies, headers and 128 bytes
	// per message. When it is full and nothing held is settled by all groups,
	// publishing fails with an error that says who is behind. Default: 64 MiB.
	MaxBytes int
}

// New returns an empty broker. It starts no goroutine. o may be nil; negative
// settings count as 0.
func New(o *Options) *messaging.Broker {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Partitions <= 0 {
		opts.Partitions = 8
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = 64 << 20
	}
	opts.Messaging.Topology = messaging.Declare
	return messaging.NewBroker(newBroker(opts), &opts.Messaging)
}
