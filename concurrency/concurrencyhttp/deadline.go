package concurrencyhttp

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

const timeoutHeader = "Grpc-Timeout"

// Deadline returns a handler that gives next the deadline the caller sent: the
// request's context ends when the caller no longer waits. An earlier deadline
// of the context stands, so a caller can only shorten it. Without the header
// next is called with the request as it is. A header that cannot be read is
// answered with 400, a time of zero with 504; next is not called then. It
// panics if next is nil.
//
// Deadline writes nothing when time runs out; that is left to next, which alone
// knows what it has written already.
func Deadline(next http.Handler) http.Handler {
	if next == nil {
		panic("concurrencyhttp: Deadline: nil handler")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get(timeoutHeader)
		if sent == "" {
			next.ServeHTTP(w, r)
			return
		}
		left, err := parseTimeout(sent)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if left == 0 {
			http.Error(w, "concurrencyhttp: the caller has no time left", http.StatusGatewayTimeout)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), left)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

var units = []struct {
	symbol byte
	size   time.Duration
}{
	{'n', time.Nanosecond},
	{'u', time.Microsecond},
	{'m', time.Millisecond},
	{'S', time.Second},
	{'M', time.Minute},
	{'H', time.Hour},
}

// formatTimeout writes d, which is positive, in the finest unit that needs no
// more than eight digits, rounded down: the callee must not wait for longer
// than the caller.
func formatTimeout(d time.Duration) string {
	for _, u := range units {
		if n := d / u.size; n < 1e8 {
			return strconv.FormatInt(int64(n), 10) + string(u.symbol)
		}
	}
	return "99999999H" // not reached: a Duration has less than 2,562,048 hours
}

// parseTimeout reads what the protocol allows and no more. What a Duration
// cannot hold becomes the longest there is.
func parseTimeout(s string) (time.Duration, error) {
	if len(s) < 2 || len(s) > 9 {
		return 0, badTimeout(s)
	}
	digits := s[:len(s)-1]
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, badTimeout(s)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, badTimeout(s)
	}
	for _, u := range units {
		if u.symbol != s[len(s)-1] {
			continue
		}
		if n > math.MaxInt64/int64(u.size) {
			return math.MaxInt64, nil
		}
		return time.Duration(n) * u.size, nil
	}
	return 0, badTimeout(s)
}

// badTimeout quotes no more of what an outsider sent than can matter.
func badTimeout(s string) error {
	return fmt.Errorf("concurrencyhttp: header %s is %.16q, want at most 8 digits and one of H, M, S, m, u, n", timeoutHeader, s)
}
