package idempotency

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"
)

// HTTPOptions are the settings of [Guard.Handler]. The zero value is a good
// default.
type HTTPOptions struct {
	// Scope says whose the request is: the tenant, the account or the user, as
	// authentication found it. Keys of different scopes never meet. nil: all
	// callers share one scope, and the Authorization header becomes part of the
	// fingerprint, so that a key that is guessed or leaked answers 422 to
	// anybody else, but also to its owner with a renewed token. Set Scope where
	// there is more than one caller.
	Scope func(*http.Request) string
	// Optional lets requests without an Idempotency-Key through, unguarded.
	// false: they get 400.
	Optional bool
	// Headers are names of response headers to keep for replays beside those
	// that describe the body (Content-Type, -Encoding, -Language,
	// -Disposition), ETag, Last-Modified, Location, Link, Cache-Control and
	// Vary. Set-Cookie is never kept, as it would hand a session to whoever
	// holds the key.
	Headers []string
	// MaxBody is the largest request body, in bytes; a larger one gets 413.
	// The body is held in memory to take its fingerprint. Zero or below: 1 MiB.
	MaxBody int64
}

func (o HTTPOptions) normalize() HTTPOptions {
	kept := []string{
		"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type",
		"Etag", "Last-Modified", "Link", "Location", "Vary",
	}
	for _, name := range o.Headers {
		if name = http.CanonicalHeaderKey(name); name != "Set-Cookie" {
			kept = append(kept, name)
		}
	}
	o.Headers = kept
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	return o
}

type requestKey struct{}

// RequestKey returns the key that [Guard.Handler] found in the request whose
// context this is, with the fingerprint of the request; use a [Key.Child] of it
// for each effect. It is the zero Key, which nothing accepts, if there is none.
func RequestKey(ctx context.Context) Key {
	k, _ := ctx.Value(requestKey{}).(Key)
	return k
}

// Handler returns a handler that runs next once per Idempotency-Key, following
// draft-ietf-httpapi-idempotency-key-header. The key may be a quoted string,
// as the draft has it, or bare. Requests with the methods GET, HEAD, OPTIONS and
// TRACE pass through as they are. For the others:
//
//   - A request with a new key runs next. The response is held back until it is
//     stored, so next cannot stream, hijack or send trailers.
//   - The same request again gets the stored status, body and headers (see
//     HTTPOptions.Headers), with the header Idempotency-Replayed: true. What
//     handlers around this one set is not stored: they set it again, and what
//     next set, added or removed comes on top, as it did the first time.
//   - While the first one is running it gets 409 with Retry-After.
//   - The key with another method, URL or body gets 422.
//   - No key gets 400 unless HTTPOptions.Optional is set; so do a malformed
//     key, one over 255 bytes, and two keys. A body over MaxBody gets 413.
//   - When the store fails it gets 503, and next does not run, unless
//     Options.FailOpen is set.
//   - When the response exceeded Options.MaxResult, only the first request gets
//     it, and later ones get 410.
//
// Responses that say "not now" or "not as you are" are sent, but not stored:
// 5xx, 401, 407, 408, 425 and 429. So is one of next that wrote nothing after
// its request was cancelled. Then, and if next panics, the same request runs
// next again. All other responses are stored, also those of failed validation.
//
// When the store fails to record a response, it is sent nevertheless.
//
// Authentication and rate limits belong around this handler, not inside.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "":
			next.ServeHTTP(w, r)
			return
		}
		values := r.Header.Values("Idempotency-Key")
		if len(values) == 0 && g.http.Optional {
			next.ServeHTTP(w, r)
			return
		}
		id, fault := parseHeader(values)
		if fault != "" {
			problem(w, http.StatusBadRequest, fault)
			return
		}
		key, r, err := g.identify(w, r, id)
		if err != nil {
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				problem(w, http.StatusRequestEntityTooLarge, "The body exceeds "+strconv.FormatInt(g.http.MaxBody, 10)+" bytes.")
			} else {
				problem(w, http.StatusBadRequest, "The body could not be read.")
			}
			return
		}
		g.serve(w, r, key, next)
	})
}

