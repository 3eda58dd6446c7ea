package concurrencyhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// keepBytes is how much of an answer that may be repeated is kept, in case it
// is the last one.
const keepBytes = 64 << 10

// StatusError is a response that counts as a failure: what a limiter learns of
// a status of 500 or more, and what [concurrency.RetryPolicy] is asked about.
// The caller of the client gets the response, not the error.
type StatusError struct {
	// Code is the status, 503 for example.
	Code int
	// Host is the one that answered.
	Host string

	resp *http.Response // the whole of it, where it may be the last
}

// Error names host and status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("concurrencyhttp: %s answered %d %s", e.Host, e.Code, http.StatusText(e.Code))
}

// repeatable reports whether req may be sent more than once: it says so by its
// method (RFC 9110, section 9.2.2) or its key, and its body can be had again.
func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

// temporary reports whether an answer asks to be asked again.
func temporary(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// repeat sends req until there is an answer or the policy gives up.
func (t *transport) repeat(req *http.Request) (*http.Response, error) {
	var sent atomic.Bool // with the body that req came with
	resp, err := t.retried(req, &sent)
	if !sent.Load() {
		closeRequest(req)
	}
	return resp, err
}

func (t *transport) retried(req *http.Request, sent *atomic.Bool) (*http.Response, error) {
	if !t.retries {
		return t.hedge(req, sent)
	}
	resp, err := concurrency.Retry(req.Context(), &t.retry, concurrency.Idempotent(func(ctx context.Context) (*http.Response, error) {
		var resp *http.Response
		var err error
		if t.hedges(req) {
			resp, err = t.hedge(req.WithContext(ctx), sent)
		} else {
			resp, err = t.once(ctx, req, sent)
		}
		if err != nil || !temporary(resp.StatusCode) {
			return resp, err
		}
		return keep(resp)
	}))
	if err == nil {
		return resp, nil
	}
	if last, ok := errors.AsType[*StatusError](err); ok && req.Context().Err() == nil {
		return last.resp, nil
	}
	return nil, err
}

// once is one run of req under ctx.
func (t *transport) once(ctx context.Context, req *http.Request, sent *atomic.Bool) (*http.Response, error) {
	run, err := again(ctx, req, sent.Swap(true))
	if err != nil {
		return nil, err
	}
	return t.attempt(run)
}

// again is req for one more run. The first one gets the body that is there.
func again(ctx context.Context, req *http.Request, sent bool) (*http.Request, error) {
	run := req.Clone(ctx)
	if !sent || req.Body == nil || req.Body == http.NoBody {
		return run, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, fmt.Errorf("concurrencyhttp: the body of a request to %s cannot be had again: %w", req.URL.Host, err)
	}
	run.Body = body
	return run, nil
}

// keep reads an answer that asks for another run, so that its connection and
// its permit are free while the caller waits, and makes an error of it. One
// that is too long to be kept is the last.
func keep(resp *http.Response) (*http.Response, error) {
	head, err := io.ReadAll(io.LimitReader(resp.Body, keepBytes+1))
	if err != nil {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("concurrencyhttp: %s answered %s, and then: %w", resp.Request.URL.Host, resp.Status, err)
	}
	if len(head) > keepBytes {
		resp.Body = &joined{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		return resp, nil
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(head))
	failed := statusError(resp)
	failed.resp = resp
	return nil, concurrency.RetryAfter(failed, retryAfter(resp.Header.Get("Retry-After"), time.Now()))
}

type joined struct {
	io.Reader
	io.Closer
}

// retryAfter reads the header of that name, in seconds or a date; 0 if there is
// none or it cannot be read.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// policyOf adds to a policy what is true of all requests: what a limiter here
// refused was refused to save work, so it is not asked again.
func policyOf(given *concurrency.RetryPolicy) concurrency.RetryPolicy {
	p := *given
	p.Retryable = func(err error) bool {
		return !errors.Is(err, concurrency.ErrRejected) && (given.Retryable == nil || given.Retryable(err))
	}
	return p
}

func statusError(resp *http.Response) *StatusError {
	return &StatusError{Code: resp.StatusCode, Host: resp.Request.URL.Host}
}
