package concurrencyhttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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

// What may be repeated is: by its method, or by its key.
func ExampleNewClient_retry() {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "charged ", r.Header.Get("Idempotency-Key"))
	}))
	defer server.Close()

	client := concurrencyhttp.NewClient(&concurrencyhttp.Options{
		Retry: &concurrency.RetryPolicy{Backoff: concurrency.Backoff{Min: time.Millisecond}},
	})
	defer client.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL, strings.NewReader("1250 pence"))
	req.Header.Set("Idempotency-Key", "order-7") // without it a POST is sent once
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), "after", asked)
	// Output: 200 charged order-7 after 3
}

// A request that is late gets a second one beside it, and the first answer is taken.
func ExampleNewClient_hedge() {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 21 {
			<-r.Context().Done() // stuck, until the client has another answer
			return
		}
		_, _ = io.WriteString(w, "in stock")
	}))
	defer server.Close()

	stock := &concurrency.Hedger{Ratio: 0.1}
	client := concurrencyhttp.NewClient(&concurrencyhttp.Options{Hedger: stock})
	defer client.CloseIdleConnections()
	var body []byte
	for range 21 { // it learns from the first 20 how long an answer takes
		resp, err := client.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			fmt.Println(err)
		}
		resp.Body.Close()
	}
	fmt.Println(string(body), "second requests:", stock.Stats().Admitted)
	// Output: in stock second requests: 1
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
		Addr:              "127.0.0.1:0",
		ReadHeaderTimeout: 5 * time.Second,                                                            // net/http has none: who sends slowly would hold a connection for ever
		BaseContext:       func(net.Listener) context.Context { stop(); return context.Background() }, // listening: enough for an example
	}
	fmt.Println(concurrency.Run(ctx, concurrencyhttp.Serve(srv, 5*time.Second)))
	// Output: <nil>
}
