package concurrency

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic that happened in a function run by this package. It is
// the value of the panic in the caller of [Map], [Gather] and the like, and the
// error in the slot of [MapAll] and [GatherAll].
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	// Stack is the stack of the goroutine that panicked, as [debug.Stack]
	// formats it. It is not to be modified.
	Stack []byte
}

// Error returns the panic's value followed by the stack it happened on, since
// the re-panic in the caller would otherwise show only the caller's.
func (e *PanicError) Error() string {
	return fmt.Sprintf("concurrency: panic: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// newPanicError must be called by the deferred function that recovered v, while
// the frames of the panic are still on the stack.
func newPanicError(v any) *PanicError {
	if e, ok := v.(*PanicError); ok {
		return e // a nested call already knows where it happened
	}
	return &PanicError{Value: v, Stack: debug.Stack()}
}
