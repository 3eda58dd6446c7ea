package featurestore

import (
	"errors"
	"strings"
)

var (
	// ErrDefinition says that a view, windows, transform or service is defined
	// wrongly. It is reported by Err and by every use of the definition.
	ErrDefinition = errors.New("invalid definition")
	// ErrFingerprint says that a stored row was written under another layout of
	// its definition. Give the changed definition a new name (profile_v2), or
	// write the row again.
	ErrFingerprint = errors.New("row written under another definition")
	// ErrNoOffline says that the operation needs an offline store and the Store
	// was made without one.
	ErrNoOffline = errors.New("store has no offline store")
)

// Error says which definition, feature and key an operation failed on.
type Error struct {
	// Definition is the name of the view, windows, transform or service.
	Definition string
	// Feature is the field concerned; empty where it is the whole.
	Feature string
	// Key is the encoded entity key; empty where no single one is concerned.
	Key string
	// Err is the cause, found by errors.Is and errors.As.
	Err error
}

// Error returns the text, prefixed with the package's name once.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("featurestore")
	if e.Definition != "" {
		b.WriteString(": " + e.Definition)
	}
	if e.Feature != "" {
		b.WriteString("." + e.Feature)
	}
	if e.Key != "" {
		b.WriteString(" key " + e.Key)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
