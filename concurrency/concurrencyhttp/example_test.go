package concurrencyhttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
)

func ExampleNewClient() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	defer server.Close()

	client := concurrencyhttp.NewClient(&concurrencyhttp.Options{
		Limiter: concurrency.NewSemaphore(32, concurrency.FIFO),
	})
	defer client.CloseIdleConnections()
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: hello <nil>
}

func ExampleDeadline() {
	server := httptest.NewServer(concurrencyhttp.Deadline(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline, ok := r.Context().Deadline()
		fmt.Fprint(w, ok && time.Until(deadline) < 5*time.Second)
	})))
	defer server.Close()

	client := concurrencyhttp.NewClient(nil)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println("the server knows our deadline:", string(body))
	// Output: the server knows our deadline: true
}

func ExampleServe() {
	ctx, stop := context.WithCancel(context.Background()) // in a main: signal.NotifyContext
	srv := &http.Server{
		Addr:        "127.0.0.1:0",
		BaseContext: func(net.Listener) context.Context { stop(); return context.Background() }, // listening: enough for an example
	}
	fmt.Println(concurrency.Run(ctx, concurrencyhttp.Serve(srv, 5*time.Second)))
	// Output: <nil>
}
