package mlserve_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mainstay-go/mainstay/drift"
	"github.com/mainstay-go/mainstay/mlserve"
)

// Without anyone to take events the queue fills, requests go on, and what was
// lost is counted.
func TestRecorderNeverBlocksAndCountsDrops(t *testing.T) {
	rec := &mlserve.Recorder{Queue: 10}
	s := mlserve.New(&mlserve.Options{Recorder: rec})
	require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
	for range 25 {
		answer(t, s, "")
	}
	require.EqualValues(t, 15, rec.Dropped())
}

func TestRecorderHandsOverEverythingBeforeRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []mlserve.Event
		calls := 0
		rec := &mlserve.Recorder{Sinks: []mlserve.Sink{
			func(context.Context, []mlserve.Event) error { panic("a bad sink is not the others' trouble") },
			func(_ context.Context, evs []mlserve.Event) error {
				time.Sleep(10 * time.Millisecond)
				events = append(events, evs...)
				calls++
				return nil
			},
		}}
		s := mlserve.New(&mlserve.Options{Recorder: rec})
		require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		in := mlserve.Rows([]float32{5, 6})
		for i := range 1000 {
			_, err := s.Predict(bg, "m", mlserve.Request{ID: fmt.Sprint(i), Key: "k", Input: in})
			require.NoError(t, err)
		}
		in[0].Data.([]float32)[0] = -1 // the events are copies
		_, err := s.Predict(bg, "m", mlserve.Request{Input: mlserve.Rows([]float64{1})})
		require.ErrorIs(t, err, mlserve.ErrInput)
		cancel()
		require.NoError(t, <-ended)
		require.Len(t, events, 1000, "every request that fitted the signature, and no other")
		require.Less(t, calls, 100)
		require.Zero(t, rec.Dropped())
		for i, ev := range events {
			require.Equal(t, fmt.Sprint(i), ev.Response.ID)
			require.Equal(t, []float32{5, 6}, ev.Request.Input[0].Data)
			require.Equal(t, []float64{1}, ev.Response.Output[0].Data)
			require.Equal(t, "1", ev.Response.Version)
		}
	})
}

func TestRecorderGivesUpOnAStuckSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &mlserve.Recorder{Sinks: []mlserve.Sink{func(ctx context.Context, _ []mlserve.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}}}
		s := mlserve.New(&mlserve.Options{Recorder: rec, Drain: 2 * time.Second})
		require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
		for range 1000 {
			answer(t, s, "")
		}
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		cancel()
		start := time.Now()
		require.NoError(t, <-ended)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.EqualValues(t, 1000-256, rec.Dropped(), "the first batch was handed over, and failed")
	})
}

func TestRecorderSamples(t *testing.T) {
	rec := &mlserve.Recorder{Queue: 1, Sample: 0.1}
	s := mlserve.New(&mlserve.Options{Recorder: rec})
	require.NoError(t, s.AddModel("m", "1", newVersioned(1), nil))
	for range 10_000 {
		answer(t, s, "")
	}
	require.InDelta(t, 1000, rec.Dropped()+1, 150)
}

func TestDriftSinkCountsColumnsByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ages, scores := make([]float64, 1000), make([]float64, 1000)
		for i := range ages {
			ages[i], scores[i] = float64(i%50), float64(i%7)
		}
		fit := func(name string, v []float64) *drift.Monitor {
			ref, err := drift.Fit(drift.Numbers(name, v))
			require.NoError(t, err)
			m, err := drift.NewMonitor(ref, &drift.MonitorOptions{Window: drift.Tumbling(100)})
			require.NoError(t, err)
			return m
		}
		inputs, outputs := fit("age", ages), fit("y", scores)
		rec := &mlserve.Recorder{Sinks: []mlserve.Sink{mlserve.DriftSink("m", inputs, outputs)}}
		s := mlserve.New(&mlserve.Options{Recorder: rec})
		require.NoError(t, s.AddModel("m", "3", newVersioned(3), nil))
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		for range 20 {
			_, err := s.Predict(bg, "m", mlserve.Request{Input: rows(5)}) // ages 0 to 4
			require.NoError(t, err)
		}
		cancel()
		require.NoError(t, <-ended)
		for _, m := range []*drift.Monitor{inputs, outputs} {
			r := m.Report()
			require.Equal(t, 100, r.Rows)
			require.Len(t, r.Features, 1)
			require.NotEmpty(t, r.Features[0].Scores)
			require.Greater(t, r.Features[0].Scores[0].Stat, 0.5, "five ages of fifty, and one score of seven")
		}
	})
}

func TestRebaseTakesTheReferenceOfTheVersionThatServes(t *testing.T) {
	fit := func(shift float64) *drift.Reference {
		v := make([]float64, 500)
		for i := range v {
			v[i] = float64(i) + shift
		}
		ref, err := drift.Fit(drift.Numbers("age", v))
		require.NoError(t, err)
		return ref
	}
	first, second := fit(0), fit(100)
	monitor, err := drift.NewMonitor(first, nil)
	require.NoError(t, err)
	dir := mlserve.NewDir(t.TempDir())
	put := func(version, name string, data []byte) {
		require.NoError(t, dir.Publish(bg, mlserve.Manifest{Model: "m", Version: version, Reference: name},
			fstest.MapFS{"model.json": {Data: []byte(version)}, "reference": {Data: data}}))
	}
	binary, err := first.MarshalBinary()
	require.NoError(t, err)
	put("1", "reference", binary)
	s := mlserve.New(nil)
	require.NoError(t, s.Add(bg, "m", dir, numberLoader{}, &mlserve.ModelOptions{Serving: mlserve.Rebase(monitor)}))
	require.Equal(t, first.ID(), monitor.Report().Reference)
	text, err := second.MarshalJSON()
	require.NoError(t, err)
	put("2", "reference", text)
	require.NoError(t, s.Refresh(bg, "m"))
	require.Equal(t, second.ID(), monitor.Report().Reference)
	put("3", "reference", []byte("nonsense"))
	require.ErrorIs(t, s.Refresh(bg, "m"), mlserve.ErrModelFile)
	put("4", "", binary)
	require.ErrorIs(t, s.Refresh(bg, "m"), mlserve.ErrModelFile)
	require.Equal(t, second.ID(), monitor.Report().Reference)
	got, _ := answer(t, s, "")
	require.False(t, math.Signbit(got))
	require.InDelta(t, 4, got, 0, "the swap itself has happened: the hook comes after it")
}
