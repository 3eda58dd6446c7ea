package concurrencyhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
	"github.com/mainstay-go/mainstay/concurrency/concurrencytest"
)

// warm teaches the client's hedger that answers come at once.
func warm(t *testing.T, c *http.Client, url string) {
	t.Helper()
	for range 20 {
		if status, _ := answer(t, c, request(t, http.MethodGet, url+"/warm", http.NoBody)); status != http.StatusOK {
			t.Fatal(status)
		}
	}
}

// numbered calls h with the number of the request, those that warm apart.
func numbered(h func(n int64, w http.ResponseWriter, r *http.Request)) (http.HandlerFunc, *atomic.Int64) {
	n := new(atomic.Int64)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/warm" {
			h(n.Add(1), w, r)
		}
	}, n
}

func eager() *concurrency.Hedger { return &concurrency.Hedger{Ratio: 1} }

// stuck answers nothing before d has passed or the client has left.
func stuck(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// The end of the hedge must not cancel the body of the winner: over a real
// connection, and with a body that is on its way when the call has returned.
func TestTheWinnersBodyIsWhole(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	const size = 4 << 20 // more than any buffer takes
	left := make(chan struct{})
	returned := make(chan struct{})
	h, n := numbered(func(n int64, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done()
			close(left)
			return
		}
		_, _ = w.Write(make([]byte, size/2))
		w.(http.Flusher).Flush()
		<-returned
		_, _ = w.Write(make([]byte, size/2))
	})
	url, _ := serve(t, h)
	s := concurrency.NewSemaphore(4, concurrency.NoWait)
	c := client(t, &concurrencyhttp.Options{Hedger: eager(), Limiter: s})
	warm(t, c, url)
	resp, err := get(t.Context(), c, url)
	close(returned)
	if err != nil {
		t.Fatal(err)
	}
	<-left // hangs if the loser is not told
	body, err := io.ReadAll(resp.Body)
	if err != nil || len(body) != size || n.Load() != 2 {
		t.Errorf("%d bytes of %d, %v, %d requests", len(body), size, err, n.Load())
	}
	_ = resp.Body.Close()
	// A loser is a caller that left: no failure.
	if st := s.Stats(); st.InFlight != 0 || st.Admitted != 22 || st.Failed != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Closing a winner early must end its request, or its connection would be lost.
func TestClosingTheWinnerEndsIt(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	ended := make(chan struct{})
	h, _ := numbered(func(_ int64, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(ended)
	})
	url, _ := serve(t, h)
	c := client(t, &concurrencyhttp.Options{Hedger: new(concurrency.Hedger)})
	resp, err := get(t.Context(), c, url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	<-ended
}

func TestHedgeOnlyWhatMayBeRepeated(t *testing.T) {
	key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }
	lost := func(r *http.Request) { r.GetBody = nil }
	upgrade := func(r *http.Request) { r.Header.Set("Connection", "Upgrade"); r.Header.Set("Upgrade", "echo") }
	for _, k := range []struct {
		name, method string
		change       func(*http.Request)
		want         int64
	}{
		{name: "GET", method: "GET", want: 2},
		{name: "PUT", method: "PUT", want: 2},
		{name: "PUT, its body is gone", method: "PUT", change: lost, want: 1},
		{name: "POST", method: "POST", want: 1},
		{name: "POST with a key", method: "POST", change: key, want: 2},
		{name: "upgrade", method: "GET", change: upgrade, want: 1},
	} {
		for _, retry := range []*concurrency.RetryPolicy{nil, soon()} {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var bodies []string
				h, n := numbered(func(n int64, w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					mu.Lock()
					bodies = append(bodies, string(body))
					mu.Unlock()
					if n == 1 {
						stuck(r, time.Second)
					}
					fmt.Fprint(w, n)
				})
				c := bubble(t, concurrencyhttp.Options{Hedger: eager(), Retry: retry}, h)
				warm(t, c, "http://service")
				var body io.Reader = http.NoBody
				if k.method != http.MethodGet {
					body = strings.NewReader("pay")
				}
				req := request(t, k.method, "http://service", body)
				if k.change != nil {
					k.change(req)
				}
				begin := time.Now()
				_, text := answer(t, c, req)
				synctest.Wait()
				took := time.Since(begin)
				if n.Load() != k.want || text != fmt.Sprint(k.want) || (took < time.Second) != (k.want == 2) {
					t.Errorf("%s: %d requests, answer %q after %v", k.name, n.Load(), text, took)
				}
				for _, b := range bodies {
					if b != map[bool]string{true: "", false: "pay"}[k.method == http.MethodGet] {
						t.Errorf("%s: sent %q", k.name, bodies)
					}
				}
			})
		}
	}
}

