package mlserve

import (
	"context"
	"io/fs"
	"time"
)

// Source is where a server finds versions. Implementations are safe for
// concurrent use.
type Source interface {
	// Versions lists the versions of a model, in any order, each complete: a
	// version still being written is not listed. [ErrNotFound] if the model is
	// not known.
	Versions(ctx context.Context, model string) ([]Version, error)
	// Open gives the files and the manifest of a version. [ErrNotFound] if
	// there is none.
	Open(ctx context.Context, v Version) (fs.FS, Manifest, error)
}

// Registry is a [Source] that can be written.
type Registry interface {
	Source
	// Publish stores a version: all of it or nothing. It computes m.SHA256 of
	// all files; checksums that m already has must match. Publishing the same
	// content again does nothing, so that a repeated step is harmless; another
	// content under a used version is [ErrConflict].
	Publish(ctx context.Context, m Manifest, files fs.FS) error
	// Alias points alias at a version, atomically and durably, or removes it
	// if version is "". Setting what is set does nothing. [ErrNotFound] if the
	// version is not there.
	Alias(ctx context.Context, model, alias, version string) error
}

// Version is one version of a model in a [Source].
type Version struct {
	Model   string
	Version string
	Aliases []string  // sorted; those that point here
	Created time.Time // zero if the source does not know
}

// Policy picks, from the versions of a model, those to keep loaded. The first
// is the primary: it gets all traffic that no [Traffic] sends elsewhere. It
// must not modify its argument. Picking none leaves what serves serving.
type Policy func([]Version) []Version
