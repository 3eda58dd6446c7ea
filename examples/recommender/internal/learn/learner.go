package learn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/mainstay-go/mainstay/concurrency"
	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/idempotency"
	"github.com/mainstay-go/mainstay/mlserve"
	"github.com/mainstay-go/mainstay/mlserve/gbdt"
	"github.com/mainstay-go/mainstay/mlserve/retrain"
	"github.com/mainstay-go/mainstay/mlserve/rollout"
	"github.com/mainstay-go/mainstay/saga"
	"github.com/mainstay-go/mainstay/saga/boltstore"
)

// champion is the alias of the version that serves.
const champion = "champion"

// Options of a Learner.
type Options struct {
	State    string // directory of the registry, the candidates and the sagas
	Services *rank.Services
	Shop     shop.Shop
	Clock    *rank.Clock
	Seed     uint64
	Meters   metric.MeterProvider
	Window   int // rows of a drift window
	Train    int // purchases to train a candidate on
	Evaluate int // later ones to judge it by, before it serves anyone
	Shadow   time.Duration
	Canary   []rollout.Stage
	MinKeys  int
	CrashAt  int // kill the process after this durable write of the sagas; 0: never
}

// Learner is the model service.
type Learner struct {
	o        Options
	lake     *Lake
	registry *mlserve.Dir
	server   *mlserve.Server
	monitor  *drift.Monitor
	watched  watched
	store    *boltstore.Store
	runner   *saga.Runner
	rolling  *saga.Definition[rollout.State]
	trigger  retrain.Trigger
	started  time.Time

	mu  sync.Mutex
	log []string // what was decided, for people
}

