package mlserve

import (
	"context"
	"io/fs"
)

// Model answers batches. The server calls Predict from many goroutines.
type Model interface {
	// Signature says what Predict takes and gives; always the same.
	Signature() Signature
	// Predict answers in, which the server has made to conform to the
	// signature (see [Signature.Conform]) and which it must neither modify nor
	// keep. The answer has as many rows as the input, in their order. It must
	// return soon after ctx ends: a model that computes for more than about a
	// millisecond looks at ctx between blocks of rows.
	Predict(ctx context.Context, in Batch) (Batch, error)
	// Close frees what the model holds. The server calls it once, after the
	// last prediction and the last pin of this version have ended.
	Close() error
}

// Loader makes a model from the files of one version.
type Loader interface {
	// Load reads files, of which only those named in m.SHA256 can be opened;
	// their checksums have been verified. What is wrong with a file is an error
	// that wraps [ErrModelFile], never a panic: files come from outside. The
	// model must not need files after Load has returned.
	Load(ctx context.Context, files fs.FS, m Manifest) (Model, error)
}
