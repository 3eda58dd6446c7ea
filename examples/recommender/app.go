package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/concurrency/concurrencyhttp"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/serve"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
	"github.com/mainstay-go/mainstay/featurestore"
	featureredis "github.com/mainstay-go/mainstay/featurestore/redisstore"
	"github.com/mainstay-go/mainstay/idempotency"
	inboxredis "github.com/mainstay-go/mainstay/idempotency/redisstore"
	"github.com/mainstay-go/mainstay/messaging"
	"github.com/mainstay-go/mainstay/messaging/kafka"
	"github.com/mainstay-go/mainstay/messaging/memory"
)

const (
	drain = 3 * time.Second
	// eventsPerSecond is how much event time passes in a second of the wall clock.
	eventTime = 6 * time.Hour
	maxInbox  = 2_000_000
)

// service is something that runs until its context ends.
type service = func(context.Context) error

// app is what the roles are built from.
type app struct {
	config

	shop     shop.Shop
	services *rank.Services
	clock    *rank.Clock
	meters   metric.MeterProvider
	registry *prometheus.Registry
	addr     map[string]string
	client   *http.Client
	redis    *redis.Client
	store    *featurestore.Store
	broker   *messaging.Broker
	topic    messaging.Topic[shop.Purchase]
	closers  []func(context.Context) error
	out      io.Writer // of the report
}

// start builds what the configuration asks for and runs it.
func start(ctx context.Context, c config, out io.Writer) (ok bool, err error) {
	a := &app{config: c, out: out, clock: new(rank.Clock), topic: wire.Topic(c.run)}
	defer func() { err = errors.Join(err, a.close(context.WithoutCancel(ctx))) }()
	if err := a.open(ctx); err != nil {
		return false, setup(err)
	}
	switch c.role {
	case "all":
		return a.all(ctx)
	case "load":
		return a.customers(ctx)
	default:
		services, err := a.single(ctx)
		if err != nil {
			return false, setup(err)
		}
		fmt.Fprintf(os.Stderr, "recommender: %s is ready\n", c.role)
		return true, concurrency.Run(ctx, services...)
	}
}

func (a *app) close(ctx context.Context) error {
	var errs []error
	for _, done := range slices.Backward(a.closers) {
		errs = append(errs, done(ctx))
	}
	return errors.Join(errs...)
}

// open connects to what all roles need, or says in one sentence what is wrong.
func (a *app) open(ctx context.Context) error {
	var err error
	if a.shop, err = a.openShop(); err != nil {
		return err
	}
	if history := a.shop.History(); len(history) > 0 {
		a.clock.Advance(history[len(history)-1].Time)
	}
	if a.services, err = rank.NewServices(); err != nil {
		return err
	}
	if a.addr, err = a.addrs(); err != nil {
		return err
	}
	if err := a.openTelemetry(); err != nil {
		return err
	}
	if err := a.openState(); err != nil {
		return err
	}
	a.client = concurrencyhttp.NewClient(&concurrencyhttp.Options{Base: &http.Transport{
		MaxIdleConnsPerHost: 256, MaxIdleConns: 2048, IdleConnTimeout: time.Minute,
	}})
	a.closers = append(a.closers, func(context.Context) error { a.client.CloseIdleConnections(); return nil })
	if err := a.openStore(ctx); err != nil {
		return err
	}
	return a.openBroker(ctx)
}

func (a *app) openShop() (shop.Shop, error) {
	if a.data == "" {
		return shop.NewGenerated(a.seed, time.Duration(float64(eventTime)/a.rps)), nil
	}
	s, err := shop.OpenReplay(a.data)
	if err != nil {
		return nil, fmt.Errorf("-data: %w", err)
	}
	return s, nil
}

func (a *app) openTelemetry() error {
	a.registry = prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(a.registry))
	if err != nil {
		return err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	a.meters = provider
	a.closers = append(a.closers, provider.Shutdown)
	return nil
}

