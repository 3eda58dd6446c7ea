package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/drift"
)

// rowClock is the time of a table: a row takes a second. The same files give the same report,
// and the budget of a stream counts rows.
type rowClock struct{ row atomic.Int64 }

func (c *rowClock) now() time.Time { return time.Unix(c.row.Load(), 0).UTC() }

// compare judges the whole of the current file as one window.
func compare(c config, b *bound) (*result, error) {
	// The budget of a single look is the false discovery rate: the clock stands still until
	// that share of FalseAlarm has passed.
	const whole = 1_000_000 * time.Second
	var clock rowClock
	m, err := drift.NewMonitor(b.reference, &drift.MonitorOptions{
		Window: drift.Every(whole), FalseAlarm: whole, Confirm: 1,
		FDR: c.fdr, MinEffect: least(c.effect), Now: clock.now,
	})
	if err != nil {
		return nil, err
	}
	if err := each(b, m, func(int) error { return nil }); err != nil {
		return nil, err
	}
	clock.row.Store(int64(c.fdr * whole.Seconds()))
	return b.result(m.Report()), nil
}

// least is the effect as MonitorOptions writes it: there zero is the default.
func least(effect float64) float64 {
	if effect == 0 {
		return -1
	}
	return effect
}

// each counts the rows, and calls after behind each.
func each(b *bound, m *drift.Monitor, after func(rows int) error) error {
	observe, err := b.observe(m)
	if err != nil {
		return err
	}
	for {
		row, err := b.table.next()
		if errors.Is(err, io.EOF) && b.table.rows == 0 {
			return b.table.wrong("it has no rows")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := observe(row); err != nil {
			return err
		}
		if err := after(b.table.rows); err != nil {
			return err
		}
	}
}

func (b *bound) result(rep *drift.Report) *result {
	rep.From, rep.To = time.Time{}, time.Time{}
	for i := range rep.Features {
		for k := range rep.Features[i].History {
			rep.Features[i].History[k].To = time.Time{}
		}
	}
	return &result{Reference: b.source, Current: source{File: b.table.name, Rows: b.table.rows}, LeftOut: b.leftOut, Report: rep}
}

// alarm is an alert and the rows of the window that raised it, the first being 1.
type alarm struct {
	From  int         `json:"from_row"`
	To    int         `json:"to_row"`
	Alert drift.Alert `json:"alert"`
}

// follow judges window after window and tells the alarms.
func follow(c config, b *bound, tell func(alarm) error) (*result, error) {
	var clock rowClock
	m, err := drift.NewMonitor(b.reference, &drift.MonitorOptions{
		Window: drift.Every(time.Duration(c.window) * time.Second), FalseAlarm: time.Duration(c.budget) * time.Second,
		Cooldown: -1, FDR: c.fdr, MinEffect: least(c.effect), Now: clock.now,
	})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	alerts := make(chan drift.Alert)
	watch := m.Watch(func(ctx context.Context, a drift.Alert) error {
		select {
		case alerts <- a:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	var watching sync.WaitGroup
	watching.Go(func() { _ = watch(ctx) }) // it fails if it is called twice
	defer watching.Wait()
	defer stop()

	alarms, windows := 0, 0
	look := func(rows int) error {
		windows++
		if !alarmed(m.Report()) {
			return nil
		}
		a := <-alerts
		alarms++
		a.Time = time.Time{}
		a.Feature.History = nil
		return tell(alarm{From: rows - c.window + 1, To: rows, Alert: a})
	}
	if err := each(b, m, func(rows int) error {
		clock.row.Store(int64(rows))
		if rows%c.window != 0 {
			return nil
		}
		return look(rows)
	}); err != nil {
		return nil, err
	}
	r := b.result(m.Report())
	r.stream, r.Windows, r.Alarms, r.budget = true, windows, alarms, c.budget
	return r, nil
}

// alarmed reports whether the window that the report is of raised an alert.
func alarmed(rep *drift.Report) bool {
	return slices.ContainsFunc(rep.Features, func(f drift.FeatureReport) bool {
		k := len(f.History)
		return k > 0 && f.History[k-1].Alarm
	})
}