// Open readies the model service: it takes up the registry and the sagas in
// the state directory, or trains and publishes a first version from the shop's
// history. Close it after Run has returned.
func Open(ctx context.Context, o Options) (*Learner, error) {
	l := &Learner{
		o: o, lake: NewLake(o.Shop.History()), started: time.Now(),
		registry: mlserve.NewDir(filepath.Join(o.State, "models")),
	}
	first, err := l.firstVersion(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.serve(ctx, first); err != nil {
		return nil, err
	}
	l.store, err = boltstore.Open(ctx, filepath.Join(o.State, "sagas.db"), nil)
	if err != nil {
		return nil, err
	}
	l.rolling = rollout.Define("ranker-rollout", 1, rollout.Plan{
		Model: rank.Model, Server: l.server, Registry: l.registry,
		Train: l.train, Evaluate: l.evaluate,
		Open:   func(c rollout.Candidate) (fs.FS, error) { return os.DirFS(c.Location), nil },
		Shadow: rollout.Stage{For: o.Shadow}, Canary: o.Canary,
		Judge: func() mlserve.Judge {
			return &mlserve.Sequential{MinKeys: o.MinKeys, Metrics: []mlserve.Metric{
				{Name: mlserve.MetricErrors, Margin: 0.05}, {Name: mlserve.MetricLatency, Over: 0.05, Margin: 0.05},
			}}
		},
	})
	var store saga.Store = l.store
	if o.CrashAt > 0 {
		store = &crashing{Store: l.store, at: o.CrashAt}
	}
	if l.runner, err = saga.NewRunner(store, &saga.Options{MeterProvider: o.Meters, Lease: 3 * time.Second}, l.rolling); err != nil {
		return nil, errors.Join(err, l.store.Close(ctx))
	}
	guard := idempotency.New(idempotency.NewMemoryStore(1000), &idempotency.Options{MeterProvider: o.Meters})
	l.trigger = retrain.Limited(guard, retrain.Limits{Debounce: -1, Cooldown: -1, PerDay: 4}, rollout.Trigger(l.rolling, l.runner))
	return l, nil
}

// Close releases the sagas' file.
func (l *Learner) Close(ctx context.Context) error { return l.store.Close(ctx) }

// Lake is where the purchases to learn from go.
func (l *Learner) Lake() *Lake { return l.lake }

// firstVersion returns the version that the champion's alias points at, and
// makes one where there is none. The alias is set last, so that an attempt
// that was cut short is made again.
func (l *Learner) firstVersion(ctx context.Context) (mlserve.Version, error) {
	if v, ok, err := l.champion(ctx); ok || err != nil {
		return v, err
	}
	const version = "v1"
	dir := filepath.Join(l.o.State, "candidates", version)
	m, err := stored(dir)
	if errors.Is(err, os.ErrNotExist) {
		log := l.o.Shop.History()
		data, err := rank.NewDataset(ctx, l.o.Services, l.o.Shop, log)
		if err != nil {
			return mlserve.Version{}, err
		}
		// The first week fills the windows; what was bought in it would teach that
		// everybody is new.
		to := log[len(log)-1].Seq + 1
		from := to - len(log)/2
		m, err = train(ctx, data, l.o.Services, log, from, to, l.o.Seed, dir, version, nil)
		if err != nil {
			return mlserve.Version{}, fmt.Errorf("training the first version: %w", err)
		}
	} else if err != nil {
		return mlserve.Version{}, err
	}
	if err := l.registry.Publish(ctx, m, os.DirFS(dir)); err != nil {
		return mlserve.Version{}, err
	}
	if err := l.registry.Alias(ctx, rank.Model, champion, version); err != nil {
		return mlserve.Version{}, err
	}
	v, _, err := l.champion(ctx)
	return v, err
}

func (l *Learner) champion(ctx context.Context) (mlserve.Version, bool, error) {
	versions, err := l.registry.Versions(ctx, rank.Model)
	if errors.Is(err, mlserve.ErrNotFound) {
		return mlserve.Version{}, false, nil
	}
	for _, v := range versions {
		if slices.Contains(v.Aliases, champion) {
			return v, true, nil
		}
	}
	return mlserve.Version{}, false, err
}

func (l *Learner) serve(ctx context.Context, first mlserve.Version) error {
	files, m, err := l.registry.Open(ctx, first)
	if err != nil {
		return err
	}
	data, err := fs.ReadFile(files, m.Reference)
	if err != nil {
		return fmt.Errorf("version %s: %w", first.Version, err)
	}
	reference := new(drift.Reference)
	if err := reference.UnmarshalBinary(data); err != nil {
		return fmt.Errorf("version %s: %w", first.Version, err)
	}
	if l.monitor, err = drift.NewMonitor(reference, MonitorOptions(l.o.Window, l.o.Clock.Now)); err != nil {
		return err
	}
	observer, err := NewObserver(l.monitor, l.o.Services)
	if err != nil {
		return err
	}
	l.server = mlserve.New(&mlserve.Options{
		MeterProvider: l.o.Meters, Poll: time.Second, Recorder: &mlserve.Recorder{Sinks: []mlserve.Sink{observer.Sink}},
	})
	return l.server.Add(ctx, rank.Model, l.registry, gbdt.Loader{}, &mlserve.ModelOptions{
		Policy: mlserve.Alias(champion), Features: l.o.Services.Ranking.Fingerprint(), Serving: mlserve.Rebase(l.monitor),
	})
}

// Run serves, watches and rolls out until ctx ends.
func (l *Learner) Run(ctx context.Context) error {
	return concurrency.Run(ctx, l.server.Run, l.monitor.Watch(l.drifted), l.look, l.runner.Run)
}

func (l *Learner) look(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.watched.look(l.monitor.Report())
		}
	}
}

// drifted starts a rollout for an alert. One that the budget does not allow,
// or that comes while another runs, is noted and left at that.
func (l *Learner) drifted(ctx context.Context, a drift.Alert) error {
	l.watched.alert(a, l.monitor.Report())
	_, err := l.trigger(ctx, retrain.Request{
		Key: idempotency.Key{Scope: "retrain", ID: a.ID}, Model: rank.Model, Reason: "drift of " + a.Feature.Name,
	})
	if errors.Is(err, retrain.ErrLimited) || errors.Is(err, retrain.ErrBusy) {
		l.sayf("%s drifted, no retraining: %v", a.Feature.Name, err)
		return nil
	}
	return err
}

