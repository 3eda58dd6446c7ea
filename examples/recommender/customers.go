package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/learn"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/load"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/report"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/wire"
)

const (
	readyWithin = 30 * time.Second
	settleIn    = 30 * time.Second
	holdFor     = 30 * time.Second // a rollout may go on beyond -duration
)

// all runs every role in this process and the customers against them.
func (a *app) all(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var services []service
	for _, build := range []func(context.Context) ([]service, error){
		a.ingest, a.model, a.featureServices,
		func(context.Context) ([]service, error) { return a.cache(), nil },
		func(context.Context) ([]service, error) { return a.gateway() },
	} {
		more, err := build(ctx)
		if err != nil {
			return false, setup(err)
		}
		services = append(services, more...)
	}
	ok := false
	services = append(services, func(ctx context.Context) error {
		defer cancel() // the customers are the last to come and the first to leave
		var err error
		ok, err = a.customers(ctx)
		return err
	})
	err := concurrency.Run(ctx, services...)
	return ok, err
}

// customers visits until the time is over, waits until everything that was
// bought has taken effect, and reports.
func (a *app) customers(ctx context.Context) (bool, error) {
	if err := a.ready(ctx); err != nil {
		return false, err
	}
	first, err := a.modelReport(ctx)
	if err != nil {
		return false, err
	}
	var rolling atomic.Bool
	begin := a.outageAt()
	o := load.Options{
		Gateway: a.url("gateway"), Rate: a.rps, For: a.duration, Client: a.client, Publisher: a.broker.Publisher(), Topic: a.topic,
		ShiftAt: a.duration / 2, Hold: rolling.Load, HoldFor: holdFor,
		Excused: func(at time.Duration) bool {
			return a.network || a.away > 0 && at > begin-time.Second && at < begin+a.away+time.Second
		},
	}
	customers := load.New(a.shop, o)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watch(watching, customers, &rolling)
	}()
	began := time.Now()
	err = customers.Run(ctx)
	took := time.Since(began)
	stop()
	<-watched
	if err != nil {
		return false, err
	}
	in, err := a.account(ctx, customers.Result(), first)
	if err != nil {
		return false, err
	}
	in.Took = took
	summary := report.Summarize(in)
	if err := a.print(&summary); err != nil {
		return false, err
	}
	if a.serve != "" && a.role == "all" {
		fmt.Fprintf(os.Stderr, "the gateway stays at http://%s; try:\n  curl 'http://%s/recommend?customer=%s&basket=20&depth=3'\n  curl http://%s/metrics\ninterrupt to end\n",
			a.addr["gateway"], a.addr["gateway"], a.shop.Customers()[0].ID, a.addr["gateway"])
		<-ctx.Done()
	}
	return summary.OK, nil
}

