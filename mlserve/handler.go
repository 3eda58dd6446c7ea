package mlserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Protocol adds the routes of one way to talk to the server.
type Protocol func(mux *http.ServeMux, s *Server)

// Handler serves these protocols; none means OpenInference and Simple, which
// together answer health questions in both of their forms.
//
// Statuses are the same for all protocols, with a body {"error": "…"}:
//
//	400  the body is not what the protocol says, or the input does not fit the signature
//	404  no such model, version or path
//	405  another method
//	413  the body is longer than Options.MaxBody
//	500  the model failed; the cause is logged, not sent
//	503  no version serves yet, or the limiter refused; with Retry-After
//	504  the version was late and no rung of the ladder answered
//
// An answer of the ladder is a 200 that says so.
func (s *Server) Handler(p ...Protocol) http.Handler {
	if len(p) == 0 {
		p = []Protocol{OpenInference(), Simple()}
	}
	mux := http.NewServeMux()
	for _, protocol := range p {
		protocol(mux, s)
	}
	return mux
}

// retryAfter is what a refused caller is told, in seconds.
const retryAfter = "1"

// readBody reads at most Options.MaxBody bytes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > s.opts.MaxBody { // refused before a byte is read
		return nil, &http.MaxBytesError{Limit: s.opts.MaxBody}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, err
	}
	return nil, fmt.Errorf("%w: reading the body: %w", ErrInput, err)
}

// writeError answers with the status that an error stands for.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, "the model failed"
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		status, text = http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", s.opts.MaxBody)
	case errors.Is(err, ErrInput):
		status, text = http.StatusBadRequest, err.Error()
	case errors.Is(err, ErrNotFound):
		status, text = http.StatusNotFound, err.Error()
	case errors.Is(err, ErrNotReady):
		status, text = http.StatusServiceUnavailable, "no version serves yet"
	case errors.Is(err, concurrency.ErrRejected):
		status, text = http.StatusServiceUnavailable, "overloaded"
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // nobody is there
	case errors.Is(err, context.DeadlineExceeded):
		status, text = http.StatusGatewayTimeout, "the model was late"
	case errors.Is(err, errNonFinite):
		text = err.Error() // the model's numbers, not its inside
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	if status == http.StatusInternalServerError {
		s.tel.log.ErrorContext(r.Context(), "mlserve: request failed", "path", r.URL.Path, "error", err)
	}
	writeJSON(w, status, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"encoding the answer failed"}`)
	}
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be; the client may have gone
}

// answer runs a request against the model, or, with a version, against that
// version alone.
func (s *Server) answer(ctx context.Context, model, version string, r Request) (Response, error) {
	if version == "" {
		return s.Predict(ctx, model, r)
	}
	pin, err := s.Acquire(model, version)
	if err != nil {
		return Response{}, err
	}
	defer pin.Release()
	resp := Response{ID: r.ID, Key: r.Key, Version: version}
	resp.Output, err = pin.Predict(ctx, r.Input)
	return resp, err
}
