// Package gateway answers customers: it asks user features, item features and
// the cache at once, ranks with the model, and is never later than its budget.
//
// The ladder, from the best answer to the surest:
//
//  1. the model service ranks the candidates
//  2. the gateway's own small model ranks them, with what features there are
//  3. the customer's last answer, from the cache
//  4. what is popular, from memory
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/mlserve/gbdt"
	"go.opentelemetry.io/otel/metric"
)

// The budget of a request is 100 ms at the customer. The gateway keeps 30 ms
// of it for the way there and back, for the rungs that need no network, and
// for a processor that is busy elsewhere.
const (
	answerBy   = 70 * time.Millisecond
	featuresBy = 42 * time.Millisecond
	inFlight   = 128 // more than the budget lets pass at 1,000 visits a second
	samples    = 200
	sampleEach = 40
	writeBack  = 256 // answers waiting for the cache; more are not written
)

// Upstream are the base URLs of the services behind the gateway.
type Upstream struct{ Users, Items, Cache, Model string }

// Gateway answers customers.
type Gateway struct {
	up       Upstream
	client   *http.Client
	services *rank.Services
	limit    *concurrency.Semaphore
	popular  atomic.Pointer[[]string]
	small    atomic.Pointer[gbdt.Model]
	answers  chan wire.Answer
	served   metric.Float64Histogram
	count    atomic.Uint64

	mu    sync.Mutex
	audit []wire.Sample
}

// New makes a gateway; Run keeps its ladder ready.
func New(up Upstream, client *http.Client, services *rank.Services, meters metric.MeterProvider) (*Gateway, error) {
	served, err := meters.Meter("recommender").Float64Histogram("recommender.request.duration",
		metric.WithUnit("s"), metric.WithDescription("Time of a recommendation in the gateway, by what answered."),
		metric.WithExplicitBucketBoundaries(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5))
	if err != nil {
		return nil, err
	}
	return &Gateway{
		up: up, client: client, services: services, served: served,
		limit:   concurrency.NewSemaphore(inFlight, concurrency.NoWait),
		answers: make(chan wire.Answer, writeBack),
	}, nil
}

