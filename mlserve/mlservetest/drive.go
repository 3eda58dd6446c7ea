package mlservetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-go/mainstay/mlserve"
)

// Traffic is scripted load.
type Traffic struct {
	// Rate of requests per second, sent on schedule whether the answers come
	// or not; 0 means 100.
	Rate float64
	// Keys is how many customers there are, "key-0" and so on, drawn evenly;
	// 0 means 1,000.
	Keys int
	// For is how long to send; 0 means 10 s.
	For time.Duration
	// Input makes the input of a key; required.
	Input func(key string) mlserve.Batch
	// After, if not nil, is called with every answer, from many goroutines: to
	// observe a click, for one.
	After func(ctx context.Context, s *mlserve.Server, r mlserve.Response)
	// Seed of the draw of keys.
	Seed uint64
}

// Report is what came of a [Traffic].
type Report struct {
	Requests, Errors, Degraded int
	ByVersion                  map[string]int // answers that were not degraded
	ByArm                      map[string]int // answers, degraded or not
	P50, P99                   time.Duration  // of answers, from when they were due
	Err                        error          // the first error, nil without one
}

// Drive sends the traffic and returns when every answer is there. It stops
// early if ctx ends. In a [testing/synctest] bubble it takes no time.
func Drive(ctx context.Context, s *mlserve.Server, model string, tr Traffic) Report {
	rate, keys, length := tr.Rate, tr.Keys, tr.For
	if rate <= 0 {
		rate = 100
	}
	if keys <= 0 {
		keys = 1000
	}
	if length <= 0 {
		length = 10 * time.Second
	}
	d := driver{server: s, model: model, traffic: tr, report: Report{ByVersion: map[string]int{}, ByArm: map[string]int{}}}
	rng := rand.New(rand.NewPCG(tr.Seed, 1))
	start, gap := time.Now(), time.Duration(float64(time.Second)/rate)
	var wg sync.WaitGroup
	for n := 0; ctx.Err() == nil; n++ {
		at := time.Duration(n) * gap
		if at >= length {
			break
		}
		wait(ctx, time.Until(start.Add(at)))
		key := fmt.Sprintf("key-%d", rng.IntN(keys))
		wg.Go(func() { d.send(ctx, start.Add(at), key) })
	}
	wg.Wait()
	slices.Sort(d.took)
	if n := len(d.took); n > 0 {
		d.report.P50, d.report.P99 = d.took[n/2], d.took[min(n*99/100, n-1)]
	}
	return d.report
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

type driver struct {
	server  *mlserve.Server
	model   string
	traffic Traffic
	mu      sync.Mutex
	report  Report
	took    []time.Duration
}

func (d *driver) send(ctx context.Context, due time.Time, key string) {
	resp, err := d.server.Predict(ctx, d.model, mlserve.Request{Key: key, Input: d.traffic.Input(key)})
	took := time.Since(due)
	if err == nil && d.traffic.After != nil {
		d.traffic.After(ctx, d.server, resp)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Requests++
	if err != nil {
		d.report.Errors++
		if d.report.Err == nil {
			d.report.Err = err
		}
		return
	}
	d.took = append(d.took, took)
	d.report.ByArm[resp.Arm]++
	if resp.Degraded != "" {
		d.report.Degraded++
	} else {
		d.report.ByVersion[resp.Version]++
	}
}
