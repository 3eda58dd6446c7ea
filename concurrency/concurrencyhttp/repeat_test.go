package concurrencyhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// soon repeats at once.
func soon() *concurrency.RetryPolicy {
	return &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: 1, Max: 1}}
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// answer does req and returns status and body.
func answer(t *testing.T, c *http.Client, req *http.Request) (status int, text string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, string(body)
}

func TestRetryUntilAnswered(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var got []string
	url, dials := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, string(body))
		if len(got) < 3 {
			http.Error(w, strings.Repeat("busy ", 1000), []int{http.StatusServiceUnavailable, http.StatusTooManyRequests}[len(got)-1])
			return
		}
		_, _ = io.WriteString(w, "done")
	})
	v := make(verdicts, 4)
	c := client(t, &concurrencyhttp.Options{Retry: soon(), Limiter: v})
	req := request(t, http.MethodPost, url, strings.NewReader("pay"))
	req.Header.Set("Idempotency-Key", "order-7")
	mine := req.Body
	resp, err := c.Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(text) != "done" {
		t.Errorf("%d %q", resp.StatusCode, text)
	}
	if req.Body != mine || len(req.Header) != 1 {
		t.Errorf("the caller's request was modified: %v", req.Header)
	}
	if !slices.Equal(got, []string{"pay", "pay", "pay"}) || dials.Load() != 1 {
		t.Errorf("sent %q over %d connections", got, dials.Load())
	}
	close(v)
	for _, want := range []string{"known true, failed true", "known true, failed false", "known true, failed false"} {
		if learned := <-v; learned != want {
			t.Errorf("the limiter learned %q, want %q", learned, want)
		}
	}
}

func TestOnlyWhatMayBeRepeatedIs(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var sent atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "busy")
	})
	c := client(t, &concurrencyhttp.Options{Retry: soon()})
	once := client(t, nil)
	key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }
	noKey := func(r *http.Request) { r.Header.Set("Idempotency-Key", "") }
	lost := func(r *http.Request) { r.GetBody = nil }
	for _, k := range []struct {
		name, method string
		change       func(*http.Request)
		client       *http.Client
		body         bool
		want         int64
	}{
		{name: "GET", method: "GET", want: 3},
		{name: "HEAD", method: "HEAD", want: 3},
		{name: "OPTIONS", method: "OPTIONS", want: 3},
		{name: "TRACE", method: "TRACE", want: 3},
		{name: "DELETE", method: "DELETE", want: 3},
		{name: "PUT with a body", method: "PUT", body: true, want: 3},
		{name: "PUT, its body is gone", method: "PUT", body: true, change: lost, want: 1},
		{name: "POST", method: "POST", body: true, want: 1},
		{name: "POST with a key", method: "POST", body: true, change: key, want: 3},
		{name: "POST with an empty key", method: "POST", body: true, change: noKey, want: 1},
		{name: "POST with a key, its body is gone", method: "POST", body: true, change: func(r *http.Request) { key(r); lost(r) }, want: 1},
		{name: "PATCH", method: "PATCH", body: true, want: 1},
		{name: "PATCH with a key, no body", method: "PATCH", change: key, want: 3},
		{name: "CONNECT", method: "CONNECT", want: 1},
		{name: "no policy", method: "GET", client: once, want: 1},
	} {
		var body io.Reader = http.NoBody
		if k.body {
			body = strings.NewReader("x")
		}
		req := request(t, k.method, url, body)
		if k.change != nil {
			k.change(req)
		}
		use := c
		if k.client != nil {
			use = k.client
		}
		sent.Store(0)
		status, text := answer(t, use, req)
		if want := "busy"; k.method != "HEAD" && text != want || status != http.StatusServiceUnavailable {
			t.Errorf("%s: the last answer is %d %q", k.name, status, text)
		}
		if n := sent.Load(); n != k.want {
			t.Errorf("%s: sent %d times, want %d", k.name, n, k.want)
		}
	}
}