// Handler serves GET /recommend?customer=&basket=&depth=, the probes, and the
// samples of an audit at GET /audit.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /recommend", func(w http.ResponseWriter, r *http.Request) {
		visit, err := visitOf(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		wire.Reply(w, g.Recommend(r.Context(), visit))
	})
	mux.HandleFunc("GET /audit", func(w http.ResponseWriter, _ *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		wire.Reply(w, g.audit)
	})
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if g.popular.Load() == nil {
			http.Error(w, "nothing is known to be popular yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}

func visitOf(r *http.Request) (shop.Visit, error) {
	q := r.URL.Query()
	v := shop.Visit{Customer: q.Get("customer"), Time: time.Now()}
	var err1, err2, err3 error
	v.Basket, err1 = strconv.ParseFloat(cmp(q.Get("basket"), "0"), 64)
	v.Depth, err2 = strconv.Atoi(cmp(q.Get("depth"), "1"))
	if text := r.Header.Get(wire.EventTime); text != "" {
		var nanos int64
		nanos, err3 = strconv.ParseInt(text, 10, 64)
		v.Time = time.Unix(0, nanos)
	} else {
		v.Time = time.Time{} // the services' own event time
	}
	if v.Customer == "" || len(v.Customer) > 64 || err1 != nil || err2 != nil || err3 != nil {
		return v, errors.New("want ?customer=ID&basket=POUNDS&depth=PAGES")
	}
	return v, nil
}

func cmp(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// part is what one of the three concurrent calls brought.
type part struct {
	visitor    []float64
	candidates wire.Candidates
	cached     []string
	took       time.Duration
}

// Recommend answers within the budget, whatever happens behind it.
func (g *Gateway) Recommend(ctx context.Context, v shop.Visit) (r wire.Recommendation) {
	start := time.Now()
	defer func() {
		took := time.Since(start)
		r.Stages.Total = took.Microseconds()
		g.record(ctx, r, took)
	}()
	permit, err := g.limit.Acquire(ctx, 1)
	if err != nil {
		return g.lastResort(nil, "overload")
	}
	defer permit.Done(nil)
	ctx, cancel := context.WithTimeout(ctx, answerBy)
	defer cancel()
	parts := concurrency.GatherAll(ctx, 3, g.visitor(v), g.candidates(v), g.cached(v))
	users, items, cache := parts[0], parts[1], parts[2]
	r.Stages = wire.Stages{Users: users.Value.took.Microseconds(), Items: items.Value.took.Microseconds(), Cache: cache.Value.took.Microseconds()}
	if items.Err != nil {
		return withStages(g.lastResort(cache.Value.cached, reason("items", items.Err)), r.Stages)
	}
	candidates := items.Value.candidates
	if users.Err != nil {
		return withStages(g.rankSmall(candidates, nil, cache.Value.cached, reason("users", users.Err)), r.Stages)
	}
	rows := join(users.Value.visitor, candidates.Values)
	asked := time.Now()
	version, scores, err := g.infer(ctx, v.Customer, rows, len(candidates.Items))
	r.Stages.Model = time.Since(asked).Microseconds()
	if err != nil {
		return withStages(g.rankSmall(candidates, rows, cache.Value.cached, reason("model", err)), r.Stages)
	}
	r.Items, r.Version = rank.Best(candidates.Items, scores, rank.Top), version
	g.keep(v.Customer, r, rows, scores)
	return r
}

func withStages(r wire.Recommendation, s wire.Stages) wire.Recommendation {
	r.Stages = s
	return r
}

func reason(what string, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return what + " late"
	}
	return what + " failed"
}

// rankSmall is the second rung. Without the visitor's features they are
// missing values to the model.
func (g *Gateway) rankSmall(c wire.Candidates, rows []float32, cached []string, why string) wire.Recommendation {
	model := g.small.Load()
	if model == nil {
		return g.lastResort(cached, why)
	}
	if rows == nil {
		rows = join(missing(len(g.services.Visitors.Columns())), c.Values)
	}
	scores := make([]float64, len(c.Items))
	if err := model.Score(scores, rows); err != nil {
		return g.lastResort(cached, why)
	}
	return wire.Recommendation{Items: rank.Best(c.Items, scores, rank.Top), Degraded: "small model: " + why}
}

// lastResort is the third rung, and the fourth.
func (g *Gateway) lastResort(cached []string, why string) wire.Recommendation {
	if len(cached) > 0 {
		return wire.Recommendation{Items: cached, Degraded: "cached answer: " + why}
	}
	r := wire.Recommendation{Degraded: "popular items: " + why}
	if popular := g.popular.Load(); popular != nil {
		r.Items = *popular
	}
	return r
}

func (g *Gateway) visitor(v shop.Visit) func(context.Context) (part, error) {
	return timed(func(ctx context.Context, p *part) error {
		q := url.Values{"customer": {v.Customer}, "basket": {strconv.FormatFloat(v.Basket, 'g', -1, 64)}, "depth": {strconv.Itoa(v.Depth)}}
		var values wire.Values
		if err := wire.Get(ctx, g.client, g.up.Users+"/visitor?"+q.Encode(), v.Time, &values); err != nil {
			return err
		}
		p.visitor = values.Values
		return agree(values.Fingerprint, g.services.Visitors.Fingerprint())
	})
}

func (g *Gateway) candidates(v shop.Visit) func(context.Context) (part, error) {
	return timed(func(ctx context.Context, p *part) error {
		if err := wire.Get(ctx, g.client, g.up.Items+"/candidates", v.Time, &p.candidates); err != nil {
			return err
		}
		if len(p.candidates.Items) == 0 || len(p.candidates.Items) != len(p.candidates.Values) {
			return errors.New("no candidates")
		}
		return agree(p.candidates.Fingerprint, g.services.Things.Fingerprint())
	})
}

// agree refuses features of other definitions than the model was trained on.
func agree(got, want string) error {
	if got != want {
		return fmt.Errorf("features of other definitions: %.12s, not %.12s", got, want)
	}
	return nil
}

func (g *Gateway) cached(v shop.Visit) func(context.Context) (part, error) {
	return timed(func(ctx context.Context, p *part) error {
		var answer wire.Answer
		err := wire.Get(ctx, g.client, g.up.Cache+"/answers/"+url.PathEscape(v.Customer), time.Time{}, &answer)
		p.cached = answer.Items
		return err
	})
}

func timed(f func(context.Context, *part) error) func(context.Context) (part, error) {
	return func(ctx context.Context) (p part, err error) {
		start := time.Now()
		p, err = concurrency.WaitFor(ctx, featuresBy, func(ctx context.Context) (part, error) {
			var p part
			err := f(ctx, &p)
			return p, err
		})
		p.took = time.Since(start)
		return p, err
	}
}

// join puts the visitor's columns before those of every candidate.
func join(visitor []float64, candidates [][]float64) []float32 {
	rows := make([]float32, 0, len(candidates)*(len(visitor)+4))
	for _, c := range candidates {
		for _, x := range visitor {
			rows = append(rows, float32(x))
		}
		for _, x := range c {
			rows = append(rows, float32(x))
		}
	}
	return rows
}

// infer asks the model service by the Open Inference Protocol.
func (g *Gateway) infer(ctx context.Context, key string, rows []float32, n int) (string, []float64, error) {
	body := make([]byte, 0, 16*len(rows)+200)
	body = append(body, `{"parameters":{"key":`...)
	body = strconv.AppendQuote(body, key)
	body = fmt.Appendf(body, `},"inputs":[{"name":"input","shape":[%d,%d],"datatype":"FP32","data":[`, n, len(rows)/n)
	for i, x := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendFloat(body, float64(x), 'g', -1, 32)
	}
	body = append(body, "]}]}"...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.up.Model+"/v2/models/"+rank.Model+"/infer", bytes.NewReader(body))
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	var answer struct {
		Version string `json:"model_version"`
		Outputs []struct {
			Data []float64 `json:"data"`
		} `json:"outputs"`
	}
	if err := wire.Do(g.client, req, &answer); err != nil {
		return "", nil, err
	}
	if len(answer.Outputs) != 1 || len(answer.Outputs[0].Data) != n || answer.Version == "" {
		return "", nil, errors.New("the model's answer does not fit the question")
	}
	return answer.Version, answer.Outputs[0].Data, nil
}

// keep remembers an answer for the cache and, now and then, for an audit.
func (g *Gateway) keep(customer string, r wire.Recommendation, rows []float32, scores []float64) {
	select {
	case g.answers <- wire.Answer{Customer: customer, Items: r.Items}:
	default: // the cache is behind: this answer is not kept
	}
	if g.count.Add(1)%sampleEach != 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	sample := wire.Sample{Version: r.Version, Rows: rows, Scores: scores}
	if len(g.audit) < samples {
		g.audit = append(g.audit, sample)
	} else {
		g.audit[int(g.count.Load()/sampleEach)%samples] = sample
	}
}

func missing(n int) []float64 {
	return slices.Repeat([]float64{nan}, n)
}

// Run writes answers back to the cache and keeps the ladder's last rungs
// ready, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	_ = g.refresh(ctx) // the services may still be starting: the next tick tries again
	write, refresh := time.NewTicker(100*time.Millisecond), time.NewTicker(time.Second)
	defer write.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-write.C:
			_ = g.flush(ctx)
		case <-refresh.C:
			_ = g.refresh(ctx)
		}
	}
}

// refresh fetches what is popular and the small model; what was there before
// stays when that fails.
func (g *Gateway) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	var c wire.Candidates
	err := wire.Get(ctx, g.client, g.up.Items+"/candidates", time.Time{}, &c)
	if err == nil && len(c.Items) > 0 {
		popular := c.Items[:min(rank.Top, len(c.Items))]
		g.popular.Store(&popular)
	}
	return errors.Join(err, g.fetchSmall(ctx))
}

func (g *Gateway) fetchSmall(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.up.Model+"/fallback", http.NoBody)
	if err != nil {
		return err
	}
	res, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("fetching the small model: %s: %w", res.Status, err)
	}
	model, err := gbdt.Parse(data)
	if err != nil {
		return err
	}
	g.small.Store(model)
	return nil
}

func (g *Gateway) flush(ctx context.Context) error {
	var batch []wire.Answer
	for len(batch) < writeBack {
		select {
		case a := <-g.answers:
			batch = append(batch, a)
			continue
		default:
		}
		break
	}
	if len(batch) == 0 {
		return nil
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.up.Cache+"/answers", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return wire.Do(g.client, req, nil)
}
