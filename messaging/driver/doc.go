// Package driver holds the interfaces that an adapter for a message broker
// implements. Programs use package messaging; only adapters, and packages
// that need an optional ability of a broker, come here.
//
// The split of work is fixed. The front, package messaging, makes message
// IDs, injects and extracts trace context, measures, wraps errors, runs
// handlers, decides about retries and dead letters, and keeps order by key
// within what a [Receiver] hands out. A driver moves bytes: it maps the
// fields of a [Message] onto its broker as docs/wire.md says, returns its
// client's errors as they are (wrapped with %w, so that they stay reachable),
// and neither retries, traces nor logs. What the front keeps across
// deliveries (attempts, first-seen time, origin, last error) travels in
// reserved headers that a driver treats like any other header.
//
// # What a driver promises
//
//   - Publish reports a message as held only when the broker holds it as
//     durably as it ever will; where the confirmation was lost it says
//     [ErrUnknown].
//   - Every held message is delivered to every group at least once. What is
//     handed out and never settled is handed out again after its receiver
//     closes, dies or loses it.
//   - With Capabilities.KeyOrder, messages of one topic and key are handed
//     out in the order in which they were published, to one receiver of a
//     group at a time, however many receivers the group has.
//   - With Capabilities.Replay, a group that is new to a topic begins at the
//     oldest message there is; without it, at what follows its declaration.
//   - A message that cannot be mapped back (no ID, a foreign producer's
//     headers) is still delivered, with what is known.
//
// Package messagingtest checks all of it: see TestBroker.
package driver
