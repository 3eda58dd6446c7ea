package learn_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/learn"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/rank"
	"github.com/mainstay-go/mainstay/examples/recommender/internal/shop"
	"github.com/mainstay-go/mainstay/featurestore"
)

const (
	step         = 43200 * time.Millisecond // of event time between two visits, as at 500 a second
	windowRows   = 750
	quietVisits  = 22_500 // 45 seconds at 500 a second
	shiftedVisit = 6_000
)

// The whole way of a feature, without the network: purchases are ingested,
// rows are read from the online store as the item and user services do, and
// the monitor sees one candidate of each visit.
//
// Over twenty seeds there are no more alarms than the budget of one a year
// allows before the shop shifts, and one alarm after it, which names what has
// shifted and nothing else.
func TestDriftIsNoticedOnceAndNamed(t *testing.T) {
	seeds := 20
	if os.Getenv("MAINSTAY_INTEGRATION") != "" && os.Getenv("MAINSTAY_SOAK") == "" {
		seeds = 2 // with the race detector, which is ten times as slow; go test runs all twenty
	}
	var mu sync.Mutex
	alarms := 0
	t.Run("seeds", func(t *testing.T) {
		for seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					quiet, named := watch(t, uint64(seed)+1)
					mu.Lock()
					alarms += quiet
					mu.Unlock()
					require.Len(t, named, 1, "alarms after the shift")
					require.Equal(t, []string{"basket", "depth"}, named[0])
				})
			})
		}
	})
	watched := time.Duration(seeds) * quietVisits * step
	budget := watched.Hours() / (365 * 24)
	t.Logf("%d alarms in %.0f days without a shift; the budget allows %.2f on average", alarms, watched.Hours()/24, budget)
	// The number of alarms within a budget of 0.6 is Poisson at worst: more than
	// two would happen to two seeds in a hundred.
	require.LessOrEqual(t, alarms, 2)
}

// watch returns the number of alarms before the shift, and the names of those
// after it.
func watch(t *testing.T, seed uint64) (int, [][]string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := shop.NewGenerated(seed, step)
	services, err := rank.NewServices()
	require.NoError(t, err)
	log := s.History()
	data, err := rank.NewDataset(ctx, services, s, log)
	require.NoError(t, err)
	to := log[len(log)-1].Seq + 1
	table, err := data.Table(ctx, to-len(log)/2, to, seed)
	require.NoError(t, err)
	reference := fit(t, table)

	clock := new(rank.Clock)
	clock.Advance(log[len(log)-1].Time)
	store := featurestore.New(featurestore.NewMemoryOnline(20_000), nil, &featurestore.Options{Now: clock.Now})
	require.NoError(t, rank.Fill(ctx, store, s, log))
	monitor, err := drift.NewMonitor(reference, learn.MonitorOptions(windowRows, clock.Now))
	require.NoError(t, err)
	observer, err := learn.NewObserver(monitor, services)
	require.NoError(t, err)
	alerts := make(chan drift.Alert, 100)
	done := make(chan error, 1)
	go func() {
		done <- monitor.Watch(func(_ context.Context, a drift.Alert) error { alerts <- a; return nil })(ctx)
	}()

	spending, sales := rank.Spending.Ingest(store), rank.Sales.Ingest(store)
	rng := rand.New(rand.NewPCG(seed, 2))
	var pool []string
	row := make([]float32, len(services.Ranking.Columns()))
	visits := func(n int) {
		for i := range n {
			if i%250 == 0 {
				sold, err := rank.WeeklySales(ctx, store, s.Items())
				require.NoError(t, err)
				pool = rank.Pool(s.Items(), sold)
			}
			visit, bought, _ := s.Next()
			clock.Advance(visit.Time)
			vectors, err := services.Ranking.Vectors(ctx, store, rank.Candidate{
				Customer: visit.Customer, Item: pool[rng.IntN(len(pool))], Basket: visit.Basket, Depth: float64(visit.Depth),
			})
			require.NoError(t, err)
			for c, x := range vectors.Values[0] {
				row[c] = float32(x)
			}
			observer.Row(row)
			for _, p := range bought {
				require.NoError(t, spending(ctx, p, nil))
				require.NoError(t, sales(ctx, p, nil))
			}
			if i%windowRows == 0 {
				synctest.Wait() // windows are judged as they close
			}
		}
		synctest.Wait()
	}
	visits(quietVisits)
	quiet := len(alerts)
	for range quiet {
		t.Logf("seed %d: a false alarm: %+v", seed, (<-alerts).Feature)
	}
	s.Shift()
	visits(shiftedVisit)
	cancel()
	require.NoError(t, <-done)
	close(alerts)
	var named [][]string
	for a := range alerts {
		names := append([]string{a.Feature.Name}, a.Others...)
		slices.Sort(names)
		named = append(named, names)
		require.True(t, slices.Contains(s.Shifted(), a.Feature.Name))
	}
	return quiet, named
}

func fit(t *testing.T, table *rank.Table) *drift.Reference {
	t.Helper()
	var columns []drift.Column
	for c, name := range table.Columns {
		values := make([]float64, len(table.Observed))
		for i, r := range table.Observed {
			values[i] = float64(float32(table.Rows[r][c]))
		}
		columns = append(columns, drift.Numbers(name, values))
	}
	reference, err := drift.Fit(columns...)
	require.NoError(t, err)
	return reference
}
