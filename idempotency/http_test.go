package idempotency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// post sends a request; headers are name, value, name, value.
func post(h http.Handler, url, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const keyHeader = "Idempotency-Key"

// counting answers the nth request it serves with 201 and "n: the body".
func counting(runs *int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*runs++
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			panic(fmt.Sprint("body of ", r.ContentLength, " bytes: ", err))
		}
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%d: %s", *runs, body)
	})
}

func TestHandlerReplays(t *testing.T) {
	runs := 0
	h := New(NewMemoryStore(10), nil).Handler(counting(&runs))
	first := post(h, "/charges?x=1", "1250", keyHeader, `"k-1"`)
	require.Equal(t, http.StatusCreated, first.Code)
	require.Equal(t, "1: 1250", first.Body.String())
	require.Empty(t, first.Header().Values("Idempotency-Replayed"))

	for _, key := range []string{`"k-1"`, `k-1`, ` "k-1" `, `"k\-1"`} {
		again := post(h, "/charges?x=1", "1250", keyHeader, key)
		if key == `"k\-1"` {
			require.Equal(t, http.StatusBadRequest, again.Code, "only quotes and backslashes are escaped")
			continue
		}
		require.Equal(t, http.StatusCreated, again.Code)
		require.Equal(t, "1: 1250", again.Body.String())
		require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
		require.Equal(t, "text/plain", again.Header().Get("Content-Type"))
	}
	require.Equal(t, "2: 1250", post(h, "/charges?x=1", "1250", keyHeader, `"k-2"`).Body.String())
	require.Equal(t, 2, runs)
}

func TestHandlerMismatch(t *testing.T) {
	runs := 0
	h := New(NewMemoryStore(10), nil).Handler(counting(&runs))
	post(h, "/charges?x=1", "1250", keyHeader, "k", "Authorization", "Bearer a")
	requests := map[string]*httptest.ResponseRecorder{
		"body":       post(h, "/charges?x=1", "1251", keyHeader, "k", "Authorization", "Bearer a"),
		"path":       post(h, "/refunds?x=1", "1250", keyHeader, "k", "Authorization", "Bearer a"),
		"query":      post(h, "/charges?x=2", "1250", keyHeader, "k", "Authorization", "Bearer a"),
		"credential": post(h, "/charges?x=1", "1250", keyHeader, "k", "Authorization", "Bearer b"),
	}
	put := httptest.NewRequest(http.MethodPut, "/charges?x=1", strings.NewReader("1250"))
	put.Header.Set(keyHeader, "k")
	put.Header.Set("Authorization", "Bearer a")
	requests["method"] = httptest.NewRecorder()
	h.ServeHTTP(requests["method"], put)
	for what, w := range requests {
		require.Equal(t, http.StatusUnprocessableEntity, w.Code, what)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.JSONEq(t, `{"title":"Unprocessable Entity","status":422,"detail":"This Idempotency-Key was used for a different request."}`, w.Body.String())
	}
	require.Equal(t, 1, runs)
}

func TestHandlerScope(t *testing.T) {
	runs := 0
	g := New(NewMemoryStore(10), &Options{HTTP: HTTPOptions{Scope: func(r *http.Request) string { return r.Header.Get("X-Tenant") }}})
	h := g.Handler(counting(&runs))
	require.Equal(t, "1: x", post(h, "/", "x", keyHeader, "k", "X-Tenant", "acme", "Authorization", "old").Body.String())
	require.Equal(t, "2: x", post(h, "/", "x", keyHeader, "k", "X-Tenant", "emca", "Authorization", "old").Body.String())
	require.Equal(t, "1: x", post(h, "/", "x", keyHeader, "k", "X-Tenant", "acme", "Authorization", "renewed").Body.String())
	require.Equal(t, 2, runs)

	long := post(h, "/", "x", keyHeader, "k", "X-Tenant", strings.Repeat("x", MaxKeyBytes))
	require.Equal(t, http.StatusInternalServerError, long.Code)
	require.Equal(t, 2, runs)
}

func TestHandlerRequestKey(t *testing.T) {
	var got Key
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = RequestKey(r.Context()) })
	g := New(NewMemoryStore(10), &Options{HTTP: HTTPOptions{Optional: true, Scope: func(*http.Request) string { return "a/b" }}})
	post(g.Handler(next), "/pay", "x", keyHeader, `"k \"1\""`)
	require.Equal(t, "http/a%2Fb", got.Scope, "a tenant's name cannot pass for a child")
	require.Equal(t, `k "1"`, got.ID)
	require.Equal(t, Sum([]byte("POST"), []byte("/pay"), nil, []byte("x")), got.Fingerprint)

	require.Equal(t, http.StatusOK, post(g.Handler(next), "/pay", "x").Code)
	require.Equal(t, Key{}, got)
}

