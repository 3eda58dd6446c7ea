// Package serve holds the small services behind the gateway: user features,
// item features and the cache of answers, and the faults put in front of them.
package serve

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	networkP50 = 15 * time.Millisecond
	networkP99 = 40 * time.Millisecond
	hangShare  = 0.001
	hangFor    = 10 * time.Second
	maxBody    = 1 << 20
)

// Network delays every request as a slow network does: log-normal with a
// median of 15 ms and a 99th percentile of 40 ms, and one in a thousand hangs
// until its caller leaves. The same seed draws the same delays.
func Network(seed uint64, next http.Handler) http.Handler {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0xfa))
	sigma := math.Log(float64(networkP99)/float64(networkP50)) / 2.3263 // the normal 99th percentile
	draw := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if rng.Float64() < hangShare {
			return hangFor
		}
		return time.Duration(float64(networkP50) * math.Exp(sigma*rng.NormFloat64()))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server notices that its caller has left only once the body is read.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		timer := time.NewTimer(draw())
		defer timer.Stop()
		select {
		case <-timer.C:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// Outage is a service that can be taken away: its connections break without an
// answer, as those of a process that was killed. The zero Outage lets all pass.
type Outage struct{ away atomic.Bool }

// Set takes the service away or brings it back.
func (o *Outage) Set(away bool) { o.away.Store(away) }

// Handler is next while there is no outage.
func (o *Outage) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.away.Load() {
			panic(http.ErrAbortHandler) // closes the connection, without a log line
		}
		next.ServeHTTP(w, r)
	})
}