func TestOnlyWhatIsTemporaryIsRepeated(t *testing.T) {
	var sent atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		status, _ := time.ParseDuration(r.URL.Path[1:] + "ns")
		w.WriteHeader(int(status))
	})
	picky := soon()
	picky.Retryable = func(err error) bool {
		e, ok := errors.AsType[*concurrencyhttp.StatusError](err)
		return ok && e.Code == http.StatusBadGateway && strings.HasPrefix(e.Host, "127.0.0.1:") &&
			strings.HasSuffix(e.Error(), " answered 502 Bad Gateway")
	}
	c, p := client(t, &concurrencyhttp.Options{Retry: soon()}), client(t, &concurrencyhttp.Options{Retry: picky})
	for path, want := range map[string][2]int64{
		"/200": {1, 1}, "/404": {1, 1}, "/409": {1, 1}, "/429": {3, 1}, "/500": {1, 1}, "/501": {1, 1}, "/502": {3, 3}, "/503": {3, 1}, "/504": {3, 1},
	} {
		for i, use := range []*http.Client{c, p} {
			sent.Store(0)
			answer(t, use, request(t, http.MethodGet, url+path, http.NoBody))
			if n := sent.Load(); n != want[i] {
				t.Errorf("%s, client %d: sent %d times, want %d", path, i, n, want[i])
			}
		}
	}
}

// An answer that is too long to be kept is handed on while it comes.
func TestALongAnswerIsTheLast(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	const kept = 64 << 10
	for size, want := range map[int]int64{kept: 3, kept + 1: 1, 3 * kept: 1} {
		var sent atomic.Int64
		url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			sent.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		})
		s := concurrency.NewSemaphore(1, concurrency.NoWait)
		c := client(t, &concurrencyhttp.Options{Retry: soon(), Limiter: s})
		_, text := answer(t, c, request(t, http.MethodGet, url, http.NoBody))
		if len(text) != size || sent.Load() != want {
			t.Errorf("%d bytes of %d, sent %d times, want %d", len(text), size, sent.Load(), want)
		}
		if st := s.Stats(); st.InFlight != 0 || st.Admitted != uint64(want) || st.Failed != uint64(want) {
			t.Errorf("stats %+v", st)
		}
	}
}

func TestRetryOfTransportErrors(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	errDial := errors.New("no route today")
	for _, k := range []struct {
		failures, dials int
		o               concurrencyhttp.Options
		want            error
	}{
		{2, 3, concurrencyhttp.Options{Retry: soon()}, nil},
		{9, 3, concurrencyhttp.Options{Retry: soon()}, errDial},
		{1, 1, concurrencyhttp.Options{}, errDial},
	} {
		dials := 0
		k.o.Base = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials <= k.failures {
				return nil, errDial
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
		url, _ := serve(t, func(http.ResponseWriter, *http.Request) {})
		resp, err := get(t.Context(), client(t, &k.o), url)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, k.want) || dials != k.dials {
			t.Errorf("%d dials, %v", dials, err)
		}
	}
}

// What a limiter refuses is refused to save work: asking again would not.
func TestRefusalsAreNotRepeated(t *testing.T) {
	s := concurrency.NewSemaphore(1, concurrency.NoWait)
	if _, err := s.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	body := &closes{Reader: strings.NewReader("x")}
	req := request(t, http.MethodPut, "http://127.0.0.1:1", body)
	req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("asked for again") }
	resp, err := client(t, &concurrencyhttp.Options{Retry: soon(), Limiter: s}).Transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if st := s.Stats(); !errors.Is(err, concurrency.ErrRejected) || st.Rejected != 1 || !body.closed {
		t.Errorf("%v, stats %+v, body closed %v", err, st, body.closed)
	}
}

