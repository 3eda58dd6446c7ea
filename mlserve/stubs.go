package mlserve

import (
	"context"
	"io/fs"
)

// Conform checks.
func (s Signature) Conform(in Batch) (Batch, error) { return in, nil }

// Latest picks the n newest.
func Latest(n int) Policy { return nil }

// Only picks these.
func Only(versions ...string) Policy { return nil }

// All picks all.
func All() Policy { return nil }

// Alias picks by alias.
func Alias(aliases ...string) Policy { return nil }

// Dir is a registry.
type Dir struct{}

// NewDir makes one.
func NewDir(path string) *Dir { return &Dir{} }

// Versions lists.
func (d *Dir) Versions(ctx context.Context, model string) ([]Version, error) { return nil, ErrNotFound }

// Open opens.
func (d *Dir) Open(ctx context.Context, v Version) (fs.FS, Manifest, error) {
	return nil, Manifest{}, ErrNotFound
}

// Publish publishes.
func (d *Dir) Publish(ctx context.Context, m Manifest, files fs.FS) error { return ErrNotReady }

// Alias points.
func (d *Dir) Alias(ctx context.Context, model, alias, version string) error { return ErrNotReady }

// Sequential judges.
type Sequential struct {
	FalseRollback float64
	Metrics       []Metric
	MinKeys       int
}

// Metric is one.
type Metric struct {
	Name         string
	Margin, Over float64
	More         bool
}

// Observe takes.
func (q *Sequential) Observe(o Outcome) {}

// Verdict says.
func (q *Sequential) Verdict() Verdict { return Verdict{} }
