// Package wire holds the names of the wire contract, docs/wire.md: what other
// services read in our messages, and what old and new versions of a service
// agree on. A name here never changes its meaning.
package wire

import "strings"

// Prefix begins every header name that is Mainstay's own.
const Prefix = "mainstay-"

// Headers of the front. They travel like any other header, on every broker.
const (
	// Attempts is the number of deliveries that Group has used up, decimal.
	Attempts = "mainstay-attempts"
	// FirstSeen is when Group got the message first, RFC 3339 with nanoseconds.
	FirstSeen = "mainstay-first-seen"
	// Origin is the topic the message was first published to.
	Origin = "mainstay-origin"
	// Group is the consumer group that wrote Attempts, FirstSeen and Error.
	Group = "mainstay-group"
	// Error is the text of the last error, cut to MaxError bytes.
	Error = "mainstay-error"
	// ErrorClass names the kind of the last error: timeout, panic,
	// undecodable, attempts, or the error's Go type.
	ErrorClass = "mainstay-error-class"
	// Dead is when the message became a dead letter, RFC 3339 with
	// nanoseconds. Present on dead letters only.
	Dead = "mainstay-dead"
	// TraceParent and TraceState are W3C Trace Context.
	TraceParent = "traceparent"
	// TraceState: see TraceParent.
	TraceState = "tracestate"
)

// Headers that drivers write where the broker has no place of its own.
const (
	// ID is Message.ID.
	ID = "mainstay-id"
	// Key is Message.Key, where the broker has no key.
	Key = "mainstay-key"
	// ContentType is Message.ContentType, named as CloudEvents names it in
	// the Kafka binding.
	ContentType = "content-type"
	// Schema is Message.Schema.
	Schema = "mainstay-schema"
	// Time is Message.Time, RFC 3339 with nanoseconds, UTC.
	Time = "mainstay-time"
)

// Limits of what the front writes, in bytes.
const (
	// MaxError bounds the value of Error.
	MaxError = 512
	// MaxClass bounds the value of ErrorClass.
	MaxClass = 128
	// Reserve is the room the front leaves under a broker's message limit, so
	// that what could be published can also be retried and dead-lettered.
	Reserve = 2048
)

// Reserved reports whether a header of this name is Mainstay's own, which a
// caller may not set.
func Reserved(key string) bool { return strings.HasPrefix(key, Prefix) }
