package idempotency

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// recorder is a response that is held back, or replayed. The handler has the
// headers that the handlers around it have set, and may change them.
type recorder struct {
	outer  http.Header // as they were when the handler began
	header http.Header // the handler's, and final once status is set
	sent   http.Header // as it was when status was set
	status int         // 0: not yet
	body   bytes.Buffer
}

func newRecorder(w http.ResponseWriter) *recorder {
	return &recorder{outer: w.Header().Clone(), header: w.Header().Clone()}
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter. Informational responses are
// dropped, as they cannot be sent in time.
func (r *recorder) WriteHeader(status int) {
	if r.status != 0 || status >= 100 && status < 200 {
		return
	}
	r.status, r.sent = status, r.header.Clone()
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.status == http.StatusNoContent || r.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return r.body.Write(p)
}

// finish makes the response what net/http makes of it when a handler returns.
func (r *recorder) finish() (status int) {
	r.WriteHeader(http.StatusOK)
	return r.status
}

func (r *recorder) send(w http.ResponseWriter) {
	r.finish()
	clear(w.Header())
	maps.Copy(w.Header(), r.sent)
	w.WriteHeader(r.status)
	if r.body.Len() > 0 {
		_, _ = w.Write(r.body.Bytes()) // a client that has gone can ask again
	}
}

// storedResponse is the head of a stored response: one line of JSON, which the
// body follows.
//
// Of the headers it has what the handler did to those around it, which a replay
// does to those around the replay: Header was set, or removed where it has no
// values; Added was added.
type storedResponse struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Added  http.Header `json:"added,omitempty"`
}

// seal encodes the response with the headers named.
func (r *recorder) seal(headers []string) []byte {
	head := storedResponse{Status: r.status, Header: http.Header{}, Added: http.Header{}}
	for _, name := range headers {
		before, after := r.outer[name], r.sent[name]
		n := len(before)
		switch {
		case slices.Equal(before, after):
		case len(after) > n && slices.Equal(before, after[:n]) && (n > 0 || name == "Vary" || name == "Link"):
			head.Added[name] = after[n:]
		default:
			head.Header[name] = after
		}
	}
	line, err := json.Marshal(head)
	if err != nil {
		return seal(kindUnkept, []byte(err.Error()))
	}
	return seal(kindResponse, append(append(line, '\n'), r.body.Bytes()...))
}

// unseal replays a stored response into r, which is new.
func (r *recorder) unseal(stored []byte) error {
	stored, err := unseal(kindResponse, stored)
	if err != nil {
		return err
	}
	line, body, ok := bytes.Cut(stored, []byte{'\n'})
	if !ok {
		return errors.New("the stored response has no head")
	}
	var head storedResponse
	if err := json.Unmarshal(line, &head); err != nil {
		return fmt.Errorf("the head of the stored response: %w", err)
	}
	if head.Status < 200 || head.Status > 999 {
		return fmt.Errorf("the stored response has status %d", head.Status)
	}
	head.Header.Del("Set-Cookie")
	head.Added.Del("Set-Cookie")
	for name, values := range head.Header {
		if len(values) == 0 {
			delete(r.header, name)
		} else {
			r.header[name] = values
		}
	}
	for name, values := range head.Added {
		r.header[name] = append(r.header[name], values...)
	}
	r.header.Set("Idempotency-Replayed", "true")
	r.WriteHeader(head.Status)
	r.body.Write(body)
	return nil
}

const maxHeaderKey = 255

// parseHeader returns the key of the values of an Idempotency-Key header: an
// RFC 8941 string, in quotes, or the same without quotes. Otherwise it returns
// what is wrong, as a sentence for the client.
func parseHeader(values []string) (key, fault string) {
	switch {
	case len(values) == 0:
		return "", "The Idempotency-Key header is required."
	case len(values) > 1:
		return "", "There is more than one Idempotency-Key."
	}
	key = strings.Trim(values[0], " \t")
	wellFormed := printable(key) && !strings.ContainsAny(key, ` ",`)
	if strings.HasPrefix(key, `"`) {
		key, wellFormed = unquote(key)
	}
	switch {
	case !wellFormed:
		return "", "The Idempotency-Key is neither a quoted string nor a plain token."
	case key == "":
		return "", "The Idempotency-Key is empty."
	case len(key) > maxHeaderKey:
		return "", fmt.Sprintf("The Idempotency-Key exceeds %d bytes.", maxHeaderKey)
	}
	return key, ""
}

// unquote reads an sf-string of RFC 8941, section 3.3.3, without parameters.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' || !printable(s) {
		return "", false
	}
	var b strings.Builder
	for in := s[1 : len(s)-1]; in != ""; in = in[1:] {
		switch in[0] {
		case '"':
			return "", false
		case '\\':
			if in = in[1:]; in == "" || in[0] != '"' && in[0] != '\\' {
				return "", false
			}
		}
		b.WriteByte(in[0])
	}
	return b.String(), true
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
