package concurrencyhttp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

const (
	defaultTimeout = 30 * time.Second
	idlePerHost    = 64
	mostIdle       = 1024 // a process has not many more files
)

// Options configure [NewClient]. The zero value and nil are the defaults.
type Options struct {
	// Limiter admits requests, one unit each, from before the connection is
	// sought until the body has been read to its end or closed. A transport
	// error, an error while reading the body and a status of 500 or more count
	// as failures; that the caller left counts as nothing. A refused request
	// returns an error that matches what the Limiter returned. Nil admits all.
	//
	// A status of 500 or more reaches the limiter as a [*StatusError]. Each
	// repetition asks the limiter again, and holds nothing while it waits. The
	// loser of a hedge is a caller that left.
	Limiter concurrency.Limiter
	// Hedger sends requests that may be repeated, see Retry, a second time beside
	// the first if the answer is later than most, as [concurrency.Hedge] does. The
	// answer that comes first, with its header, is the caller's, and the other
	// request is cancelled. An error, a status of 429 and one of 500 or more do
	// not win while the other may still be answered, unless their body is longer
	// than 64 KiB. The limiter is asked for either. Requests to upgrade the
	// connection are not hedged. Use one Hedger per dependency. Nil: no second
	// request.
	Hedger *concurrency.Hedger
	// Retry repeats requests that may be repeated: those whose method is
	// idempotent (GET, HEAD, OPTIONS, TRACE, PUT, DELETE) or that have a header
	// Idempotency-Key, and whose body, if any, can be had again through GetBody,
	// as with what [http.NewRequest] makes of bytes and strings. They are
	// repeated after a transport error and after a status of 429, 502, 503 or
	// 504, not before the time in Retry-After, and never past the deadline.
	// Refusals of the Limiter are not repeated. What Retryable is asked about is
	// the transport's error or a [*StatusError]. If all runs fail the caller gets
	// the last response, or error; an answer of more than 64 KiB is the last.
	// Nil: no repetition.
	Retry *concurrency.RetryPolicy
	// Base is the transport to copy; it is not modified, and its connections
	// are not shared. A MaxIdleConnsPerHost of 0 becomes 64, or the size of the
	// Limiter if that is a larger [concurrency.Semaphore], up to 1024. Nil means
	// one with proxies from the environment, HTTP/2, that many idle connections
	// per host and four times as many in all, kept for 90 s, and 5 s each to
	// dial and for the TLS handshake.
	Base *http.Transport
}

// NewClient returns a client to be shared: make one per dependency or one for
// all, not one per request. It differs from the zero [http.Client] in that
//
//   - up to 64 idle connections per host are kept for reuse, or as many as the
//     limiter admits;
//   - closing a response's body first reads what is left of it, for at most
//     64 KiB and 50 ms, so that the connection can be reused; more is cut off
//     with the connection;
//   - a request takes at most 30 s, its repetitions and its body included. Set Timeout of the
//     returned client to change that, before first use; 0 means no limit, and is
//     what a connection to be upgraded needs;
//   - what remains of the context's deadline or the timeout is sent in the
//     header Grpc-Timeout, unless the request has one already. A request whose
//     time is up is not sent.
//
// As always, the body of each response must be closed. The client starts no
// goroutine but those of [http.Transport]; CloseIdleConnections ends them once
// no response is open. It is safe for concurrent use.
func NewClient(o *Options) *http.Client {
	if o == nil {
		o = new(Options)
	}
	t := &transport{base: baseOf(o.Base, idleFor(o.Limiter)), limiter: o.Limiter, hedger: o.Hedger}
	if o.Retry != nil {
		t.retries, t.retry = true, policyOf(o.Retry)
	}
	return &http.Client{Transport: t, Timeout: defaultTimeout}
}

// idleFor is how many connections per host are worth keeping: one that comes
// back and finds no place was dialled for a single request.
func idleFor(l concurrency.Limiter) int {
	if s, ok := l.(*concurrency.Semaphore); ok {
		return int(min(max(s.Stats().Limit, idlePerHost), mostIdle))
	}
	return idlePerHost
}

func baseOf(given *http.Transport, idle int) *http.Transport {
	if given != nil {
		base := given.Clone()
		if base.MaxIdleConnsPerHost == 0 {
			base.MaxIdleConnsPerHost = idle
		}
		return base
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          4 * idle,
		MaxIdleConnsPerHost:   idle,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

type transport struct {
	base    *http.Transport
	limiter concurrency.Limiter
	hedger  *concurrency.Hedger
	retries bool
	retry   concurrency.RetryPolicy
}

// CloseIdleConnections is found by http.Client.CloseIdleConnections.
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if (t.retries || t.hedges(req)) && repeatable(req) {
		return t.repeat(req)
	}
	return t.attempt(req)
}

func (t *transport) attempt(req *http.Request) (*http.Response, error) {
	var permit concurrency.Permit
	if t.limiter != nil {
		var err error
		if permit, err = t.limiter.Acquire(req.Context(), 1); err != nil {
			closeRequest(req)
			return nil, fmt.Errorf("concurrencyhttp: %s not asked: %w", req.URL.Host, err)
		}
	}
	resp, err := t.send(req)
	switch {
	case err != nil:
		permit.Done(&err)
		return nil, err
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// The body is the connection now, to be written to as well; it may live
		// for hours and says nothing about the work.
		permit.Done(nil)
		return resp, nil
	}
	b := &body{ReadCloser: resp.Body, permit: permit}
	if resp.StatusCode >= http.StatusInternalServerError {
		b.outcome = statusError(resp)
	}
	if resp.Body == http.NoBody {
		b.end(io.EOF) // nobody need close that one
	}
	resp.Body = b
	return resp, nil
}

func (t *transport) send(req *http.Request) (*http.Response, error) {
	deadline, ok := req.Context().Deadline()
	if !ok || req.Header.Get(timeoutHeader) != "" {
		return t.base.RoundTrip(req)
	}
	left := time.Until(deadline)
	if left <= 0 {
		closeRequest(req)
		return nil, fmt.Errorf("concurrencyhttp: no time left to ask %s: %w", req.URL.Host, context.DeadlineExceeded)
	}
	req = req.Clone(req.Context()) // a RoundTripper must not modify the request
	req.Header.Set(timeoutHeader, formatTimeout(left))
	return t.base.RoundTrip(req)
}

// closeRequest keeps the promise of a RoundTripper to close the request's body
// even if it fails.
func closeRequest(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
