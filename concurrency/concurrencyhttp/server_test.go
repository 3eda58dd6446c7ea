package concurrencyhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// up runs h as a service and returns its URL, a way to stop it and its result.
func up(t *testing.T, drain time.Duration, h http.HandlerFunc) (url string, stop func(), result <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	srv := &http.Server{Addr: "127.0.0.1:0", Handler: h, ReadHeaderTimeout: time.Minute, BaseContext: func(l net.Listener) context.Context {
		addr <- l.Addr().String()
		return context.Background()
	}}
	done := make(chan error, 1)
	go func() { done <- concurrency.Run(ctx, concurrencyhttp.Serve(srv, drain)) }()
	return "http://" + <-addr, cancel, done
}

func TestServeDrains(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	url, stop, result := up(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		if r.Context().Err() != nil {
			t.Error("a request is cancelled while it should be let finish")
		}
		_, _ = io.WriteString(w, "finished")
	})
	c := client(t, nil)
	answer := make(chan string, 1)
	go func() {
		resp, err := get(t.Context(), c, url)
		if err != nil {
			answer <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answer <- string(body)
	}()
	<-arrived
	stop()
	for { // the listener closes first
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	select {
	case err := <-result:
		t.Fatalf("returned with a request in progress: %v", err)
	default:
	}
	close(release)
	if got := <-answer; got != "finished" {
		t.Errorf("answered %q", got)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestServeCutsOffWhatDoesNotEnd(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	arrived := make(chan struct{})
	cancelled := make(chan struct{})
	url, stop, result := up(t, time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(cancelled)
	})
	c := client(t, nil)
	answer := make(chan error, 1)
	go func() {
		resp, err := get(t.Context(), c, url)
		if err == nil {
			_ = resp.Body.Close()
		}
		answer <- err
	}()
	<-arrived
	stop()
	if err := <-result; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not drained within 1ms") {
		t.Errorf("got %v", err)
	}
	<-cancelled // hangs if the handler is not told
	if err := <-answer; err == nil {
		t.Error("a request that was cut off looks like a success")
	}
}

// A client that dials ahead of its requests is no reason to wait, nor to report
// that requests were cut off.
func TestServeDoesNotWaitForUnusedConnections(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	url, stop, result := up(t, 3*time.Second, func(http.ResponseWriter, *http.Request) {})
	addr := strings.TrimPrefix(url, "http://")
	unused, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	resp, err := get(t.Context(), client(t, nil), url) // accepted after the other
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	stop()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if _, err := unused.Read(make([]byte, 1)); err == nil {
		t.Error("bytes on a connection on which nothing was asked")
	}
}

// A request whose body is still coming is in progress.
func TestServeFinishesARequestThatHasBegun(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	addr, begun, states := make(chan string, 1), make(chan struct{}), make(chan http.ConnState, 8)
	srv := &http.Server{
		Addr: "127.0.0.1:0", ReadHeaderTimeout: time.Minute,
		BaseContext: func(l net.Listener) context.Context {
			addr <- l.Addr().String()
			return context.Background()
		},
		ConnState: func(_ net.Conn, s http.ConnState) { states <- s },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			_, _ = io.Copy(w, r.Body)
		}),
	}
	stopped := make(chan struct{})
	srv.RegisterOnShutdown(func() { close(stopped) })
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- concurrencyhttp.Serve(srv, time.Minute)(ctx) }()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", <-addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.0\r\nContent-Length: 8\r\n\r\n")
	<-begun
	stop()
	<-stopped
	_, _ = io.WriteString(conn, "finished")
	answer, err := io.ReadAll(conn)
	if !strings.HasSuffix(string(answer), "finished") {
		t.Errorf("answered %q: %v", answer, err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if first, second := <-states, <-states; first != http.StateNew || second != http.StateActive {
		t.Errorf("the server's own hook saw %v, %v", first, second)
	}
}

func TestServeReportsWhatItCannotListenOn(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := &http.Server{Addr: l.Addr().String(), ReadHeaderTimeout: time.Minute}
	err = concurrencyhttp.Serve(srv, 0)(t.Context())
	if _, ok := errors.AsType[*net.OpError](err); !ok || !strings.Contains(err.Error(), "concurrencyhttp: serve "+srv.Addr) {
		t.Errorf("got %v", err)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	srv := &http.Server{Addr: "127.0.0.1:0", ReadHeaderTimeout: time.Minute}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := concurrencyhttp.Serve(srv, 0)(t.Context()); err != nil {
		t.Errorf("a server that was shut down has finished: %v", err)
	}
}