func TestHandlerKeyRequired(t *testing.T) {
	runs := 0
	h := New(NewMemoryStore(10), nil).Handler(counting(&runs))
	for _, headers := range [][]string{
		{},
		{keyHeader, ""},
		{keyHeader, `""`},
		{keyHeader, `"open`},
		{keyHeader, `"a"b"`},
		{keyHeader, `"a";p=1`},
		{keyHeader, `a b`},
		{keyHeader, `a,b`},
		{keyHeader, "a\x00"},
		{keyHeader, "é"},
		{keyHeader, strings.Repeat("x", 256)},
		{keyHeader, "a", keyHeader, "a"},
	} {
		w := post(h, "/", "x", headers...)
		require.Equal(t, http.StatusBadRequest, w.Code, "%q", headers)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	}
	require.Zero(t, runs)
	require.Equal(t, http.StatusCreated, post(h, "/", "x", keyHeader, strings.Repeat("x", 255)).Code)
}

func TestHandlerSafeMethods(t *testing.T) {
	store := newFakeStore()
	store.onBegin = func() error { t.Error("the store was asked"); return nil }
	runs := 0
	h := New(store, nil).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runs++ }))
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace} {
		r := httptest.NewRequest(method, "/", nil)
		r.Header.Set(keyHeader, "k")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	require.Equal(t, 4, runs)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("reset by peer") }

func TestHandlerBody(t *testing.T) {
	runs := 0
	h := New(NewMemoryStore(10), &Options{HTTP: HTTPOptions{MaxBody: 10}}).Handler(counting(&runs))
	require.Equal(t, http.StatusCreated, post(h, "/", "0123456789", keyHeader, "a").Code)
	require.Equal(t, http.StatusRequestEntityTooLarge, post(h, "/", "0123456789x", keyHeader, "b").Code)

	r := httptest.NewRequest(http.MethodPost, "/", brokenReader{})
	r.Header.Set(keyHeader, "c")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, 1, runs)
}

func TestHandlerInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		h := New(NewMemoryStore(10), nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			runs++
			time.Sleep(8 * time.Second)
			w.WriteHeader(http.StatusAccepted)
		}))
		first := make(chan int)
		go func() { first <- post(h, "/", "x", keyHeader, "k").Code }()
		time.Sleep(4500 * time.Millisecond)
		w := post(h, "/", "x", keyHeader, "k")
		require.Equal(t, http.StatusConflict, w.Code)
		require.Equal(t, "26", w.Header().Get("Retry-After"), "30 s of lease less 4.5, rounded up")
		require.Equal(t, http.StatusAccepted, <-first)
		require.Equal(t, http.StatusAccepted, post(h, "/", "x", keyHeader, "k").Code)
		require.Equal(t, 1, runs)
	})
}

func TestHandlerStatuses(t *testing.T) {
	runs, status := 0, 0
	h := New(NewMemoryStore(100), nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		runs++
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(status)
		w.WriteHeader(http.StatusTeapot) // too late
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, "body")
		} else if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("a body of 204: %v", err)
		}
	}))
	for code, stored := range map[int]bool{
		200: true, 201: true, 202: true, 204: true, 303: true, 400: true, 402: true, 403: true, 404: true, 409: true, 422: true,
		401: false, 407: false, 408: false, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
	} {
		runs, status = 0, code
		for range 2 {
			w := post(h, "/", "x", keyHeader, fmt.Sprint(code))
			require.Equal(t, code, w.Code)
			if code != 204 {
				require.Equal(t, "body", w.Body.String())
			}
		}
		require.Equal(t, map[bool]int{true: 1, false: 2}[stored], runs, "runs of %d", code)
	}
}

func TestHandlerHeaders(t *testing.T) {
	store := newFakeStore()
	store.onComplete = func(result []byte) error {
		require.NotContains(t, string(result), "secret", "a cookie was stored")
		return nil
	}
	g := New(store, &Options{HTTP: HTTPOptions{Headers: []string{"x-kept", "set-cookie"}}})
	h := g.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/charges/1")
		w.Header()["X-Kept"] = []string{"1", "2"}
		w.Header().Set("X-Request-ID", "r-1")
		w.Header().Set("Set-Cookie", "session=secret")
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("ETag", "too late")
	}))
	first := post(h, "/", "x", keyHeader, "k").Result().Header
	require.Equal(t, "session=secret", first.Get("Set-Cookie"))
	require.Equal(t, "r-1", first.Get("X-Request-ID"))
	require.Empty(t, first.Get("ETag"))
	again := post(h, "/", "x", keyHeader, "k").Result().Header
	require.Equal(t, http.Header{
		"Location":             {"/charges/1"},
		"X-Kept":               {"1", "2"},
		"Idempotency-Replayed": {"true"},
	}, again)
}

