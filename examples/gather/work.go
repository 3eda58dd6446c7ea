package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mainstay-go/mainstay/concurrency"
)

// work is one kind of task.
type work struct {
	name, what string
	fits       int // how many at a time make sense
	do         func(ctx context.Context, i int) (uint64, error)
}

// waiting asks a dependency that serves so many at a time, and lets others queue.
func waiting(capacity int, answer time.Duration) work {
	dependency := concurrency.NewSemaphore(int64(capacity), concurrency.FIFO)
	return work{
		name: "waiting", what: fmt.Sprintf("ask a dependency that takes %v and serves %d at a time", answer, capacity), fits: capacity,
		do: func(ctx context.Context, i int) (uint64, error) {
			return concurrency.Do(ctx, dependency, func(ctx context.Context) (uint64, error) {
				t := time.NewTimer(answer)
				defer t.Stop()
				select {
				case <-t.C:
					return uint64(i), nil
				case <-ctx.Done():
					return 0, context.Cause(ctx)
				}
			})
		},
	}
}

// steps is how often a task that computes lets others run, as work does that takes locks or
// writes to connections. Without it the cores would end one task before they begin the next,
// and a task's queueing would hide where it cannot be measured: before its first line.
const steps = 10

func computing(d time.Duration) work {
	rounds := roundsIn(d / steps)
	return work{
		name: "computing", what: fmt.Sprintf("compute for %v", d), fits: runtime.GOMAXPROCS(0),
		do: func(ctx context.Context, i int) (uint64, error) {
			v := uint64(i)
			for range steps {
				if ctx.Err() != nil { // nothing else here would notice
					return 0, context.Cause(ctx)
				}
				v = hash(v, rounds)
				runtime.Gosched()
			}
			return v, nil
		},
	}
}

func hash(v uint64, rounds int) uint64 {
	var b [sha256.Size]byte
	binary.LittleEndian.PutUint64(b[:], v)
	for range rounds {
		b = sha256.Sum256(b[:])
	}
	return binary.LittleEndian.Uint64(b[:])
}

// roundsIn is how many rounds of hash take about d here: the fastest of a few tries counts,
// for who is interrupted is slow.
func roundsIn(d time.Duration) int {
	const tried = 1000
	best := time.Duration(math.MaxInt64)
	for range 5 {
		start := time.Now()
		hash(1, tried)
		best = min(best, time.Since(start))
	}
	return max(1, int(float64(d)/float64(max(best, 1))*tried))
}

// measured is one run of all tasks.
type measured struct {
	limit, peak    int
	results        []uint64
	took, p50, p99 time.Duration
	perSecond      float64
}

// sequential is the limit of a plain loop.
const sequential = 0

func measure(ctx context.Context, w work, limit, tasks int) (measured, error) {
	in := make([]int, tasks)
	for i := range in {
		in[i] = i
	}
	latencies := make([]time.Duration, tasks)
	var running, peak atomic.Int64
	task := func(ctx context.Context, i int) (uint64, error) {
		now := running.Add(1)
		for p := peak.Load(); now > p && !peak.CompareAndSwap(p, now); p = peak.Load() {
			continue // another one was faster
		}
		defer running.Add(-1)
		begin := time.Now()
		v, err := w.do(ctx, i)
		latencies[i] = time.Since(begin)
		return v, err
	}
	begin := time.Now()
	results, err := all(ctx, limit, in, task)
	took := time.Since(begin)
	if err != nil {
		return measured{}, fmt.Errorf("%s, %s: %w", w.name, how(limit, tasks), err)
	}
	slices.Sort(latencies)
	at := func(q float64) time.Duration { return latencies[int(math.Ceil(q*float64(tasks)))-1] }
	return measured{
		limit: limit, peak: int(peak.Load()), results: results, took: took, p50: at(0.5), p99: at(0.99),
		perSecond: float64(tasks) / max(took, time.Nanosecond).Seconds(),
	}, nil
}

// all is the whole difference: a loop, or Map and its limit.
func all(ctx context.Context, limit int, in []int, task func(context.Context, int) (uint64, error)) ([]uint64, error) {
	if limit != sequential {
		return concurrency.Map(ctx, limit, in, task)
	}
	out := make([]uint64, len(in))
	for i, x := range in {
		v, err := task(ctx, x)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}
