package concurrencyhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// serve starts a server and counts the connections it accepts.
func serve(t *testing.T, h http.HandlerFunc) (url string, dials *atomic.Int64) {
	t.Helper()
	dials = new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, dials
}

func client(t *testing.T, o *concurrencyhttp.Options) *http.Client {
	t.Helper()
	c := concurrencyhttp.NewClient(o)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(ctx context.Context, c *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}

// With two idle connections per host 16 concurrent callers would dial
// again and again.
func TestConnectionsAreReused(t *testing.T) {
	for name, o := range map[string]*concurrencyhttp.Options{"default": nil, "base": {Base: new(http.Transport)}} {
		t.Run(name, func(t *testing.T) { reuse(t, o) })
	}
}

func reuse(t *testing.T, o *concurrencyhttp.Options) {
	t.Helper()
	const callers, rounds = 16, 10
	// A connection may still be on its way back when the next round begins; with
	// the zero Client this is about 16 + 9*14.
	if dialled, reused := crowd(t, o, callers, rounds); dialled > 2*callers || reused < callers*(rounds-2) {
		t.Errorf("%d dials and %d reuses for %d rounds of %d callers", dialled, reused, rounds, callers)
	}
}

// A limiter that admits more than are kept by default would have the rest
// dialled each time.
func TestAsManyIdleConnectionsAsTheLimiterAdmits(t *testing.T) {
	const callers, rounds = 128, 6
	o := &concurrencyhttp.Options{Limiter: concurrency.NewSemaphore(callers, concurrency.FIFO)}
	if dialled, _ := crowd(t, o, callers, rounds); dialled > 2*callers { // with 64: 128 + 5*64
		t.Errorf("%d dials for %d rounds of %d callers", dialled, rounds, callers)
	}
	idle := func(o *concurrencyhttp.Options) (perHost, all int) {
		return concurrencyhttp.Idle(client(t, o))
	}
	fifo := func(n int64) *concurrencyhttp.Options {
		return &concurrencyhttp.Options{Limiter: concurrency.NewSemaphore(n, concurrency.FIFO)}
	}
	own := fifo(128)
	own.Base = &http.Transport{MaxIdleConnsPerHost: 3}
	for _, k := range []struct {
		o            *concurrencyhttp.Options
		perHost, all int
	}{
		{nil, 64, 256},
		{fifo(8), 64, 256},
		{fifo(200), 200, 800},
		{fifo(1 << 40), 1024, 4096},
		{own, 3, 0},
	} {
		if perHost, all := idle(k.o); perHost != k.perHost || all != k.all {
			t.Errorf("%d idle connections per host, %d in all, want %d and %d", perHost, all, k.perHost, k.all)
		}
	}
}

// crowd has all callers in the server at once, round after round, and counts
// the connections that were dialled and those that were used again.
func crowd(t *testing.T, o *concurrencyhttp.Options, callers, rounds int) (dialled, reused int64) {
	t.Helper()
	concurrencytest.CheckLeaks(t)
	arrived := make(chan struct{}, callers)
	release := make(chan struct{})
	url, dials := serve(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	c := client(t, o)
	var again atomic.Int64
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			again.Add(1)
		}
	}})
	for range rounds {
		// All requests of a round are in the server at once, so a round needs as
		// many connections, and the next the same ones.
		go func() {
			for range callers {
				<-arrived
			}
			for range callers {
				release <- struct{}{}
			}
		}()
		err := concurrency.Each(ctx, callers, make([]int, callers), func(ctx context.Context, _ int) error {
			resp, err := get(ctx, c, url)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dials.Load(), again.Load()
}

// One connection carries everything over HTTP/2, read or not.
func TestHTTP2(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var dials atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("asked over %s", r.Proto)
		}
		_, _ = w.Write(make([]byte, 256<<10)) // more than is drained
	}))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	sem := concurrency.NewSemaphore(4, concurrency.FIFO)
	c := client(t, &concurrencyhttp.Options{Limiter: sem, Base: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   s.Client().Transport.(*http.Transport).TLSClientConfig,
	}})
	ask := func(ctx context.Context, read bool) error {
		resp, err := get(ctx, c, s.URL)
		if err != nil {
			return err
		}
		if read {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		return errors.Join(err, resp.Body.Close())
	}
	if err := ask(t.Context(), true); err != nil { // the connection the others share
		t.Fatal(err)
	}
	err := concurrency.Each(t.Context(), 16, upTo(64), func(ctx context.Context, i int) error { return ask(ctx, i%2 == 0) })
	if err != nil {
		t.Fatal(err)
	}
	if st := sem.Stats(); dials.Load() != 1 || st.InFlight != 0 || st.Failed != 0 || st.Admitted != 65 {
		t.Errorf("%d dials, stats %+v", dials.Load(), st)
	}
}