// An answer that says no does not beat one that comes later, in either order,
// and is the caller's if there is no other.
func TestFailuresDoNotWin(t *testing.T) {
	type reply struct {
		after  time.Duration
		status int
	}
	const late = time.Second
	for name, k := range map[string]struct {
		first, second reply
		status        int
		text          string
		took          time.Duration
	}{
		"the second is busy":      {reply{late, 200}, reply{0, 503}, 200, "1", late},
		"the second is broken":    {reply{late, 200}, reply{0, 500}, 200, "1", late},
		"the first is busy":       {reply{10 * time.Millisecond, 429}, reply{late, 200}, 200, "2", late + time.Millisecond},
		"both are busy":           {reply{10 * time.Millisecond, 429}, reply{late, 503}, 429, "1", late + time.Millisecond},
		"not found is an answer":  {reply{late, 200}, reply{0, 404}, 404, "2", time.Millisecond},
		"busy before it was late": {reply{0, 503}, reply{}, 503, "1", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := numbered(func(n int64, w http.ResponseWriter, r *http.Request) {
				mine := k.first
				if n == 2 {
					mine = k.second
				}
				if mine.after > 0 {
					stuck(r, mine.after)
				}
				w.WriteHeader(mine.status)
				fmt.Fprint(w, n)
			})
			s := concurrency.NewSemaphore(2, concurrency.NoWait)
			c := bubble(t, concurrencyhttp.Options{Hedger: eager(), Limiter: s}, h)
			warm(t, c, "http://service")
			begin := time.Now()
			status, text := answer(t, c, request(t, http.MethodGet, "http://service", http.NoBody))
			if took := time.Since(begin); status != k.status || text != k.text || took != k.took {
				t.Errorf("%s: %d %q after %v", name, status, text, took)
			}
			if st := s.Stats(); st.InFlight != 0 {
				t.Errorf("%s: stats %+v", name, st)
			}
		})
	}
}

// Each repetition may be hedged, and all of it is in one budget.
func TestHedgeRetryAndBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n := numbered(func(n int64, w http.ResponseWriter, r *http.Request) {
			stuck(r, 10*time.Millisecond)
			if n < 5 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, n)
		})
		hedger := eager()
		c := bubble(t, concurrencyhttp.Options{Hedger: hedger, Retry: soon()}, h)
		warm(t, c, "http://service")
		b := new(concurrency.Budget)
		req := request(t, http.MethodGet, "http://service", http.NoBody)
		req = req.WithContext(concurrency.WithBudget(req.Context(), b))
		status, text := answer(t, c, req)
		// Two rounds of two that fail, and a third whose first is 5.
		if status != http.StatusOK || text != "5" || n.Load() != 6 {
			t.Errorf("%d %q after %d requests", status, text, n.Load())
		}
		if st := b.Stats(); st.Admitted != 5 || hedger.Stats().Admitted != 3 {
			t.Errorf("budget %+v, hedger %+v", st, hedger.Stats())
		}
	})
}

func TestLeavingEndsBothRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, n := numbered(func(_ int64, _ http.ResponseWriter, r *http.Request) { stuck(r, time.Hour) })
		s := concurrency.NewSemaphore(2, concurrency.NoWait)
		c := bubble(t, concurrencyhttp.Options{Hedger: eager(), Limiter: s}, h)
		warm(t, c, "http://service")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		resp, err := get(ctx, c, "http://service")
		if err == nil {
			_ = resp.Body.Close()
		}
		if st := s.Stats(); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second || n.Load() != 2 || st.InFlight != 0 || st.Failed != 0 {
			t.Errorf("%v after %v and %d requests, stats %+v", err, time.Since(begin), n.Load(), st)
		}
	})
}

// Two answers at the same moment: one is the caller's, whole, and the other is
// closed, whichever that is.
func TestAnswersAtTheSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := bytes.Repeat([]byte("x"), 200<<10)
		h, n := numbered(func(n int64, w http.ResponseWriter, _ *http.Request) {
			if n%2 == 1 {
				time.Sleep(time.Millisecond) // as long as the hedger waits
			}
			_, _ = w.Write(want)
		})
		s := concurrency.NewSemaphore(2, concurrency.NoWait)
		c := bubble(t, concurrencyhttp.Options{Hedger: &concurrency.Hedger{Quantile: 0.01, Ratio: 1}, Limiter: s}, h)
		warm(t, c, "http://service")
		for range 200 {
			n.Store(0)
			status, text := answer(t, c, request(t, http.MethodGet, "http://service", http.NoBody))
			if st := s.Stats(); status != http.StatusOK || text != string(want) || st.InFlight != 0 {
				t.Fatalf("%d, %d bytes, stats %+v", status, len(text), st)
			}
		}
	})
}

// registered is a context that counts who waits for its end.
type registered struct {
	context.Context
	n *atomic.Int64
}

func (registered) Done() <-chan struct{} { return make(chan struct{}) }

func (r registered) AfterFunc(func()) func() bool {
	r.n.Add(1)
	return sync.OnceValue(func() bool { r.n.Add(-1); return true })
}

// A context per request that nobody ended would stay with its parent, which may
// be that of the process.
func TestRequestsLeaveTheirContext(t *testing.T) {
	concurrencytest.CheckLeaks(t)
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
		default:
			_, _ = io.WriteString(w, "fine")
		}
	})
	read := func(r *http.Response) { _, _ = io.ReadAll(r.Body) }
	closed := func(r *http.Response) { _ = r.Body.Close() }
	for name, k := range map[string]struct {
		url    string
		end    func(*http.Response)
		failed bool
	}{
		"read":          {url: url, end: read},
		"closed":        {url: url, end: closed},
		"no body":       {url: url + "/none", end: func(*http.Response) {}},
		"busy":          {url: url + "/busy", end: closed},
		"no connection": {url: "http://127.0.0.1:1", failed: true},
	} {
		for _, learned := range []int{0, 20} { // without a second request, or with one possible
			h := eager()
			c := client(t, &concurrencyhttp.Options{Hedger: h})
			c.Timeout = 0
			for range learned {
				if _, err := concurrency.Hedge(t.Context(), h, concurrency.Idempotent(func(context.Context) (int, error) { return 1, nil })); err != nil {
					t.Fatal(err)
				}
			}
			parent := registered{t.Context(), new(atomic.Int64)}
			resp, err := get(parent, c, k.url)
			if (err != nil) != k.failed {
				t.Fatalf("%s: %v", name, err)
			}
			if err == nil {
				k.end(resp)
			}
			if n := parent.n.Load(); n != 0 {
				t.Errorf("%s: %d still wait for the caller's context to end", name, n)
			}
			if err == nil {
				_ = resp.Body.Close()
			}
		}
	}
}

func TestHedgeClosesABodyItNeverSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &closes{Reader: strings.NewReader("x")}
	req := request(t, http.MethodPut, "http://127.0.0.1:1", body).WithContext(ctx)
	req.GetBody = func() (io.ReadCloser, error) { return body, nil }
	resp, err := client(t, &concurrencyhttp.Options{Hedger: eager()}).Transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) || !body.closed {
		t.Errorf("%v, body closed %v", err, body.closed)
	}
}