// Between two handlers the guard leaves what one does to the other's headers as
// it is, in the first answer and in a replay, and stores nothing of the outer's.
func TestHandlerOuterHeaders(t *testing.T) {
	request := 0
	outer := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request++
			w.Header().Add("Vary", "Origin")
			w.Header().Add("Set-Cookie", fmt.Sprint("session=", request))
			w.Header().Set("X-Request-ID", fmt.Sprint("outer-", request))
			w.Header().Add("X-List", fmt.Sprint("outer-", request))
			w.Header().Set("Cache-Control", "outer")
			w.Header().Set("ETag", "outer")
			w.Header()["Date"] = nil // which keeps the server from adding one
			next.ServeHTTP(w, r)
		})
	}
	inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Saw", w.Header().Get("X-Request-ID"))
		w.Header().Add("Vary", "Accept")
		w.Header().Add("Link", "</a>; rel=next")
		w.Header().Add("X-List", "inner")
		w.Header().Set("Cache-Control", "private")
		w.Header().Del("ETag")
		w.Header()["Content-Type"] = nil
		w.Header().Add("Set-Cookie", "inner=1")
	})
	store := newFakeStore()
	store.onComplete = func(result []byte) error {
		require.NotContains(t, string(result), "outer")
		require.NotContains(t, string(result), "session")
		return nil
	}
	guarded := outer(New(store, &Options{HTTP: HTTPOptions{Headers: []string{"X-Request-ID", "X-List"}}}).Handler(inner))

	plain := post(outer(inner), "/", "x").Header()
	request = 0
	require.Equal(t, plain, post(guarded, "/", "x", keyHeader, "k").Header())

	want := post(outer(inner), "/", "x").Header() // the second request
	request = 1
	want.Set("Idempotency-Replayed", "true")
	want.Del("X-Saw")                           // not to be kept
	want["Set-Cookie"] = want["Set-Cookie"][:1] // never kept
	want.Del("Content-Type")                    // nil, as is its absence
	require.Equal(t, want, post(guarded, "/", "x", keyHeader, "k").Header())
}

// What goes into lists is added to those of a replay although the first request
// had none.
func TestHandlerListsOfAReplay(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	cors := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" {
				w.Header().Add("Vary", "Origin")
				w.Header().Set("Location", "/outer")
			}
			next.ServeHTTP(w, r)
		})
	}
	h := cors(g.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Vary", "Accept")
		w.Header().Set("Location", "/charges/1")
	})))
	require.Equal(t, []string{"Accept"}, post(h, "/", "x", keyHeader, "k").Header()["Vary"])
	again := post(h, "/", "x", keyHeader, "k", "Origin", "https://shop.example").Header()
	require.Equal(t, []string{"Origin", "Accept"}, again["Vary"])
	require.Equal(t, []string{"/charges/1"}, again["Location"])
}

// The response is stored before the first byte of it is sent.
func TestHandlerStoresBeforeItAnswers(t *testing.T) {
	store := newFakeStore()
	w := httptest.NewRecorder()
	store.onComplete = func([]byte) error {
		require.Zero(t, w.Body.Len())
		require.Empty(t, w.Header())
		return nil
	}
	h := New(store, nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
	}))
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set(keyHeader, "k")
	h.ServeHTTP(w, r)
	require.Equal(t, 100_000, w.Body.Len())
}

func TestHandlerTooLarge(t *testing.T) {
	runs := 0
	g := New(NewMemoryStore(10), &Options{MaxResult: 200})
	h := g.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		runs++
		_, _ = w.Write(make([]byte, 201))
	}))
	w := post(h, "/", "x", keyHeader, "k")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, 201, w.Body.Len())
	require.Equal(t, http.StatusGone, post(h, "/", "x", keyHeader, "k").Code)
	require.Equal(t, 1, runs)
}

func TestHandlerStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		runs := 0
		store.onBegin = down
		w := post(New(store, nil).Handler(counting(&runs)), "/", "x", keyHeader, "k")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.NotEmpty(t, w.Header().Get("Retry-After"))
		require.NotContains(t, w.Body.String(), errDown.Error(), "the store's error is no business of the client's")
		require.Zero(t, runs)
		require.Equal(t, "1: x", post(New(store, &Options{FailOpen: true}).Handler(counting(&runs)), "/", "x", keyHeader, "k").Body.String())

		store.onBegin = func() error { return nil }
		store.onComplete = func([]byte) error { return errDown }
		require.Equal(t, "2: x", post(New(store, nil).Handler(counting(&runs)), "/", "x", keyHeader, "k").Body.String())
	})
}

func TestHandlerPanic(t *testing.T) {
	runs := 0
	h := New(NewMemoryStore(10), nil).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if runs++; runs == 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { post(h, "/", "x", keyHeader, "k") })
	require.Equal(t, http.StatusOK, post(h, "/", "x", keyHeader, "k").Code)
	require.Equal(t, 2, runs)
}

// A handler that gives up because its client has gone writes nothing, which
// net/http takes for 200: that must not be replayed.
func TestHandlerClientLeaves(t *testing.T) {
	runs := 0
	ctx, cancel := context.WithCancel(t.Context())
	h := New(NewMemoryStore(10), nil).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if runs++; runs == 1 {
			cancel()
			<-r.Context().Done()
		}
	}))
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")).WithContext(ctx)
	r.Header.Set(keyHeader, "k")
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, http.StatusOK, post(h, "/", "x", keyHeader, "k").Code)
	require.Equal(t, 2, runs)
}

func TestHandlerReplayOfSomethingElse(t *testing.T) {
	g := New(NewMemoryStore(10), nil)
	runs := 0
	h := g.Handler(counting(&runs))
	_, err := Do(t.Context(), g, Key{Scope: "http", ID: "k"}, func(context.Context) (int, error) { return 1, nil })
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, post(h, "/", "x", keyHeader, "k").Code)
	require.Zero(t, runs)
}

// Behind a real server, the first answer and the replay are the same bytes.
func TestHandlerBehindServer(t *testing.T) {
	large := bytes.Repeat([]byte("<p>lantern</p>"), 1000)
	server := httptest.NewServer(New(NewMemoryStore(10), nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(large)
	})))
	defer server.Close()
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("x"))
		require.NoError(t, err)
		r.Header.Set(keyHeader, `"k"`)
		resp, err := server.Client().Do(r)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, large, body)
		require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, seed := range []string{`"k-1"`, `k-1`, `"a\"b\\c"`, `"`, `"\"`, ``, ` "a" `, `"a";p=1`, "a,b", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, fault := parseHeader([]string{value})
		if (key == "") == (fault == "") {
			t.Fatalf("key %q and fault %q", key, fault)
		}
		if fault != "" {
			return
		}
		if len(key) > maxHeaderKey || !printable(key) {
			t.Fatalf("key %q", key)
		}
		// Quoted as RFC 8941 says, the key is the same key.
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, fault := parseHeader([]string{quoted}); again != key || fault != "" {
			t.Fatalf("%q is %q, and %q is %q %q", value, key, quoted, again, fault)
		}
	})
}

func FuzzUnsealResponse(f *testing.F) {
	rec := &recorder{header: http.Header{"Content-Type": {"text/plain"}, "Set-Cookie": {"a=b"}, "Vary": {"Accept"}}, outer: http.Header{"Etag": {"1"}}}
	fmt.Fprint(rec, "body\nof two lines")
	f.Add(rec.seal([]string{"Content-Type", "Vary", "Etag"}))
	f.Add(rec.seal([]string{"Set-Cookie"}))
	f.Add([]byte("\x01h{\"status\":200,\"added\":{\"Set-Cookie\":[\"a=b\"]}}\n"))
	f.Add([]byte("\x01h{}\n"))
	f.Add([]byte("\x01h{\"status\":200}\nbody"))
	f.Add([]byte("\x01h{\"status\":99999}\nbody"))
	f.Add([]byte("\x01h{\"status\":200}"))
	f.Add([]byte("\x02h{\"status\":200}\n"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		w := httptest.NewRecorder()
		rec := newRecorder(w)
		if rec.unseal(stored) != nil {
			return
		}
		rec.send(w) // panics on a status that net/http refuses
		if len(w.Header().Values("Set-Cookie")) > 0 {
			t.Fatal("a cookie was replayed")
		}
		var names []string
		for name := range rec.sent {
			names = append(names, name)
		}
		again := newRecorder(httptest.NewRecorder())
		err := again.unseal(rec.seal(names))
		if err != nil || again.status != rec.status || !bytes.Equal(again.body.Bytes(), rec.body.Bytes()) {
			t.Fatalf("sealed again: %v, %v", again, err)
		}
	})
}