func upTo(n int) []int {
	in := make([]int, n)
	for i := range in {
		in[i] = i
	}
	return in
}

// A body that is closed before its end must not cost the connection.
func TestUnreadBodiesDoNotCostTheConnection(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	url, dials := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 32<<10))
	})
	c := client(t, nil)
	for range 20 {
		resp, err := get(t.Context(), c, url)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials for 20 requests in a row", n)
	}
}

// Draining has an end in bytes and in time, or closing an endless stream would
// wait for it.
func TestDrainingIsBounded(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	for name, h := range map[string]http.HandlerFunc{
		"silent stream": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"endless stream": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				h(w, r)
			})
			s := concurrency.NewSemaphore(1, concurrency.NoWait)
			resp, err := get(t.Context(), client(t, &concurrencyhttp.Options{Limiter: s}), url)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close() // hangs if draining has no end
			<-ended               // hangs if the connection is not given up
			if st := s.Stats(); st.InFlight != 0 || st.Failed != 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestDeadlineIsHandedOn(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	var front, back time.Duration
	left := func(r *http.Request) time.Duration {
		d, ok := r.Context().Deadline()
		if !ok {
			return 0
		}
		return time.Until(d)
	}
	c := client(t, nil)
	inner := httptest.NewServer(concurrencyhttp.Deadline(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		back = left(r)
	})))
	t.Cleanup(inner.Close)
	outer := httptest.NewServer(concurrencyhttp.Deadline(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		front = left(r)
		resp, err := get(r.Context(), c, inner.URL)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = resp.Body.Close()
	})))
	t.Cleanup(outer.Close)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := get(ctx, c, outer.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if front <= 0 || back <= 0 || back >= front || front >= 20*time.Second {
		t.Errorf("of 20 s the first server had %v, the second %v", front, back)
	}

	// The stated timeout counts, where the caller has no deadline.
	resp, err = get(t.Context(), c, inner.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if back <= 20*time.Second || back > 30*time.Second {
		t.Errorf("without a deadline the server was given %v, want nearly 30 s", back)
	}
}

func TestHeaderOfTheCallerStands(t *testing.T) {
	var sent []string
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { sent = r.Header.Values("Grpc-Timeout") })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Grpc-Timeout", "7m")
	resp, err := client(t, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(sent) != 1 || sent[0] != "7m" {
		t.Errorf("sent %q", sent)
	}
	req.Header.Del("Grpc-Timeout")
	if resp, err = client(t, nil).Do(req); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(sent) != 1 || len(req.Header) != 0 {
		t.Errorf("sent %q; the caller's request must not be modified, it has %v", sent, req.Header)
	}
}

// verdicts is a limiter that hands out what it learns.
type verdicts chan string

func (v verdicts) Acquire(ctx context.Context, _ int64) (concurrency.Permit, error) {
	return concurrency.NewPermit(ctx, func(known bool, err error) {
		v <- fmt.Sprintf("known %v, failed %v", known, err != nil)
	}), nil
}

func TestLimiterLearns(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "short")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"success":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }, "known true, failed false"},
		"no body":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "known true, failed false"},
		"not found":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "known true, failed false"},
		"server error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "known true, failed true"},
		"cut off":       {cut, "known true, failed true"},
		"no connection": {nil, "known true, failed true"},
	} {
		t.Run(name, func(t *testing.T) {
			v := make(verdicts, 2)
			url := "http://127.0.0.1:1"
			if c.h != nil {
				url, _ = serve(t, c.h)
			}
			resp, err := get(t.Context(), client(t, &concurrencyhttp.Options{Limiter: v}), url)
			if err == nil {
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			close(v)
			if got := <-v; got != c.want {
				t.Errorf("learned %q, want %q", got, c.want)
			}
			if again, ok := <-v; ok {
				t.Errorf("and then %q", again)
			}
		})
	}
}