func (l *Learner) sayf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf("%6.1f s  %s", time.Since(l.started).Seconds(), fmt.Sprintf(format, args...)))
}

// train is the rollout's first step. It waits for enough purchases since the
// drift; what an earlier call has written is taken as it is.
func (l *Learner) train(ctx context.Context, c saga.Call, cause string) (rollout.Candidate, error) {
	dir := filepath.Join(l.o.State, "candidates", fmt.Sprintf("for-%x", sha256.Sum256([]byte(c.Saga)))[:20])
	m, err := stored(dir)
	if err == nil {
		return rollout.Candidate{Manifest: m, Location: dir}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return rollout.Candidate{}, err
	}
	log := l.lake.Log()
	if len(log) == 0 {
		return rollout.Candidate{}, saga.Ongoing(300 * time.Millisecond)
	}
	to := log[len(log)-1].Seq + 1
	from := to - l.o.Train
	if since := l.watched.since(); !since.IsZero() {
		first, _ := slices.BinarySearchFunc(log, since, func(p shop.Purchase, t time.Time) int { return p.Time.Compare(t) })
		if first == len(log) || to-log[first].Seq < l.o.Train {
			return rollout.Candidate{}, saga.Ongoing(200 * time.Millisecond) // too little of the new world yet
		}
		from = max(log[first].Seq, to-5*l.o.Train)
	}
	data, err := rank.NewDataset(ctx, l.o.Services, l.o.Shop, recent(log))
	if err != nil {
		return rollout.Candidate{}, err
	}
	version, err := l.nextVersion(ctx)
	if err != nil {
		return rollout.Candidate{}, err
	}
	m, err = train(ctx, data, l.o.Services, log, from, to, causeSeed(l.o.Seed, c.Saga), dir, version, rest)
	if err != nil {
		return rollout.Candidate{}, err
	}
	l.sayf("%s: trained %s on %s", cause, version, m.Data)
	return rollout.Candidate{Manifest: m, Location: dir}, nil
}

func (l *Learner) nextVersion(ctx context.Context) (string, error) {
	versions, err := l.registry.Versions(ctx, rank.Model)
	if err != nil {
		return "", err
	}
	highest := 0
	for _, v := range versions {
		if n, err := strconv.Atoi(v.Version[1:]); err == nil {
			highest = max(highest, n)
		}
	}
	return "v" + strconv.Itoa(highest+1), nil
}

// evaluate judges a candidate by purchases it was not trained on, beside the
// champion.
func (l *Learner) evaluate(ctx context.Context, _ saga.Call, c rollout.Candidate) error {
	from, err := strconv.Atoi(c.Manifest.Metadata[trainedTo])
	if err != nil {
		return saga.Reject(fmt.Errorf("the candidate does not say what it was trained on: %w", err))
	}
	log := l.lake.Log()
	if len(log) == 0 || log[len(log)-1].Seq-from < l.o.Evaluate {
		return saga.Ongoing(200 * time.Millisecond)
	}
	candidate, err := scorer(os.DirFS(c.Location))
	if err != nil {
		return saga.Reject(err)
	}
	now, _, err := l.champion(ctx)
	if err != nil {
		return err
	}
	files, _, err := l.registry.Open(ctx, now)
	if err != nil {
		return err
	}
	current, err := scorer(files)
	if err != nil {
		return err
	}
	data, err := rank.NewDataset(ctx, l.o.Services, l.o.Shop, recent(log))
	if err != nil {
		return err
	}
	rates, err := data.HitRates(ctx, from, log[len(log)-1].Seq+1, l.o.Evaluate,
		map[string]rank.Scorer{now.Version: current, c.Manifest.Version: candidate})
	if err != nil {
		return err
	}
	was, is := rates.Models[now.Version], rates.Models[c.Manifest.Version]
	l.sayf("evaluated on %d later purchases: hit rate %s %.3f, %s %.3f, popularity %.3f", rates.Purchases, now.Version, was, c.Manifest.Version, is, rates.Popularity)
	if is <= was {
		return saga.Reject(fmt.Errorf("hit rate %.3f, no better than %.3f of %s", is, was, now.Version))
	}
	return nil
}
