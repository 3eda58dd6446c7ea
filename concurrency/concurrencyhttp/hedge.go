package concurrencyhttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/mainstay-go/mainstay/concurrency"
)

// hedges reports whether req, if it may be repeated, may have a second request
// beside it. A connection that is to be upgraded cannot be had twice.
func (t *transport) hedges(req *http.Request) bool {
	return t.hedger != nil && req.Header.Get("Upgrade") == ""
}

// hedge sends req, and beside it a second time if the answer is late. An answer
// that counts as a failure does not win while another may come; where none
// does, it is the answer all the same. sent tells whether the body that req
// came with has been used.
func (t *transport) hedge(req *http.Request, sent *atomic.Bool) (*http.Response, error) {
	var mu sync.Mutex
	var answers []*http.Response
	resp, err := concurrency.Hedge(req.Context(), t.hedger, concurrency.Idempotent(func(ctx context.Context) (*http.Response, error) {
		resp, err := t.detached(ctx, req, sent)
		if err == nil {
			mu.Lock()
			answers = append(answers, resp)
			mu.Unlock()
		}
		return resp, err
	}))
	// Both runs have returned. An answer that came as the other one won is
	// nobody's to close but ours.
	for _, a := range answers {
		if a != resp {
			_ = a.Body.Close()
		}
	}
	if failed, ok := errors.AsType[*StatusError](err); ok && req.Context().Err() == nil {
		return failed.resp, nil
	}
	if err != nil {
		return nil, err // Hedge hands on the value of a run that failed
	}
	return resp, nil
}

// detached is one run. ctx ends with the hedge, but its answer is read after
// that: the request has a context of its own, which follows ctx until there is
// an answer, and ends when the body has been read or closed.
func (t *transport) detached(ctx context.Context, req *http.Request, sent *atomic.Bool) (*http.Response, error) {
	own, cancel := context.WithCancelCause(req.Context())
	unlink := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	resp, err := t.once(own, req, sent)
	if err != nil || failure(resp.StatusCode) {
		if err == nil {
			resp, err = keep(resp)
		}
		if err != nil {
			unlink()
			cancel(context.Canceled)
			return nil, err
		}
	}
	unlink() // if it is too late the body ends with an error, and the hedge has another answer
	if b, ok := resp.Body.(*body); ok && b.ReadCloser == http.NoBody {
		cancel(context.Canceled) // nobody need close that one
		return resp, nil
	}
	resp.Body = &owned{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

// owned is a body that ends the context of its request.
type owned struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Read ends the context once nothing is left to be read.
func (o *owned) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err != nil {
		o.cancel(context.Canceled)
	}
	return n, err
}

// Close ends the context after what was left has been drained.
func (o *owned) Close() error {
	err := o.ReadCloser.Close()
	o.cancel(context.Canceled)
	return err
}

// failure reports whether an answer may lose to a later one.
func failure(status int) bool {
	return status >= http.StatusInternalServerError || temporary(status)
}