func TestLeavingIsNoFailure(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	arrived := make(chan struct{})
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	v := make(verdicts, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	resp, err := get(ctx, client(t, &concurrencyhttp.Options{Limiter: v}), url)
	if err == nil {
		_ = resp.Body.Close()
	}
	if got := <-v; !errors.Is(err, context.Canceled) || got != "known false, failed false" {
		t.Errorf("%v, learned %q", err, got)
	}
}

// A response without a body need not be closed, as with any client.
func TestNoBodyReleasesAtOnce(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	s := concurrency.NewSemaphore(1, concurrency.NoWait)
	c := client(t, &concurrencyhttp.Options{Limiter: s})
	for range 2 {
		resp, err := get(t.Context(), c, url)
		if err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.InFlight != 0 {
			t.Errorf("stats %+v", st)
		}
		_ = resp.Body.Close()
	}
}

// past is a context whose deadline has passed a moment before its timer fires.
type past struct{ context.Context }

func (past) Deadline() (time.Time, bool) { return time.Now(), true }

type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error { c.closed = true; return nil }

// What is refused or too late is not sent, and its body is closed all the same.
func TestNotSent(t *testing.T) {
	asked := false
	url, _ := serve(t, func(http.ResponseWriter, *http.Request) { asked = true })
	full := concurrency.NewSemaphore(1, concurrency.NoWait)
	if _, err := full.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	expired, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	for _, c := range []struct {
		ctx  context.Context
		o    *concurrencyhttp.Options
		want error
	}{
		{t.Context(), &concurrencyhttp.Options{Limiter: full}, concurrency.ErrRejected},
		{expired, nil, context.DeadlineExceeded},
		{past{t.Context()}, nil, context.DeadlineExceeded},
	} {
		body := &closes{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, url, body)
		if err != nil {
			t.Fatal(err)
		}
		// Through the transport itself: http.Client has checks of its own.
		resp, err := client(t, c.o).Transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, c.want) || asked || !body.closed {
			t.Errorf("%v, asked %v, body closed %v", err, asked, body.closed)
		}
	}
}

func TestBaseIsCopied(t *testing.T) {
	used := 0
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		used++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	url, _ := serve(t, func(http.ResponseWriter, *http.Request) {})
	resp, err := get(t.Context(), client(t, &concurrencyhttp.Options{Base: base}), url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if used != 1 || base.MaxIdleConnsPerHost != 0 {
		t.Errorf("dialled %d times; base has %d idle connections per host now", used, base.MaxIdleConnsPerHost)
	}
}

func TestUpgradeKeepsTheConnectionWritable(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = conn.Write([]byte(line))
	})
	v := make(verdicts, 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	c := client(t, &concurrencyhttp.Options{Limiter: v})
	c.Timeout = 0 // http.Client hides the writer otherwise
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	rw, ok := resp.Body.(io.ReadWriter)
	if !ok || <-v != "known false, failed false" {
		t.Fatal("an upgraded connection must be writable, and teach nothing")
	}
	_, _ = io.WriteString(rw, "hello\n")
	if got, _ := io.ReadAll(rw); string(got) != "hello\n" {
		t.Errorf("echoed %q", got)
	}
}