// identify reads the body and returns the request's key, and the request with
// the key in its context and the body to read again.
func (g *Guard) identify(w http.ResponseWriter, r *http.Request, id string) (Key, *http.Request, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, g.http.MaxBody)); err != nil {
			return Key{}, nil, err
		}
	}
	scope, credential := "http", ""
	if g.http.Scope != nil {
		scope += "/" + escape(g.http.Scope(r), false)
	} else {
		credential = r.Header.Get("Authorization")
	}
	key := Key{
		Scope:       scope,
		ID:          id,
		Fingerprint: Sum([]byte(r.Method), []byte(r.URL.RequestURI()), []byte(credential), body),
	}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, key))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return key, r, nil
}

func (g *Guard) serve(w http.ResponseWriter, r *http.Request, key Key, next http.Handler) {
	ctx, call := g.telemetry.start(r.Context(), entryHTTP, key)
	defer call.end()
	r = r.WithContext(ctx)

	out, err := g.begin(ctx, key)
	switch {
	case err != nil:
		call.refused(err)
		g.refuse(ctx, w, key, err)
		return
	case out.State == Done:
		call.is(replayed)
		g.replay(ctx, w, key, out.Result)
		return
	case out.State != Acquired:
		call.is(unguarded)
		next.ServeHTTP(w, r)
		return
	}

	rec := newRecorder(w)
	keep := false
	err = g.hold(ctx, out.Token, func(ctx context.Context) ([]byte, bool) {
		next.ServeHTTP(rec, r.WithContext(ctx))
		abandoned := rec.status == 0 && ctx.Err() != nil
		if keep = !abandoned && final(rec.finish()); !keep {
			return nil, false
		}
		return rec.seal(g.http.Headers), true
	})
	switch {
	case err != nil && !errors.Is(err, ErrTooLarge):
		call.is(unrecorded)
		g.telemetry.warn(ctx, "answered, but not recorded", key, err)
	case keep:
		call.is(ran)
	default:
		call.is(failedRun)
	}
	rec.send(w)
}

// final reports whether a response with the status would be the same if the
// request came again.
func final(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

func (g *Guard) refuse(ctx context.Context, w http.ResponseWriter, key Key, err error) {
	switch {
	case errors.Is(err, ErrInProgress):
		wait := time.Second
		if e, ok := errors.AsType[*Error](err); ok {
			wait = max(wait, time.Until(e.Until))
		}
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		problem(w, http.StatusConflict, "A request with this Idempotency-Key is in progress.")
	case errors.Is(err, ErrMismatch):
		problem(w, http.StatusUnprocessableEntity, "This Idempotency-Key was used for a different request.")
	case errors.Is(err, ErrKey): // the scope is too long: not the client's fault
		g.telemetry.warn(ctx, "refused", key, err)
		problem(w, http.StatusInternalServerError, "The Idempotency-Key could not be used; the request was not processed.")
	default:
		g.telemetry.warn(ctx, "refused, as the store failed", key, err)
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, "The Idempotency-Key could not be checked; the request was not processed.")
	}
}

func (g *Guard) replay(ctx context.Context, w http.ResponseWriter, key Key, stored []byte) {
	rec := newRecorder(w)
	err := rec.unseal(stored)
	switch {
	case errors.Is(err, ErrTooLarge):
		problem(w, http.StatusGone, "The request was processed; its response was too large to keep.")
	case err != nil:
		g.telemetry.warn(ctx, "cannot replay", key, err)
		problem(w, http.StatusInternalServerError, "The request was processed; its response cannot be replayed.")
	default:
		rec.send(w)
	}
}

// problem answers with an RFC 9457 problem.
func problem(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil { // a string that is not UTF-8 would not be an error
		body = nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone is nobody to tell
}
