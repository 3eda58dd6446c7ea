package concurrencyhttp

import "testing"

// endless counts what is read from it.
type endless struct {
	read   int
	closed int
}

func (e *endless) Read(p []byte) (int, error) { e.read += len(p); return len(p), nil }
func (e *endless) Close() error               { e.closed++; return nil }

// Reading all of a large body would cost more than the dial it saves.
func TestDrainStopsAt64KiB(t *testing.T) {
	e := new(endless)
	b := &body{ReadCloser: e}
	if err := b.Close(); err != nil || e.closed != 1 {
		t.Errorf("%v, closed %d times", err, e.closed)
	}
	if e.read < drainBytes || e.read > drainBytes+1 {
		t.Errorf("read %d bytes, want %d", e.read, drainBytes+1)
	}
	e.read = 0
	if err := b.Close(); err != nil || e.read != 0 {
		t.Errorf("closing again: %v, read %d bytes", err, e.read)
	}
}
