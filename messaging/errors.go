package messaging

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mainstay-go/mainstay/messaging/driver"
)

// What callers branch on, with errors.Is.
var (
	// ErrUnknown: the broker's confirmation did not arrive, so it may hold the
	// message or not. Publish the same message again: its ID makes it the
	// same one to every inbox.
	ErrUnknown = driver.ErrUnknown
	// ErrUnroutable: the topic does not exist, or nothing is bound to it.
	ErrUnroutable = driver.ErrUnroutable
	// ErrTooLarge: the message is larger than the broker takes.
	ErrTooLarge = driver.ErrTooLarge
	// ErrRevoked is the context.Cause of a handler whose message moved to
	// another consumer: its result is no longer asked for.
	ErrRevoked = driver.ErrRevoked
	// ErrConfig: settings that contradict each other or the broker, or
	// arguments no message can be made of. The text says which and what to do.
	ErrConfig = errors.New("configuration")
)

// Error is what this package's functions return, errors of handlers apart.
type Error struct {
	// Op is what failed: publish, consume, declare, verify, health, close.
	Op string
	// Topic it failed for; empty if there are several or none.
	Topic string
	// Group it failed for; empty when publishing.
	Group string
	// Unsent are the messages not known to be held, after a failed publish:
	// the caller's own, with the IDs they were given, in their order. To try
	// again, publish them.
	Unsent []*Message
	// Err is the cause; a client library's errors are reachable through it.
	Err error
}

// Error says what failed, where and why.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("messaging: ")
	b.WriteString(e.Op)
	if e.Topic != "" {
		fmt.Fprintf(&b, " %q", e.Topic)
	}
	if e.Group != "" {
		fmt.Fprintf(&b, " group %q", e.Group)
	}
	if n := len(e.Unsent); n > 1 {
		fmt.Fprintf(&b, ": %d messages not held", n)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func configf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}