func TestBodyThatCannotBeHadAgain(t *testing.T) {
	var sent atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	errGone := errors.New("the file is gone")
	req := request(t, http.MethodPut, url, strings.NewReader("x"))
	req.GetBody = func() (io.ReadCloser, error) { return nil, errGone }
	resp, err := client(t, &concurrencyhttp.Options{Retry: soon()}).Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	permanent, _ := concurrency.Advice(err) // another request, made anew, may well have its body
	if !errors.Is(err, errGone) || sent.Load() != 1 || permanent {
		t.Errorf("%v, permanent %v, sent %d times", err, permanent, sent.Load())
	}
}

func TestRetryClosesABodyItNeverSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closes{Reader: strings.NewReader("x")}
	req := request(t, http.MethodPut, "http://127.0.0.1:1", body).WithContext(ctx)
	req.GetBody = func() (io.ReadCloser, error) { return body, nil }
	resp, err := client(t, &concurrencyhttp.Options{Retry: soon()}).Transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) || !body.closed {
		t.Errorf("%v, body closed %v", err, body.closed)
	}
}

// pipes is a network within a bubble of synctest.
type pipes chan net.Conn

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p <- there
	return here, nil
}

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.IPAddr{} }

// bubble serves h to a client with the options within a bubble.
func bubble(t *testing.T, o concurrencyhttp.Options, h http.HandlerFunc) *http.Client {
	t.Helper()
	p := make(pipes)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	go func() { _ = srv.Serve(p) }()
	o.Base = &http.Transport{DialContext: p.dial}
	c := concurrencyhttp.NewClient(&o)
	t.Cleanup(func() {
		c.CloseIdleConnections()
		_ = srv.Close()
	})
	return c
}

func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		s := concurrency.NewSemaphore(1, concurrency.NoWait)
		c := bubble(t, concurrencyhttp.Options{Retry: soon(), Limiter: s}, func(w http.ResponseWriter, _ *http.Request) {
			switch at = append(at, time.Since(begin)); len(at) {
			case 1:
				w.Header().Set("Retry-After", "7")
			case 2:
				w.Header().Set("Retry-After", begin.Add(12*time.Second).UTC().Format(http.TimeFormat))
			default:
				return
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		done := make(chan int, 1)
		go func() {
			status, _ := answer(t, c, request(t, http.MethodGet, "http://service", http.NoBody))
			done <- status
		}()
		time.Sleep(3 * time.Second)
		if st := s.Stats(); st.InFlight != 0 || st.Admitted != 1 {
			t.Errorf("while waiting: %+v", st)
		}
		if status := <-done; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		if want := []time.Duration{0, 7 * time.Second, 12 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
	})
}

// Where the deadline is nearer than the next run, the last answer comes at once.
func TestRetryKeepsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bubble(t, concurrencyhttp.Options{Retry: soon()}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "31") // the client has 30 s
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
		})
		begin := time.Now()
		status, text := answer(t, c, request(t, http.MethodGet, "http://service", http.NoBody))
		if took := time.Since(begin); status != http.StatusServiceUnavailable || text != "busy" || took != 0 {
			t.Errorf("%d %q after %v", status, text, took)
		}
	})
}

func TestLeavingEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bubble(t, concurrencyhttp.Options{Retry: soon()}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		resp, err := get(ctx, c, "http://service")
		if err == nil {
			_ = resp.Body.Close()
		}
		e, ok := errors.AsType[*concurrencyhttp.StatusError](err)
		if !errors.Is(err, context.Canceled) || !ok || e.Code != http.StatusServiceUnavailable || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// An answer that breaks off while it is kept is no answer.
func TestRetryOfABrokenAnswer(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sent.Add(1) == 3 {
			_, _ = io.WriteString(w, "whole")
			return
		}
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "short")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	status, text := answer(t, client(t, &concurrencyhttp.Options{Retry: soon()}), request(t, http.MethodGet, s.URL, http.NoBody))
	if status != http.StatusOK || text != "whole" || sent.Load() != 3 {
		t.Errorf("%d %q, sent %d times", status, text, sent.Load())
	}
}
