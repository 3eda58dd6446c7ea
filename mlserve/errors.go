package mlserve

import (
	"errors"
	"strings"
)

// What callers branch on. Every error of this package is an [*Error] that
// matches one of these, the error of a model or a source, or the error of the
// caller's context.
var (
	// ErrNotFound: no model, version or alias of that name.
	ErrNotFound = errors.New("not found")
	// ErrNotReady: the model is known, but no version of it serves.
	ErrNotReady = errors.New("not ready")
	// ErrInput: the input does not fit the signature, or a setting is out of
	// range. Nothing was run; the same call fails again.
	ErrInput = errors.New("bad input")
	// ErrModelFile: an artefact or its manifest is malformed, does not match
	// its checksum, or does not answer its golden cases. Loaders wrap it.
	ErrModelFile = errors.New("bad model file")
	// ErrOutput: a model answered with something other than its signature
	// says, or with a value the protocol cannot carry.
	ErrOutput = errors.New("bad output")
	// ErrConflict: another content is already published under that version.
	ErrConflict = errors.New("conflict")
)

// Error says where something went wrong. Find it with
// errors.AsType[*mlserve.Error](err).
type Error struct {
	Op      string // "predict", "load", "publish", …
	Model   string // "" where it is about no single model
	Version string // "" where it is about no single version
	Err     error  // the cause; reachable through errors.Is and errors.As
}

// Error returns "mlserve: op model@version: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("mlserve: ")
	b.WriteString(e.Op)
	if e.Model != "" {
		b.WriteString(" ")
		b.WriteString(e.Model)
		if e.Version != "" {
			b.WriteString("@")
			b.WriteString(e.Version)
		}
	}
	b.WriteString(": ")
	b.WriteString(strings.TrimPrefix(e.Err.Error(), "mlserve: "))
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail wraps err once: an error that already says where is passed on.
func fail(op, model, version string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && (e.Model != "" || model == "") {
		return err
	}
	return &Error{Op: op, Model: model, Version: version, Err: err}
}
