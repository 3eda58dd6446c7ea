package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/messaging"
)

type receipt struct{ Number, Pence int }

func ExampleDo() {
	ctx := context.Background()
	guard := idempotency.New(idempotency.NewMemoryStore(100_000), nil)
	key := idempotency.Key{Scope: "charge", ID: "order-17"}

	charges := 0
	charge := func(context.Context) (receipt, error) {
		charges++
		return receipt{Number: charges, Pence: 1250}, nil
	}
	for range 3 {
		r, err := idempotency.Do(ctx, guard, key, charge)
		fmt.Println(r, err)
	}
	fmt.Println("charged", charges, "time")
	// Output:
	// {1 1250} <nil>
	// {1 1250} <nil>
	// {1 1250} <nil>
	// charged 1 time
}

// Work that fails is not remembered, except that it was tried.
func ExampleDo_failure() {
	ctx := context.Background()
	guard := idempotency.New(idempotency.NewMemoryStore(100_000), nil)
	key := idempotency.Key{Scope: "charge", ID: "order-17"}

	_, err := idempotency.Do(ctx, guard, key, func(context.Context) (receipt, error) {
		return receipt{}, errors.New("the bank is closed")
	})
	fmt.Println(err)
	r, err := idempotency.Do(ctx, guard, key, func(context.Context) (receipt, error) {
		return receipt{Number: 1, Pence: 1250}, nil
	})
	fmt.Println(r, err)
	// Output:
	// the bank is closed
	// {1 1250} <nil>
}

// One key for two different requests is a mistake, and is noticed.
func ExampleSum() {
	ctx := context.Background()
	guard := idempotency.New(idempotency.NewMemoryStore(100_000), nil)
	charge := func(body string) error {
		key := idempotency.Key{Scope: "charge", ID: "order-17", Fingerprint: idempotency.Sum([]byte(body))}
		_, err := idempotency.Do(ctx, guard, key, func(context.Context) (receipt, error) {
			return receipt{Number: 1, Pence: 1250}, nil
		})
		return err
	}
	fmt.Println(charge(`{"pence":1250}`))
	fmt.Println(charge(`{"pence":9999}`))
	// Output:
	// <nil>
	// idempotency: begin charge/order-17: the key belongs to a different request
}

func ExampleKey_Child() {
	order := idempotency.Key{Scope: "order", ID: "no. 17"}
	fmt.Println(order.Child("charge"))
	fmt.Println(order.Child("receipt"))
	// Output:
	// order/charge/no.%2017
	// order/receipt/no.%2017
}

// A redelivered message takes effect once. A consumer does this to all its
// routes when the guard is its ConsumerOptions.Inbox.
func ExampleGuard_Once() {
	ctx := context.Background()
	guard := idempotency.New(idempotency.NewMemoryStore(1_000_000), nil)
	bill := guard.Once(func(_ context.Context, d *messaging.Delivery) error {
		fmt.Printf("billing %s\n", d.Body)
		return nil
	})

	d := &messaging.Delivery{
		Message: messaging.Message{ID: "m-1", Topic: "orders", Body: []byte("two lanterns")},
		Group:   "billing",
	}
	fmt.Println(bill(ctx, d))
	fmt.Println(bill(ctx, d))
	// Output:
	// billing two lanterns
	// <nil>
	// <nil>
}

func ExampleGuard_Handler() {
	guard := idempotency.New(idempotency.NewMemoryStore(100_000), &idempotency.Options{
		HTTP: idempotency.HTTPOptions{
			Scope: func(r *http.Request) string { return r.Header.Get("X-Tenant") }, // as authentication found it
		},
	})
	charges := 0
	server := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		charges++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "charge %d for %s", charges, idempotency.RequestKey(r.Context()))
	}))

	post := func(key, body string) {
		r := httptest.NewRequest(http.MethodPost, "/charges", strings.NewReader(body))
		r.Header.Set("X-Tenant", "acme")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		answer, _ := io.ReadAll(w.Body)
		fmt.Printf("%d %s %s\n", w.Code, w.Header().Get("Idempotency-Replayed"), answer)
	}
	post(`"k-1"`, "1250")
	post(`"k-1"`, "1250")
	post(`"k-1"`, "9999")
	post("", "1250")
	// Output:
	// 201  charge 1 for http/acme/k-1
	// 201 true charge 1 for http/acme/k-1
	// 422  {"detail":"This Idempotency-Key was used for a different request.","status":422,"title":"Unprocessable Entity"}
	// 400  {"detail":"The Idempotency-Key header is required.","status":400,"title":"Bad Request"}
}
