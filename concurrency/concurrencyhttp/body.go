package concurrencyhttp

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// How much of a body, and for how long, it is worth reading to save a dial.
const (
	drainBytes = 64 << 10
	drainTime  = 50 * time.Millisecond
)

// body returns the permit when the response has been read or closed, and
// drains what was not read.
type body struct {
	io.ReadCloser
	permit concurrency.Permit

	mu      sync.Mutex // Read and Close may be concurrent
	outcome error
	ended   bool // no byte is to come
}

// Read reports the outcome as soon as it is known.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, err
}

// Close drains a little before it closes.
func (b *body) Close() error {
	b.mu.Lock()
	ended := b.ended
	b.mu.Unlock()
	if !ended {
		// Closing unblocks a Read of the transport's body; without it the next
		// byte of an endless stream would be waited for.
		late := time.AfterFunc(drainTime, func() { _ = b.ReadCloser.Close() })
		_, _ = io.CopyN(io.Discard, b.ReadCloser, drainBytes+1) // + 1: to see the end
		late.Stop()
	}
	err := b.ReadCloser.Close()
	b.end(io.EOF)
	return err
}

// end reports the outcome once; err is io.EOF if the body itself did not fail.
func (b *body) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	if b.outcome == nil && !errors.Is(err, io.EOF) {
		b.outcome = err
	}
	b.permit.Done(&b.outcome)
}