// ready waits until every service answers its probe.
func (a *app) ready(ctx context.Context) error {
	deadline := time.Now().Add(readyWithin)
	for _, name := range []string{"ingest", "users", "items", "cache", "model", "gateway"} {
		for {
			err := wire.Get(ctx, a.client, a.url(name)+"/readyz", time.Time{}, nil)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return setup(fmt.Errorf("%s at %s is not ready after %v: %w", name, a.addr[name], readyWithin, err))
			}
			if !pause(ctx, 50*time.Millisecond) {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch tells the load generator whether a rollout goes on, and a person at a
// terminal how far things are.
func (a *app) watch(ctx context.Context, customers *load.Load, rolling *atomic.Bool) {
	began, terminal := time.Now(), isTerminal(os.Stderr) && !a.json
	for pause(ctx, 500*time.Millisecond) {
		r, err := a.modelReport(ctx)
		if err != nil {
			continue
		}
		step := "-"
		running := false
		for _, one := range r.Rollouts {
			if one.Status == "running" || one.Status == "rolling back" {
				running, step = true, one.Step
			}
		}
		rolling.Store(running)
		if terminal {
			visits, degraded := customers.Progress()
			bought, _ := customers.Published()
			fmt.Fprintf(os.Stderr, "\r%4.0f s  %d visits, %d degraded, %d bought, serving %s, rollout %s   ",
				time.Since(began).Seconds(), visits, degraded, bought, r.Served, step)
		}
	}
	if terminal {
		fmt.Fprintln(os.Stderr)
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (a *app) modelReport(ctx context.Context) (learn.Report, error) {
	var r learn.Report
	err := a.patiently(ctx, func(ctx context.Context) error {
		return wire.Get(ctx, a.client, a.url("model")+"/report", time.Time{}, &r)
	})
	return r, err
}

// patiently asks again while a service is away or slow; the answers of the
// account are worth some seconds.
func (a *app) patiently(ctx context.Context, f func(context.Context) error) error {
	var err error
	for range 20 {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = f(attempt)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !pause(ctx, 500*time.Millisecond) {
			break
		}
	}
	return err
}

// account collects what every service has to say, once all that was published
// has taken effect or settleIn has passed.
func (a *app) account(ctx context.Context, result load.Result, first learn.Report) (report.Input, error) {
	in := report.Input{Load: result, Shop: a.shop, Champion: first.Served, SLO: a.slo, Excused: a.network}
	if err := a.settled(ctx, result, &in.Ingested); err != nil {
		return in, err
	}
	if err := a.post(ctx, "model", "/finish", nil, nil); err != nil {
		return in, err
	}
	err := a.patiently(ctx, func(ctx context.Context) error {
		return wire.Get(ctx, a.client, a.url("ingest")+"/totals", result.End, &in.Totals)
	})
	if err != nil {
		return in, err
	}
	if in.Model, err = a.modelReport(ctx); err != nil {
		return in, err
	}
	in.Hits = a.hits(ctx, in.Model)
	var samples []wire.Sample
	err = a.patiently(ctx, func(ctx context.Context) error {
		return wire.Get(ctx, a.client, a.url("gateway")+"/audit", time.Time{}, &samples)
	})
	if err != nil {
		return in, err
	}
	body, err := json.Marshal(samples)
	if err != nil {
		return in, err
	}
	in.PeakRSS = peakRSS()
	return in, a.post(ctx, "model", "/audit", body, &in.Audited)
}

func (a *app) post(ctx context.Context, service, path string, body []byte, out any) error {
	return a.patiently(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url(service)+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		return wire.Do(a.client, req, out)
	})
}

// settled waits until the ingest has applied, and the model's lake has seen,
// all that was published.
func (a *app) settled(ctx context.Context, result load.Result, out *wire.Ingested) error {
	deadline := time.Now().Add(settleIn)
	for {
		err := wire.Get(ctx, a.client, a.url("ingest")+"/report", time.Time{}, out)
		missing := 0
		for _, p := range result.Log {
			if p.Seq >= len(out.Applied) || out.Applied[p.Seq] == 0 {
				missing++
			}
		}
		if err == nil && missing == 0 && out.Dead >= result.Damaged {
			return nil
		}
		if time.Now().After(deadline) {
			return err // what is missing is lost, and the report says so
		}
		if !pause(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// hits asks for hit rates on the purchases since the last candidate was
// trained, or since the run began.
func (a *app) hits(ctx context.Context, m learn.Report) *rank.HitRates {
	q := url.Values{"version": {m.Served}, "from": {strconv.Itoa(len(a.shop.History()))}}
	for _, r := range m.Rollouts {
		if r.Candidate != "" && r.Previous != "" {
			q["version"] = []string{r.Previous, r.Candidate}
			q.Set("from", strconv.Itoa(r.Trained))
		}
	}
	var rates rank.HitRates
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := wire.Get(ctx, a.client, a.url("model")+"/hitrates?"+q.Encode(), time.Time{}, &rates); err != nil {
		return nil
	}
	return &rates
}

func (a *app) print(s *report.Summary) error {
	if !a.json {
		return s.WriteText(a.out)
	}
	out := json.NewEncoder(a.out)
	out.SetIndent("", "  ")
	return out.Encode(s)
}

// peakRSS is the largest resident memory this process had, 0 where the system
// does not tell.
func peakRSS() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