// openState makes the state directory; a temporary one goes when the run ends.
func (a *app) openState() error {
	if a.state == "" {
		dir, err := os.MkdirTemp("", "recommender-*")
		if err != nil {
			return err
		}
		a.state = dir
		a.closers = append(a.closers, func(context.Context) error { return os.RemoveAll(dir) })
		return nil
	}
	dir, err := filepath.Abs(a.state)
	if err != nil {
		return err
	}
	a.state = dir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	return nil
}

func (a *app) openStore(ctx context.Context) error {
	var online featurestore.Online
	if a.features == "redis" {
		addr := os.Getenv("MAINSTAY_REDIS_ADDR")
		if addr == "" {
			return errors.New(`-features redis: MAINSTAY_REDIS_ADDR is not set; start one with: eval "$(scripts/services start redis)"`)
		}
		a.redis = redis.NewClient(&redis.Options{Addr: addr, PoolSize: 64, ReadTimeout: time.Second, WriteTimeout: time.Second})
		a.closers = append(a.closers, func(context.Context) error { return a.redis.Close() })
		ping, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if err := a.redis.Ping(ping).Err(); err != nil {
			return fmt.Errorf("-features redis: nobody answers at %s: %w", addr, err)
		}
		online = featureredis.New(a.redis, &featureredis.Options{Prefix: "recommender:" + a.run + ":"})
		if a.role == "all" {
			a.closers = append(a.closers, a.forget)
		}
	} else {
		online = featurestore.NewMemoryOnline(2*len(a.shop.Customers()) + 2*len(a.shop.Items()) + 1000)
	}
	a.store = featurestore.New(online, nil, &featurestore.Options{MeterProvider: a.meters, Now: a.clock.Now})
	return nil
}

// forget removes what this run has written into Redis.
func (a *app) forget(ctx context.Context) error {
	keys := a.redis.Scan(ctx, 0, "*recommender:"+a.run+":*", 1000).Iterator()
	var batch []string
	for keys.Next(ctx) {
		if batch = append(batch, keys.Val()); len(batch) == 1000 {
			if err := a.redis.Unlink(ctx, batch...).Err(); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if len(batch) > 0 {
		if err := a.redis.Unlink(ctx, batch...).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

func (a *app) openBroker(ctx context.Context) error {
	o := messaging.Options{MeterProvider: a.meters, Topology: messaging.Declare}
	if a.config.broker == "memory" {
		a.broker = memory.New(&memory.Options{Messaging: o})
		a.closers = append(a.closers, a.broker.Close)
		return nil
	}
	addrs := os.Getenv("MAINSTAY_KAFKA_ADDRS")
	if addrs == "" {
		return errors.New(`-broker kafka: MAINSTAY_KAFKA_ADDRS is not set; start one with: eval "$(scripts/services start kafka)"`)
	}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	broker, err := kafka.Open(dial, strings.Split(addrs, ","), &kafka.Options{Messaging: o})
	if err != nil {
		return fmt.Errorf("-broker kafka: %w", err)
	}
	a.broker = broker
	a.closers = append(a.closers, broker.Close)
	return a.broker.Declare(dial, a.topic.Name(), a.topic.Name()+".dead")
}

// inbox remembers which purchases have taken effect.
func (a *app) inbox() *idempotency.Guard {
	var store idempotency.Store = idempotency.NewMemoryStore(maxInbox)
	if a.redis != nil {
		store = inboxredis.New(a.redis, &inboxredis.Options{Prefix: "recommender:" + a.run + ":inbox:"})
	}
	return idempotency.New(store, &idempotency.Options{MeterProvider: a.meters})
}

// http serves a handler at the address of a name, with metrics beside it.
func (a *app) http(name string, h http.Handler) service {
	mux := http.NewServeMux()
	mux.Handle("/", concurrencyhttp.Deadline(h))
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	return concurrencyhttp.Serve(&http.Server{
		Addr: a.addr[name], Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}, drain)
}

func (a *app) url(name string) string { return "http://" + a.addr[name] }

// slow puts the injected network in front of a service.
func (a *app) slow(n uint64, h http.Handler) http.Handler {
	if !a.network {
		return h
	}
	return serve.Network(a.seed+n, h)
}
