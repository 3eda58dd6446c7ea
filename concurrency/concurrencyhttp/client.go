// Package concurrencyhttp is an HTTP client that reuses its connections and an
// HTTP server that stops gracefully, with the caller's deadline carried between
// them.
package concurrencyhttp

import (
	"net/http"

	"github.com/mainstay-go/mainstay/concurrency"
)

// Options configure [NewClient].
type Options struct {
	Limiter concurrency.Limiter
	Base    *http.Transport
}

// NewClient returns a client.
func NewClient(o *Options) *http.Client { return &http.Client{} }
