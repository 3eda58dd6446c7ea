package serve

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNetworkDelaysAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := Network(1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		const n = 20_000
		took := make([]time.Duration, n)
		hangs := 0
		for i := range took {
			start := time.Now()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			took[i] = time.Since(start)
			if took[i] == hangFor {
				hangs++
			}
		}
		slices.Sort(took)
		require.InDelta(t, networkP50, took[n/2], float64(time.Millisecond))
		require.InDelta(t, networkP99, took[n*99/100], float64(3*time.Millisecond))
		require.InDelta(t, n*hangShare, hangs, 15) // more than three standard deviations
	})
}

func TestNetworkLetsGoOfWhoLeaves(t *testing.T) {
	seed := uint64(0)
	for rand.New(rand.NewPCG(seed, 0xfa)).Float64() >= hangShare {
		seed++
	}
	hung := Network(seed, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request that hangs came through")
	}))
	arrived, left := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		close(arrived)
		hung.ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader("a body nobody has read"))
	require.NoError(t, err)
	resp, err := server.Client().Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.ErrorIs(t, err, context.Canceled)
	<-left
}
