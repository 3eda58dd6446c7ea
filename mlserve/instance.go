package mlserve

import (
	"context"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// instance is one loaded version. Its owner (the state that lists it) holds
// one reference, every prediction and pin another; it is closed when the last
// is given back, and cannot be taken again after that.
type instance struct {
	version  Version
	model    Model
	sig      Signature
	manifest Manifest
	files    fs.FS
	classes  *classes
	closed   func(error) // told what Close returned

	refs    atomic.Int64
	retired atomic.Bool
	// phase settles who closes: the swap that waits, or, once the swap has
	// left, the last user.
	phase atomic.Int32
	idle  chan struct{}
}

const (
	phaseServing  int32 = iota
	phaseIdle           // the last reference was given back while the owner waits
	phaseDetached       // the owner does not wait
)

func newInstance(v Version, m Model, closed func(error)) *instance {
	i := &instance{version: v, model: m, sig: m.Signature(), closed: closed, idle: make(chan struct{})}
	i.refs.Store(1)
	return i
}

// acquire takes a reference; false once the last one was given back.
func (i *instance) acquire() bool {
	for {
		n := i.refs.Load()
		if n == 0 {
			return false
		}
		if i.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (i *instance) release() {
	if i.refs.Add(-1) > 0 {
		return
	}
	if i.phase.CompareAndSwap(phaseServing, phaseIdle) {
		close(i.idle)
		return
	}
	i.close()
}

// retire gives back the owner's reference, waits up to drain for the users and
// closes the model. It reports false if users remain: then the last of them
// closes it. Only the first call counts.
func (i *instance) retire(drain time.Duration) bool {
	if i.retired.Swap(true) {
		return true
	}
	if drain <= 0 {
		i.phase.Store(phaseDetached)
		i.release()
		return i.refs.Load() == 0
	}
	i.release()
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-i.idle:
	case <-timer.C:
		if i.phase.CompareAndSwap(phaseServing, phaseDetached) {
			return false
		}
	}
	i.close()
	return true
}

func (i *instance) close() {
	err := guard(i.model.Close)
	if i.closed != nil {
		i.closed(err)
	}
}

// predict runs the model on an input that conforms, and checks its answer.
func (i *instance) predict(ctx context.Context, in Batch) (out Batch, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, panicError(r)
		}
	}()
	out, err = i.model.Predict(ctx, in)
	if err != nil {
		return nil, err
	}
	return out, i.sig.checkOutput(out, in.rows())
}

// guard turns a panic of foreign code into an error: one bad model must not
// take the others' process down.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
		}
	}()
	return f()
}

func panicError(r any) error {
	return fmt.Errorf("%w: %w", ErrOutput, &concurrency.PanicError{Value: r, Stack: debug.Stack()})
}

// Pin keeps one version loaded, whatever the registry says, until Release.
type Pin struct {
	model    string
	inst     *instance
	released atomic.Bool
}

// Version returns the pinned version.
func (p *Pin) Version() Version { return p.inst.version }

// Signature returns what the pinned version takes and gives.
func (p *Pin) Signature() Signature { return p.inst.sig }

// Predict answers with the pinned version: without routing, timeout, ladder
// and recording. in is made to conform first.
func (p *Pin) Predict(ctx context.Context, in Batch) (Batch, error) {
	if p.released.Load() {
		return nil, &Error{Op: "predict", Model: p.model, Version: p.inst.version.Version, Err: fmt.Errorf("%w: the pin was released", ErrNotReady)}
	}
	in, err := p.inst.sig.Conform(in)
	if err != nil {
		return nil, fail("predict", p.model, p.inst.version.Version, err)
	}
	out, err := p.inst.predict(ctx, in)
	return out, fail("predict", p.model, p.inst.version.Version, err)
}

// Release gives the version back; calling it again does nothing. No Predict
// of this pin may be running.
func (p *Pin) Release() {
	if !p.released.Swap(true) {
		p.inst.release()
	}
}
