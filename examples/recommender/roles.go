package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/gateway"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/ingest"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/learn"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/serve"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/mlserve/rollout"
)

// retry suits event time that passes quickly: what fails for a moment is tried
// again soon, and what cannot be read is a dead letter at once.
var retry = messaging.RetryPolicy{
	MaxAttempts: 20, Inline: 2, Backoff: concurrency.Backoff{Min: 5 * time.Millisecond, Max: 100 * time.Millisecond},
	Delays: []time.Duration{200 * time.Millisecond, time.Second},
}

// single returns the services of one role, in the order in which they start; they
// stop in the opposite one.
func (a *app) single(ctx context.Context) ([]service, error) {
	switch a.role {
	case "ingest":
		return a.ingest(ctx)
	case "model":
		return a.model(ctx)
	case "features":
		return a.featureServices(ctx)
	case "cache":
		return a.cache(), nil
	default:
		return a.gateway()
	}
}

// ingest fills the store with what was bought before, then keeps it up to date.
func (a *app) ingest(ctx context.Context) ([]service, error) {
	if err := rank.Fill(ctx, a.store, a.shop, a.shop.History()); err != nil {
		return nil, err
	}
	in := ingest.New(a.store, a.shop, a.clock)
	consumer, err := a.broker.Consumer("features-"+a.run, &messaging.ConsumerOptions{
		Concurrency: 32, Retry: retry, Inbox: in.Counted(a.inbox()),
	}, in.Route(a.topic))
	if err != nil {
		return nil, err
	}
	dead, err := a.broker.Consumer("dead-"+a.run, nil, in.Dead(a.topic))
	if err != nil {
		return nil, err
	}
	return []service{dead.Run, consumer.Run, a.http("ingest", in.Handler())}, nil
}

// model serves, learns and rolls out.
func (a *app) model(ctx context.Context) ([]service, error) {
	// Short runs look at fewer rows, so that a rollout fits into them; the judge's
	// 200 keys stay.
	stage := max(a.duration/30, 500*time.Millisecond)
	share := min(1, max(0.4, a.duration.Seconds()/45))
	rows := func(n int) int { return int(share * float64(n)) }
	learner, err := learn.Open(ctx, learn.Options{
		State: a.state, Services: a.services, Shop: a.shop, Clock: a.clock, Seed: a.seed, Meters: a.meters,
		Window: rows(750), Train: rows(1500), Evaluate: rows(400), MinKeys: 200, CrashAt: a.crashAt,
		Shadow: stage, Canary: []rollout.Stage{{Share: 0.1, For: 2 * stage}, {Share: 0.5, For: 2 * stage}},
	})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, learner.Close)
	// What cannot be read is a dead letter of the ingest; here it would be a second.
	lake, err := a.broker.Consumer("lake-"+a.run, &messaging.ConsumerOptions{
		Retry: messaging.RetryPolicy{DeadLetter: a.topic.Name() + "-lake.dead"},
	}, learner.Lake().Route(a.topic))
	if err != nil {
		return nil, err
	}
	o := &outage{begin: a.outageAt(), last: a.away}
	handler := a.slow(4, learner.Handler())
	if a.away > 0 {
		handler = o.handler(handler)
	}
	return []service{lake.Run, learner.Run, a.http("model", handler)}, nil
}

func (a *app) featureServices(ctx context.Context) ([]service, error) {
	items, err := serve.NewItems(ctx, a.services, a.store, a.clock, a.shop.Items())
	if err != nil {
		return nil, err
	}
	return []service{
		a.http("users", a.slow(1, serve.Users(a.services, a.store, a.clock))),
		items.Run, a.http("items", a.slow(2, items.Handler())),
	}, nil
}

func (a *app) cache() []service {
	return []service{a.http("cache", a.slow(3, serve.NewCache(100_000).Handler()))}
}

func (a *app) gateway() ([]service, error) {
	g, err := gateway.New(gateway.Upstream{
		Users: a.url("users"), Items: a.url("items"), Cache: a.url("cache"), Model: a.url("model"),
	}, a.client, a.services, a.meters)
	if err != nil {
		return nil, err
	}
	return []service{g.Run, a.http("gateway", g.Handler())}, nil
}

// outageAt is when the model goes away, counted from the first request.
func (a *app) outageAt() time.Duration { return a.duration / 5 }

// outage takes the model away for a while, some time after the first request
// for a prediction.
type outage struct {
	serve.Outage

	begin, last time.Duration
	first       sync.Once
}

func (o *outage) handler(next http.Handler) http.Handler {
	away := o.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			o.first.Do(func() {
				time.AfterFunc(o.begin, func() { o.Set(true) })
				time.AfterFunc(o.begin+o.last, func() { o.Set(false) })
			})
		}
		away.ServeHTTP(w, r)
	})
}
