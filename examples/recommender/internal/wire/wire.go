// Package wire is what the recommender's services say to each other over HTTP.
package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/messaging"
)

// EventTime is the header that carries event time from the load generator to
// every service, in nanoseconds since 1970.
const EventTime = "Event-Time"

// maxBody bounds what a service reads of another's answer.
const maxBody = 16 << 20

// Topic is where purchases are published, in order per customer. Runs that
// share a broker differ by name.
func Topic(run string) messaging.Topic[shop.Purchase] {
	return messaging.NewTopic("purchases-"+run, messaging.JSON[shop.Purchase]())
}

// Values is one row of features.
type Values struct {
	Values      []float64 `json:"values"`
	Fingerprint string    `json:"fingerprint"`
}

// Candidates are the items to rank, best sold first, and their features.
type Candidates struct {
	Items       []string    `json:"items"`
	Values      [][]float64 `json:"values"`
	Fingerprint string      `json:"fingerprint"`
}

// Answer is what a customer was recommended before.
type Answer struct {
	Customer string   `json:"customer"`
	Items    []string `json:"items"`
}

// Recommendation is the gateway's answer.
type Recommendation struct {
	Items    []string `json:"items"`
	Version  string   `json:"version,omitempty"`  // of the model, "" where none ranked
	Degraded string   `json:"degraded,omitempty"` // what was answered instead, and why
	Stages   Stages   `json:"stages"`
}

// Stages is where the time went, in microseconds; 0: not asked.
type Stages struct {
	Users int64 `json:"users"`
	Items int64 `json:"items"`
	Cache int64 `json:"cache"`
	Model int64 `json:"model"`
	Total int64 `json:"total"` // in the gateway
}

// Sample is one answer kept for an audit: what the model was given and what it
// said.
type Sample struct {
	Version string    `json:"version"`
	Rows    []float32 `json:"rows"`
	Scores  []float64 `json:"scores"`
}

// Ingested is the ingest service's account.
type Ingested struct {
	Applied   []byte  `json:"applied"` // by Seq: how often its effect took place, at most 255
	Delivered int     `json:"delivered"`
	Dead      int     `json:"dead"`
	Inverted  int     `json:"inverted"` // handled after a later purchase of the same customer
	AgeP50    float64 `json:"age_p50_ms"`
	AgeP99    float64 `json:"age_p99_ms"`
}

// Totals are the features of everyone at a time.
type Totals map[string]rank.Totals

// Tick tells the clock the event time of a request before it is handled.
func Tick(clock *rank.Clock, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.Header.Get(EventTime); text != "" {
			nanos, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				http.Error(w, "the header "+EventTime+" is not a number of nanoseconds", http.StatusBadRequest)
				return
			}
			clock.Advance(time.Unix(0, nanos))
		}
		next.ServeHTTP(w, r)
	})
}

// Reply writes v as JSON.
func Reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the caller has left
}

// ErrStatus is the cause where a service answered with another status than 200.
var ErrStatus = errors.New("unexpected status")

// Get asks a service and decodes its JSON into out.
func Get(ctx context.Context, c *http.Client, url string, now time.Time, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	if !now.IsZero() {
		req.Header.Set(EventTime, strconv.FormatInt(now.UnixNano(), 10))
	}
	return Do(c, req, out)
}

// Do sends a request and decodes the JSON of a 200 into out.
func Do(c *http.Client, req *http.Request, out any) error {
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w %s: %.200s", req.URL.Path, ErrStatus, res.Status, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: %w", req.URL.Path, err)
	}
	return nil
}
